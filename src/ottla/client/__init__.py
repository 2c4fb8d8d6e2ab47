"""Producer, consumer and admin for any Kafka cluster. Names without an underscore are public."""

from ottla.client._accumulator import Delivery, RecordMetadata
from ottla.client._admin import Admin, ConfigValue, CreatedTopic
from ottla.client._assignors import Assignor, GroupMember
from ottla.client._cluster import BrokerAddress, ClusterUnreachable, PartitionMetadata, TopicMetadata, parse_bootstrap
from ottla.client._commits import CommittedOffset, GroupMetadata
from ottla.client._consumer import Consumer
from ottla.client._decode import BytesColumn, ConsumerRecord, RecordBatch
from ottla.client._group import RebalanceListener
from ottla.client._producer import Producer
from ottla.model import TopicPartition
from ottla.net.peer import PeerLost, PeerTimeout
from ottla.wire.errors import ErrorCode, KafkaError

__all__ = [
    "Admin",
    "Assignor",
    "BrokerAddress",
    "BytesColumn",
    "ClusterUnreachable",
    "CommittedOffset",
    "ConfigValue",
    "Consumer",
    "ConsumerRecord",
    "CreatedTopic",
    "Delivery",
    "ErrorCode",
    "GroupMember",
    "GroupMetadata",
    "KafkaError",
    "PartitionMetadata",
    "PeerLost",
    "PeerTimeout",
    "Producer",
    "RebalanceListener",
    "RecordBatch",
    "RecordMetadata",
    "TopicMetadata",
    "TopicPartition",
    "parse_bootstrap",
]
