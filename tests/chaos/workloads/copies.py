"""A topic is fed and copied exactly once by programs that are killed again and again, and read live on both sides."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from chaos.history import Key
from chaos.stage import Stage, Worker
from chaos.workloads.log import Batch, Follower, Pipeline
from harness.clusters import java_command
from harness.processes import end, spawn

COPIER = Path(__file__).resolve().parents[1] / "copier.py"
JAVA_COPIER = "org.apache.kafka.tools.TransactionalMessageCopier"
RECORDS_A_BATCH = 50
PATIENCE_SECONDS = 400.0


class Feeder(Pipeline):
    """A pipeline that sends a given number of values, however long it takes."""

    wave = 0
    patience = PATIENCE_SECONDS

    def __init__(self, stage: Stage, name: str, key: Key, records: int) -> None:
        super().__init__(stage, name, key, workers=1)
        self.records_a_batch = (RECORDS_A_BATCH, RECORDS_A_BATCH)
        self._batches_left = -(-records // RECORDS_A_BATCH)

    def has_more(self) -> bool:
        return self._batches_left > 0

    def new_batch(self) -> Batch:
        self._batches_left -= 1
        return super().new_batch()


class Copier(Worker):
    """Keeps a copying program alive, and has it killed on demand; ends when everything is copied."""

    wave = 1
    has_operations = False
    patience = PATIENCE_SECONDS

    def __init__(self, stage: Stage, name: str, topics: tuple[str, str], *, java: bool = False) -> None:
        super().__init__(stage, name)
        self.topics = topics
        self._java = java
        self._kill = threading.Event()
        self._talk = (stage.history.path or Path(name)).with_name(f"{name}.stderr")
        self._feeders: list[Feeder] = []
        self._live: list[Follower] = []

    def watch(self, feeders: Sequence[Feeder], live: Sequence[Follower]) -> None:
        """Who knows how much there is, and how much has arrived."""
        self._feeders, self._live = list(feeders), list(live)

    def kill(self) -> None:
        """kill -9; the program is started again at once."""
        self._kill.set()

    def session(self) -> None:
        while not self._is_over():
            process = spawn(self._command(), stderr=self._talk)
            # Java's program ends by itself when it has caught up; there may be more by then.
            while process.poll() is None and not self._kill.wait(0.05) and not self._is_over():
                pass
            self._kill.clear()
            end(process, signal.SIGKILL)

    def _is_over(self) -> bool:
        if self.gone.is_set():
            return True
        fed = sum(feeder.sent for feeder in self._feeders)
        return self.enough.is_set() and sum(follower.seen for follower in self._live) >= fed

    def _command(self) -> list[str]:
        source, target = self.topics
        if not self._java:
            return [sys.executable, str(COPIER), self.stage.bootstrap, source, target, self.name]
        where = ["--broker-list", self.stage.bootstrap, "--input-topic", source, "--input-partition", "0"]
        names = ["--output-topic", target, "--consumer-group", self.name, "--transactional-id", self.name]
        sizes = ["--transaction-size", "400", "--transaction-timeout", "15000", "--use-group-metadata"]
        return java_command(JAVA_COPIER, *where, *names, *sizes)


def copying(stage: Stage, keys: Sequence[Key], *, java: bool = False) -> list[Worker]:
    """Feeders on the first half of the keys, the copy in the second half, live readers on both."""
    half = len(keys) // 2
    sources, targets = keys[:half], keys[half:]
    feeders = [Feeder(stage, f"feeder-{key}", key, -(-stage.records // half)) for key in sources]
    live = [Follower(stage, f"live-{key}", key, committed=True) for key in targets]
    topics = stage.place(sources[0])[0], stage.place(targets[0])[0]
    copier = Copier(stage, f"copier-{topics[0]}", topics, java=java)
    copier.watch(feeders, live)
    stage.copiers.append(copier)
    followers = [*live, *(Follower(stage, f"source-{key}", key) for key in sources)]
    for follower in followers:
        follower.wave = 2
    return [*feeders, copier, *followers]
