"""How the image looks to a client on one listener: partitions with their errors, live brokers, what it may do."""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from ottla.metadata.image import NO_LEADER, BrokerRegistration, ClusterImage, Endpoint, PartitionImage
from ottla.wire.errors import ErrorCode

TOPIC_OPERATIONS: Final = 0xDF8
"""Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs: all, as long as there are no ACLs."""
CLUSTER_OPERATIONS: Final = 0x1FA0
"""Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite."""


class PartitionView(Struct, frozen=True, kw_only=True):
    """One partition as clients of a listener see it."""

    error: ErrorCode
    leader_id: int
    replicas: list[int]
    isr: list[int]
    offline_replicas: list[int]


def view_partition(
    image: ClusterImage, partition: PartitionImage, listener: str, *, listener_errors: bool, alive_only: bool = False
) -> PartitionView:
    """``listener_errors``: tell a leader without this listener from no leader. ``alive_only``: hide dead replicas."""
    replicas, isr = list(partition.replicas), list(partition.isr)
    if alive_only:
        replicas = [replica for replica in replicas if _endpoint(image, replica, listener) is not None]
        isr = [replica for replica in isr if _endpoint(image, replica, listener) is not None]
    error, leader_id = ErrorCode.NONE, partition.leader
    if _endpoint(image, partition.leader, listener) is None:
        known = partition.leader in image.brokers
        error = ErrorCode.LISTENER_NOT_FOUND if known and listener_errors else ErrorCode.LEADER_NOT_AVAILABLE
        leader_id = NO_LEADER
    elif len(replicas) < len(partition.replicas) or len(isr) < len(partition.isr):
        error = ErrorCode.REPLICA_NOT_AVAILABLE
    return PartitionView(
        error=error,
        leader_id=leader_id,
        replicas=replicas,
        isr=isr,
        offline_replicas=[replica for replica in partition.replicas if _is_offline(image, replica, partition)],
    )


def brokers_on(image: ClusterImage, listener: str) -> Iterator[tuple[BrokerRegistration, Endpoint]]:
    """All registered brokers that have the listener, fenced ones too."""
    for broker in image.brokers.values():
        endpoint = broker.endpoint(listener)
        if endpoint is not None:
            yield broker, endpoint


def contact_id(image: ClusterImage, node_id: int) -> int:
    """The "controller" that clients are told: a live broker, which forwards to the real one; this one if it is live."""
    own = image.brokers.get(node_id)
    if own is not None and not own.fenced:
        return node_id
    return next((broker.broker_id for broker in image.active_brokers()), -1)


def _endpoint(image: ClusterImage, broker_id: int, listener: str) -> Endpoint | None:
    broker = image.brokers.get(broker_id)
    return None if broker is None else broker.endpoint(listener)


def _is_offline(image: ClusterImage, replica: int, partition: PartitionImage) -> bool:
    broker = image.brokers.get(replica)
    return broker is None or broker.fenced or not broker.has_online_dir(partition.directory_of(replica))
