"""The topics that belong to the brokers themselves: what they are created with."""

from collections.abc import Mapping

from msgspec import Struct

from ottla.config.broker import GroupsConfig, TransactionsConfig, fit_brokers
from ottla.model.internal_topics import CONSUMER_OFFSETS, TRANSACTION_STATE


class InternalTopic(Struct, frozen=True, kw_only=True):
    """What the controller is asked for when somebody needs the topic for the first time."""

    name: str
    partitions: int
    replication_factor: int
    configs: Mapping[str, str]


def consumer_offsets(config: GroupsConfig, brokers: int) -> InternalTopic:
    return InternalTopic(
        name=CONSUMER_OFFSETS,
        partitions=config.offsets_topic_partitions,
        replication_factor=fit_brokers(config.offsets_topic_replication_factor, 3, brokers),
        configs={
            "cleanup.policy": "compact",
            "compression.type": "producer",
            "segment.bytes": str(config.offsets_topic_segment_bytes),
        },
    )


def transaction_state(config: TransactionsConfig, brokers: int) -> InternalTopic:
    return InternalTopic(
        name=TRANSACTION_STATE,
        partitions=config.state_log_partitions,
        replication_factor=fit_brokers(config.state_log_replication_factor, 3, brokers),
        configs={
            "unclean.leader.election.enable": "false",
            "compression.type": "uncompressed",
            "cleanup.policy": "compact",
            "min.insync.replicas": str(fit_brokers(config.state_log_min_isr, 2, brokers)),
            "segment.bytes": str(config.state_log_segment_bytes),
        },
    )
