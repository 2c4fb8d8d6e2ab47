"""The workloads by name, each with what it needs and why one would run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from chaos.history import Key
from chaos.stage import Stage, Worker
from chaos.workloads.log import Follower, Observer, Pipeline


class Workload(Struct, kw_only=True, frozen=True):
    """Topics with their partitions, and the workers on them."""

    name: str
    about: str
    partitions: dict[str, int]
    workers: Callable[[Stage, Sequence[Key]], list[Worker]]


def _log(stage: Stage, keys: Sequence[Key]) -> list[Worker]:
    producers = [Pipeline(stage, f"producer-{n}", keys[n % len(keys)], 2 * len(keys)) for n in range(2 * len(keys))]
    followers = [Follower(stage, f"follower-{key}", key) for key in keys]
    return [*producers, *followers, Observer(stage, "observer", list(keys))]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            name="log",
            about="idempotent producers, five batches in flight, exact retries; readers; watermarks",
            partitions={"chaos-log": 3},
            workers=_log,
        ),
    )
}
