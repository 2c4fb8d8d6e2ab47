"""A classic group of librdkafka's `cooperative-sticky` that meets a member of the consumer protocol, on both brokers.

From the second generation on librdkafka's leader puts data of its own into the assignments, which the coordinator's
assignors could not keep: such a group is upgraded by no broker, and goes on undisturbed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed (extra `interop`)")

from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient

from harness import wire
from harness.clusters import make_node
from harness.processes import wait_until
from ottla.groups.consumer.protocol import protocol_version
from ottla.model import Uuid
from ottla.wire import decode
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest
from ottla.wire.messages.consumer_protocol_assignment import ConsumerProtocolAssignment
from ottla.wire.messages.describe_groups_request import DescribeGroupsRequest

TOPIC, PARTITIONS = "sticky", 4
POLICY = {"group.consumer.migration.policy": "bidirectional", "group.initial.rebalance.delay.ms": "0"}
CLASSIC = {
    "group.protocol": "classic",
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 500,
}


class Members:
    """Consumers of one group on one node."""

    def __init__(self, node: Any, group: str) -> None:
        self.node = node
        self.group = group
        self.consumers: list[Consumer] = []

    def join(self, **options: Any) -> Consumer:
        settings = {"bootstrap.servers": self.node.bootstrap, "group.id": self.group, "log_level": 0, **options}
        self.consumers.append(Consumer(settings))
        self.consumers[-1].subscribe([TOPIC])
        return self.consumers[-1]

    def owned(self) -> list[int]:
        """How many partitions each has, fewest first."""
        for consumer in self.consumers:
            consumer.poll(0.02)
        return sorted(len(consumer.assignment()) for consumer in self.consumers)

    def settle(self, *expected: int) -> None:
        wait_until(lambda: self.owned() == list(expected), seconds=60, what=f"{expected} of {self.group}")

    def carries_data(self) -> bool:
        """Whether the leader has put anything of its own into the assignments."""
        with self.node.connect() as connection:
            (described,) = wire.call(connection, DescribeGroupsRequest(groups=[self.group]), 5).groups
        found = []
        for member in described.members:
            data = bytes(member.member_assignment)
            body = memoryview(data)[2:]
            found.append(decode(ConsumerProtocolAssignment, body, protocol_version(data), allow_trailing=True))
        return any(assignment.user_data for assignment in found)

    def heartbeat(self) -> tuple[int, str | None]:
        """What a member of the consumer protocol is told that wants to join."""
        request = ConsumerGroupHeartbeatRequest(
            group_id=self.group,
            member_id=str(Uuid.random(Random())),
            member_epoch=0,
            rebalance_timeout_ms=30_000,
            subscribed_topic_names=[TOPIC],
            topic_partitions=[],
        )
        with self.node.connect() as connection:
            answer = wire.call(connection, request, 1)
        return answer.error_code, answer.error_message

    def kind(self) -> str:
        admin = AdminClient({"bootstrap.servers": self.node.bootstrap})
        listed = admin.list_consumer_groups(request_timeout=20).result(20)
        return next(row.type.name for row in listed.valid if row.group_id == self.group)


@contextmanager
def members_of(node: Any, group: str) -> Iterator[Members]:
    members = Members(node, group)
    try:
        yield members
    finally:
        for consumer in members.consumers:
            consumer.close()


def first_generation(node: Any) -> tuple[Any, ...]:
    """One member, whose leader has had nothing to remember yet: the group is upgraded."""
    with members_of(node, "first") as members:
        members.join(**CLASSIC)
        members.settle(PARTITIONS)
        data = members.carries_data()
        members.join(**{"group.protocol": "consumer"})
        members.settle(2, 2)
        return data, members.kind()


def second_generation(node: Any) -> tuple[Any, ...]:
    """Another member has come: the group stays what it is, and so does what its members have."""
    with members_of(node, "second") as members:
        members.join(**CLASSIC)
        members.settle(PARTITIONS)
        members.join(**CLASSIC)
        members.settle(2, 2)
        wait_until(lambda: members.owned() == [2, 2] and members.carries_data(), seconds=30, what="the leader's data")
        answer = members.heartbeat()
        members.join(**{"group.protocol": "consumer"})
        # Whoever polls it takes the error.
        newcomer = members.consumers.pop()
        try:
            told = fatal_error(newcomer, members)
        finally:
            newcomer.close()
        members.settle(2, 2)
        return answer, told, members.kind()


def fatal_error(consumer: Consumer, members: Members) -> str:
    """What librdkafka gives up with."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        members.owned()
        try:
            message = consumer.poll(0.1)
        except KafkaException as error:
            return str(error.args[0].str())
        if message is not None and message.error() is not None:
            return str(message.error().str())
    raise AssertionError("it goes on waiting")


@pytest.mark.usefixtures("apache_kafka")
def test_both_brokers_upgrade_the_same_sticky_groups(tmp_path: Path) -> None:
    found = {}
    for kind in ("ottla", "apache"):
        node = make_node(kind, tmp_path / kind, config=POLICY)
        node.start()
        try:
            with node.connect() as connection:
                connection.create_topic(TOPIC, PARTITIONS)
            found[kind] = first_generation(node), second_generation(node)
        finally:
            node.kill()
    assert found["ottla"] == found["apache"]
    (data, upgraded), ((code, said), told, kept) = found["ottla"]
    assert (data, upgraded, kept) == (False, "CONSUMER", "CLASSIC")
    assert code == ErrorCode.GROUP_ID_NOT_FOUND
    assert said is not None
    assert "an unsupported custom assignor is in use" in said
    assert "group id does not exist" in told
