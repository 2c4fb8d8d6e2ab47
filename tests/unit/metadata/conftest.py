"""A controller on an empty cluster, fed like its driver feeds it: records are applied where they are decided."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from ottla.metadata.controller import Controller, ControllerSettings
from ottla.metadata.controller.brokers import Heartbeat, Registration
from ottla.metadata.features import FRESH_LEVELS, broker_features
from ottla.metadata.image import ClusterImage, Endpoint
from ottla.metadata.record import MetadataRecord
from ottla.metadata.transaction import TransactionTracker
from ottla.model import Decision, Uuid
from ottla.wire.messages.feature_level_record import FeatureLevelRecord

LEVELS = dict(FRESH_LEVELS)


class Cluster:
    """A controller and its log. ``brokers`` register with id, rack and one directory each."""

    def __init__(self, *, levels: dict[str, int] | None = None, **settings: Any) -> None:
        bootstrap = tuple(
            MetadataRecord(FeatureLevelRecord(name=name, feature_level=level), 0)
            for name, level in (levels or LEVELS).items()
        )
        self.now_ms = 1_000_000
        self.log: list[MetadataRecord] = []
        self.controller = Controller(
            ControllerSettings(cluster_id="cluster", node_id=1000, bootstrap=bootstrap, **settings),
            ClusterImage(),
            rng=Random(1),
            transaction=TransactionTracker(),
        )
        self.epochs: dict[int, int] = {}
        self.take(self.controller.activate(self.now_ms))

    @property
    def image(self) -> ClusterImage:
        return self.controller.image

    def take(self, decision: Decision[Any, Any]) -> Any:
        """Write a decision; its answer."""
        if decision.records:
            self.controller.apply_all(decision.records, self.controller.state.next_offset)
            self.log.extend(decision.records)
        return decision.response

    def register(
        self,
        broker_id: int,
        *,
        rack: str | None = None,
        previous_epoch: int = -1,
        run: int = 0,
        log_dirs: tuple[Uuid, ...] | None = None,
    ) -> int:
        registration = Registration(
            broker_id=broker_id,
            cluster_id="cluster",
            incarnation_id=Uuid(bytes([run, *[broker_id] * 15])),
            endpoints=(Endpoint(name="PLAINTEXT", host="localhost", port=9000 + broker_id),),
            features=broker_features(),
            log_dirs=log_dirs or (Uuid(bytes([200, *[broker_id] * 15])),),
            rack=rack,
            previous_epoch=previous_epoch,
        )
        self.epochs[broker_id] = self.take(self.controller.register_broker(registration, self.now_ms))
        return self.epochs[broker_id]

    def beat(self, broker_id: int, **wants: Any) -> Any:
        heartbeat = Heartbeat(
            broker_id=broker_id,
            broker_epoch=self.epochs[broker_id],
            metadata_offset=self.controller.state.next_offset - 1,
            **wants,
        )
        return self.take(self.controller.heartbeat(heartbeat, self.now_ms))

    def join(self, *broker_ids: int, racks: dict[int, str] | None = None) -> None:
        """Register and unfence."""
        for broker_id in broker_ids:
            self.register(broker_id, rack=(racks or {}).get(broker_id))
            self.beat(broker_id)

    def advance(self, milliseconds: int) -> None:
        """Let time pass and the controller act on it."""
        self.now_ms += milliseconds
        while (deadline := self.controller.next_deadline()) is not None and deadline <= self.now_ms:
            self.take(self.controller.on_deadline(self.now_ms))

    def written(self, since: int = 0) -> list[str]:
        return [type(record.message).__name__.removesuffix("Record") for record in self.log[since:]]


@pytest.fixture
def make_cluster() -> Callable[..., Cluster]:
    return Cluster


@pytest.fixture
def one() -> Cluster:
    """One broker, ready."""
    cluster = Cluster()
    cluster.join(1)
    return cluster
