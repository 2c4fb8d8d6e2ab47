"""One run: a cluster behind a proxy, workloads, faults, a last read of everything, the verdict."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from msgspec import Struct

from chaos.checker import Verdict, check
from chaos.history import RUN, Header, History, Key, Poll
from chaos.nemesis import Fault, Nemesis, Target, environment, faults_named
from chaos.report import summary
from chaos.stage import Stage, Worker, until
from chaos.workloads.probes import Probe
from chaos.workloads.table import Workload, workloads_named
from harness.clusters import make_node
from harness.planted import RECORD_DISK, planted_command
from harness.power import JOURNAL
from harness.processes import free_port
from harness.proxy import Proxy
from harness.raw import ProtocolFailure, RawConnection, retry

CATCH_UP_SECONDS = 200.0
SAY_SECONDS = 5.0
# Fewer logs: starts are what a run spends most of its time with.
CONFIG = {"offsets.topic.num.partitions": "3", "transaction.state.log.num.partitions": "3"}


class Plan(Struct, kw_only=True, frozen=True):
    """What to run. Everything random follows from `seed`."""

    workloads: tuple[str, ...] = ("log",)
    faults: tuple[str, ...] = ("kill",)
    seconds: float = 30.0
    rounds: int = 0
    """End after so many rounds, not by time."""
    seed: int = 0
    cluster: str = "ottla"
    rate: float = 100.0
    records: int = 10_000
    """How many values a copying workload copies."""
    interval: float = 3.0
    """Seconds from the end of a fault to the next, on average."""
    config: dict[str, str] = {}
    bug: str = ""
    """One of `harness.planted`."""
    look_seconds: float = 0.0
    """Judge what there is so often while the run goes on, and end it at the first broken promise."""

    images: int = 0
    """Afterwards, start a node on so many images of power cuts during the run."""

    @property
    def records_disk(self) -> bool:
        return bool(self.images) or "power" in self.faults

    @property
    def about(self) -> str:
        faults = ",".join(self.faults) or "none"
        return f"{self.cluster}, workload {','.join(self.workloads)}, faults {faults}"


class Outcome(Struct, kw_only=True, frozen=True):
    """A finished run."""

    history: History
    verdict: Verdict
    directory: Path
    start_seconds: list[float]

    @property
    def report(self) -> str:
        lines = [summary(self.history, self.verdict)]
        if self.start_seconds:
            ordered = sorted(self.start_seconds)
            at = [ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.95, 1.0)]
            lines.append(f"  starts       {len(ordered)}: median {at[0]:.2f} s, p95 {at[1]:.2f} s, worst {at[2]:.2f} s")
        return "\n".join(lines)


def first_journal(directory: Path) -> Path:
    """Where a node in `directory` records what it writes."""
    return directory / "journal-0"


def new_seed() -> int:
    """A seed nobody chose; printed, so that it can be chosen again."""
    return time.time_ns() % 1_000_000


def run(plan: Plan, directory: Path, *, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Carry out a plan; data and history lie in `directory`, the data only as long as it takes or the run is broken."""
    directory.mkdir(parents=True, exist_ok=True)
    faults = faults_named(plan.faults)
    workloads = workloads_named(plan.workloads)
    header = _header(plan, workloads)
    with History(header, directory / "history.jsonl") as history, _cluster(plan, faults, directory) as target:
        stage = Stage(
            history,
            proxy=target.proxy,
            node_port=target.node.port,
            seed=plan.seed,
            rate=plan.rate,
            records=plan.records,
        )
        with stage.connect_directly() as connection:
            for workload in workloads:
                for topic, partitions in workload.partitions.items():
                    connection.create_topic(topic, partitions, {"segment.bytes": "1048576"})
        workers = [
            worker
            for workload in workloads
            for worker in workload.workers(stage, [key for topic in workload.partitions for key in stage.keys(topic)])
        ]
        target.copiers = stage.copiers
        nemesis = Nemesis(target, faults, history, seed=plan.seed, interval=plan.interval)
        broken = _load(plan, (workers, nemesis), history, say)
        if not broken:
            catch_up(stage, [worker for worker in workers if isinstance(worker, Probe)])
    verdict = check(history)
    if verdict.kept:
        shutil.rmtree(directory / "data", ignore_errors=True)
    return Outcome(history=history, verdict=verdict, directory=directory, start_seconds=target.start_seconds)


def _header(plan: Plan, workloads: Sequence[Workload]) -> Header:
    places = [
        (topic, partition)
        for workload in workloads
        for topic, partitions in workload.partitions.items()
        for partition in range(partitions)
    ]
    keys = {place: key for key, place in enumerate(places)}
    copies = {
        keys[source, partition]: keys[target, partition]
        for workload in workloads
        for source, target in workload.copies.items()
        for partition in range(workload.partitions[source])
    }
    return Header(keys=dict(enumerate(places)), copies=copies, seed=plan.seed, about=plan.about)


@contextlib.contextmanager
def _cluster(plan: Plan, faults: Sequence[Fault], directory: Path) -> Iterator[Target]:
    port = free_port()
    with Proxy(port, seed=plan.seed) as proxy:
        config = {**CONFIG, **plan.config, "advertised.listeners": f"PLAINTEXT://127.0.0.1:{proxy.port}"}
        planted = [name for name in (plan.bug, RECORD_DISK if plan.records_disk else "") if name]
        options: dict[str, Any] = {"launcher": planted_command(*planted)} if planted else {}
        node = make_node(plan.cluster, directory / "data", port=port, config=config, **options)
        if plan.records_disk:
            node.env[JOURNAL] = str(first_journal(directory))
        target = Target(node=node, proxy=proxy, shim_order=environment(node, faults, directory))
        try:
            node.start()
            yield target
        finally:
            node.kill()


def _load(plan: Plan, threads: tuple[Sequence[Worker], Nemesis], history: History, say: Callable[[str], None]) -> bool:
    """From the first operation to the last; all faults are over when this returns. Whether a look found a broken
    promise already."""
    workers, nemesis = threads
    history.mark(RUN, "start", plan.about)
    for thread in (*workers, nemesis):
        thread.start()
    broken = _watch(plan, threads, history, say)
    nemesis.finish()
    for _, wave in groupby(sorted(workers, key=lambda worker: worker.wave), key=lambda worker: worker.wave):
        ending = list(wave)
        for worker in ending:
            worker.enough.set()
        asked = time.monotonic()
        for worker in ending:
            patience = 1.0 if broken or history.alarmed else worker.patience
            if not worker.finish(max(1.0, asked + patience - time.monotonic())):
                history.mark(RUN, "stuck", f"{worker.name} is not answered what it asked for")
    history.mark(RUN, "end")
    return broken


def _watch(plan: Plan, threads: tuple[Sequence[Worker], Nemesis], history: History, say: Callable[[str], None]) -> bool:
    """Wait until it has been enough; whether a look found a broken promise."""
    workers, nemesis = threads
    began = said = looked = time.monotonic()
    deadline = began + plan.seconds
    while not _over(plan, nemesis, deadline) and not any(thread.failure for thread in (*workers, nemesis)):
        time.sleep(0.05)
        now = time.monotonic()
        if plan.look_seconds and now - looked > plan.look_seconds:
            looked = now
            if not check(history).kept:
                return True
        elif history.alarmed and not plan.look_seconds:
            return False
        if now - said > SAY_SECONDS:
            said = now
            done = sum(1 for event in history.events if event.ty == "ok")
            say(f"  {said - began:5.0f} s: {done} operations, {nemesis.periods} times something was broken")
    return False


def _over(plan: Plan, nemesis: Nemesis, deadline: float) -> bool:
    if plan.rounds:
        return nemesis.periods >= plan.rounds
    return time.monotonic() > deadline


def catch_up(stage: Stage, probes: Sequence[Probe]) -> None:
    """Read every partition from beginning to end, and look at all else once more. What is not decided in time is said
    to be stuck."""
    history = stage.history
    history.mark(RUN, "caught-up")
    process = stage.new_process()
    history.complete(history.invoke(process, "assign", worker="last reader"), "ok")
    with stage.connect_directly() as connection:
        for key in history.header.keys:
            try:
                _read_all(stage, connection, process, key)
            except ProtocolFailure as failure:
                history.alarm(process, f"reading {history.header.name(key)}: {failure}", worker="last reader")
        for probe in probes:
            invoked = history.invoke(process, "watch", worker=probe.name)
            history.complete(invoked, "ok", probe.look(connection))


def _read_all(stage: Stage, connection: RawConnection, process: int, key: Key) -> None:
    history, place, name = stage.history, stage.place(key), stage.history.header.name(key)
    committed = history.header.isolation == "read_committed"

    def decided() -> bool:
        found = retry(lambda: connection.read(*place, 0, committed=committed))
        return not committed or found.stable_offset == found.high_watermark

    if not until(decided, 1.0 if history.alarmed else CATCH_UP_SECONDS):
        history.mark(RUN, "stuck", f"transactions of {name} are still open")
    position, end = 0, retry(lambda: connection.end_offset(*place))
    while position < end:
        invoked = history.invoke(process, "poll", worker="last reader")
        fetched = retry(lambda begin=position: connection.read(*place, begin, max_wait_ms=500, committed=committed))
        records = stage.values_of(key, fetched.records)
        history.complete(invoked, "ok", [Poll({key: records})])
        if fetched.next_offset == position:
            history.mark(RUN, "stuck", f"nothing to read at {position} of {name}, which ends at {end}")
            return
        position = fetched.next_offset


def scratch_directory() -> Path:
    """A fresh directory for a run whose caller named none."""
    return Path(tempfile.mkdtemp(prefix="ottla-chaos-"))
