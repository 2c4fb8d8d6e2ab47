"""Producer, consumer and admin for any Kafka cluster. Names without an underscore are public."""

from ottla.client._accumulator import Delivery, RecordMetadata
from ottla.client._admin import Admin, ConfigValue, CreatedTopic
from ottla.client._cluster import BrokerAddress, ClusterUnreachable, PartitionMetadata, TopicMetadata, parse_bootstrap
from ottla.client._consumer import Consumer
from ottla.client._decode import ConsumerRecord
from ottla.client._producer import Producer
from ottla.model import TopicPartition
from ottla.net.peer import PeerLost, PeerTimeout
from ottla.wire.errors import ErrorCode, KafkaError

__all__ = [
    "Admin",
    "BrokerAddress",
    "ClusterUnreachable",
    "ConfigValue",
    "Consumer",
    "ConsumerRecord",
    "CreatedTopic",
    "Delivery",
    "ErrorCode",
    "KafkaError",
    "PartitionMetadata",
    "PeerLost",
    "PeerTimeout",
    "Producer",
    "RecordMetadata",
    "TopicMetadata",
    "TopicPartition",
    "parse_bootstrap",
]
