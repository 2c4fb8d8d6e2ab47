"""A consumer group whose members come and go, commit what they polled, and must never lose a commit; and a ghost.

The ghost speaks for members of generations long gone. Whoever listens to it moves committed offsets back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from chaos.history import Key, Watch
from chaos.stage import Lost, Stage, Worker
from chaos.workloads.clients import Position, close, code, new_consumer, poll
from chaos.workloads.probes import committed_of
from harness import wire
from harness.raw import NONE, ProtocolFailure
from ottla.wire.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)

LIFE_SECONDS = (2.0, 10.0)
COMMIT_SHARE = 0.4
GHOST_SECONDS = 0.5
LONG_AGO = 0
CLASSIC, NEXT = "classic", "consumer"
SETTINGS: dict[str, dict[str, Any]] = {
    CLASSIC: {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500},
    # Sessions and heartbeats are the broker's to say (KIP-848).
    NEXT: {"group.protocol": "consumer"},
}


class Member(Worker):
    """One member after another under the same name, each for a few seconds."""

    def __init__(
        self, stage: Stage, name: str, keys: Sequence[Key], *, group: str, workers: int, protocol: str = CLASSIC
    ) -> None:
        super().__init__(stage, name, workers=workers)
        self._settings = SETTINGS[protocol]
        self.keys = list(keys)
        self.group = group
        self.member_id = ""
        self._positions: Position = {}
        self._rebalanced: set[Key] = set()

    def session(self) -> None:
        consumer = new_consumer(self.stage, self.group, **self._settings)
        self._positions.clear()
        end = time.monotonic() + self.dice.uniform(*LIFE_SECONDS)
        try:
            self.history.complete(self.invoke("subscribe"), "ok")
            consumer.subscribe(
                [self.stage.place(self.keys[0])[0]],
                on_assign=self._on_rebalance,
                on_revoke=self._on_rebalance,
                on_lost=self._on_rebalance,
            )
            while self.wait() and time.monotonic() < end:
                self._poll(consumer)
                if self._positions and self.dice.random() < COMMIT_SHARE:
                    self._commit(consumer)
        except KafkaException as error:
            raise Lost(str(error)) from error
        finally:
            close(consumer)

    def _on_rebalance(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        keys = {self.stage.key_of(one.topic, one.partition) for one in partitions}
        self._rebalanced |= keys
        for key in keys:
            self._positions.pop(key, None)
        self.member_id = consumer.memberid() or self.member_id

    def _poll(self, consumer: Consumer) -> None:
        invoked = self.invoke("poll")
        self._rebalanced.clear()
        try:
            polled = poll(self.stage, consumer, self._positions)
        except KafkaException as error:
            self.history.complete(invoked, "info", err=str(error), reb=tuple(self._rebalanced))
            raise
        self.history.complete(invoked, "ok", [polled] if polled.records else [], reb=tuple(sorted(self._rebalanced)))

    def _commit(self, consumer: Consumer) -> None:
        wanted = dict(self._positions)
        invoked = self.invoke("commit")
        try:
            offsets = [TopicPartition(*self.stage.place(key), offset) for key, offset in wanted.items()]
            consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            self.history.complete(invoked, "info", err=code(error).name())
            return
        steps = [Watch(committed_of(self.group), key, offset) for key, offset in wanted.items()]
        self.history.complete(invoked, "ok", steps)


class Ghost(Worker):
    """Commits the beginning in the name of living members, by a generation that is over."""

    def __init__(self, stage: Stage, name: str, members: Sequence[Member]) -> None:
        super().__init__(stage, name)
        self.members = list(members)
        self.pause = GHOST_SECONDS

    def session(self) -> None:
        with contextlib.suppress(OSError, ProtocolFailure), self.stage.connect() as connection:
            while self.wait():
                member = self.dice.choice(self.members)
                if not member.member_id:
                    continue
                key = self.dice.choice(member.keys)
                topic, partition = self.stage.place(key)
                row = OffsetCommitRequestPartition(partition_index=partition, committed_offset=LONG_AGO)
                request = OffsetCommitRequest(
                    group_id=member.group,
                    generation_id_or_member_epoch=LONG_AGO,
                    member_id=member.member_id,
                    topics=[OffsetCommitRequestTopic(name=topic, partitions=[row])],
                )
                invoked = self.invoke("commit")
                code = wire.call(connection, request, 9).topics[0].partitions[0].error_code
                heard = [Watch(committed_of(member.group), key, LONG_AGO)] if code == NONE else []
                self.history.complete(invoked, "ok" if heard else "fail", heard)
