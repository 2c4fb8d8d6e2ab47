"""A process takes the open files it may have."""

import subprocess
import sys


def test_the_soft_limit_becomes_the_hard_one() -> None:
    program = (
        "import resource\n"
        "from ottla.runtime.limits import raise_open_files_limit\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, hard), hard))\n"
        "print(raise_open_files_limit() == hard, resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
