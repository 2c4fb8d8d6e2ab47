"""Power cuts of a whole node, by the hundred: one recorded run, and a fresh start on images of many of its moments.

Each image is held against what clients had been told by then: their history up to that moment, and what a last reader
finds in the image. Transactions that were open are ended by whoever takes over their ids, as after any crash.
"""

from __future__ import annotations

import random
import shutil
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path

from chaos.checker import check
from chaos.history import RUN, History
from chaos.run import CONFIG, Outcome, Plan, catch_up, first_journal
from chaos.stage import Stage
from chaos.workloads.probes import Committed, Ends, Probe
from chaos.workloads.table import GROUP, TRANSACTORS
from harness.clusters import make_node
from harness.planted import planted_command
from harness.power import read_journal
from harness.proxy import Proxy
from harness.transactional import TransactionalProducer
from ottla.testing.crash_images import build_image

SAY_EVERY = 50


def explore(plan: Plan, run: Outcome, *, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Look at `plan.images` images of a finished run; the first that breaks a promise, or the last."""
    journal = read_journal(first_journal(run.directory))
    marks = {event.f: event.t + run.history.began for event in run.history.events if event.p == RUN}
    first, last = (bisect_left(journal.moments, marks[name]) for name in ("start", "end"))
    dice = random.Random(f"images {plan.seed}")
    starts: list[float] = []
    outcome = run
    for number in range(1, plan.images + 1):
        moment, seed = dice.randint(first, last), dice.randrange(1 << 30)
        image = run.directory / "image"
        build_image(journal.changes, moment, str(image), seed)
        path = run.directory / "image.jsonl"
        with run.history.until(journal.moments[moment - 1], path) as history:
            history.mark(RUN, "image", f"number {number}: seed {seed}, after {moment} writes of the disk")
            starts.append(_look(plan, image, history))
        outcome = Outcome(history=history, verdict=check(history), directory=run.directory, start_seconds=starts)
        if not outcome.verdict.kept:
            return outcome
        shutil.rmtree(image)
        if number % SAY_EVERY == 0:
            say(f"  {number} images")
    return outcome


def _look(plan: Plan, image: Path, history: History) -> float:
    """Start a node on an image and read all of it; how long the start took."""
    launcher = planted_command(plan.bug) if plan.bug else None
    node = make_node("ottla", image, config={**CONFIG, **plan.config}, launcher=launcher)
    began = history.now()
    try:
        node.start()
        seconds = (history.now() - began) / 1e9
        with Proxy(node.port) as proxy:
            stage = Stage(history, proxy=proxy, node_port=node.port, seed=plan.seed, rate=1.0)
            if "txn" in plan.workloads:
                _end_transactions(stage)
            probes: list[Probe] = [Ends(stage, name, list(history.header.keys)) for name in ("ends", "once more")]
            if "group" in plan.workloads:
                probes.append(Committed(stage, "offsets", stage.keys("chaos-group"), GROUP))
            catch_up(stage, probes)
    finally:
        node.kill()
    return seconds


def _end_transactions(stage: Stage) -> None:
    for number in range(TRANSACTORS):
        producer = TransactionalProducer(stage.connect_directly, f"chaos-transactor-{number}")
        producer.init()
        producer.close()
