"""A broker's process sets the collector; nothing else does, for it belongs to the application."""

import subprocess
import sys

TOLD = """
import gc
{}
print(gc.get_threshold(), gc.get_freeze_count() > 0)
"""


def told(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", TOLD.format(program)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_objects_are_looked_at_less_often_from_the_first_on_and_what_stays_is_frozen() -> None:
    program = "from ottla.runtime import collector; collector.relax()"
    assert told(program) == "(50000, 20, 50) False"
    assert told(f"{program}; collector.settle()") == "(50000, 20, 50) True"


def test_the_clients_and_the_testing_broker_leave_it_alone() -> None:
    program = """
from ottla.testing import KafkaBroker
with KafkaBroker():
    pass
"""
    assert told(program) == told("pass")
