"""Producer, consumer and admin for any Kafka cluster. Names without an underscore are public.

Everything is loaded when it is first asked for: a program that only produces pays for no consumer.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ottla.client._accumulator import Delivery, Receipt, RecordMetadata
    from ottla.client._admin import Admin
    from ottla.client._admin_cluster import (
        BrokerDescription,
        ClusterDescription,
        FeatureDescription,
        LogDirDescription,
        QuorumDescription,
    )
    from ottla.client._admin_configs import ConfigChange, ConfigResource, ConfigValue
    from ottla.client._admin_groups import GroupDescription, GroupListing, MemberDescription
    from ottla.client._admin_security import Acl, AclFilter, ScramCredential
    from ottla.client._admin_topics import CreatedTopic, ListedOffset, NewTopic, Reassignment
    from ottla.client._admin_transactions import ProducerState, TransactionDescription, TransactionListing
    from ottla.client._assignors import Assignor, GroupMember
    from ottla.client._cluster import (
        BrokerAddress,
        ClusterUnreachable,
        PartitionMetadata,
        TopicMetadata,
        parse_bootstrap,
    )
    from ottla.client._commits import ConsumerGroupMetadata
    from ottla.client._consumer import Consumer
    from ottla.client._decode import BytesColumn, ConsumerRecord, RecordBatch
    from ottla.client._errors import (
        AuthenticationError,
        AuthorizationError,
        BufferExhaustedError,
        ClientClosedError,
        ConfigError,
        ErrorCode,
        FencedError,
        InvalidRecordError,
        KafkaError,
        KafkaTimeoutError,
        RecordTooLargeError,
        RetriableError,
        TransactionAbortedError,
        UnknownTopicError,
        UnsupportedError,
    )
    from ottla.client._group import RebalanceListener
    from ottla.client._interceptors import ConsumerInterceptor
    from ottla.client._offsets import OffsetAndMetadata
    from ottla.client._partitioner import Partitioner, PartitionFunction, murmur2
    from ottla.client._producer import Producer
    from ottla.client._record import ProducerInterceptor, ProducerRecord
    from ottla.client._security import OAuthBearer, Plain, ScramSha256, ScramSha512, Tls
    from ottla.client._transactions import GroupMetadata
    from ottla.model import TopicPartition
    from ottla.net.peer import PeerLost, PeerTimeout

__all__ = [
    "Acl",
    "AclFilter",
    "Admin",
    "Assignor",
    "AuthenticationError",
    "AuthorizationError",
    "BrokerAddress",
    "BrokerDescription",
    "BufferExhaustedError",
    "BytesColumn",
    "ClientClosedError",
    "ClusterDescription",
    "ClusterUnreachable",
    "ConfigChange",
    "ConfigError",
    "ConfigResource",
    "ConfigValue",
    "Consumer",
    "ConsumerGroupMetadata",
    "ConsumerInterceptor",
    "ConsumerRecord",
    "CreatedTopic",
    "Delivery",
    "ErrorCode",
    "FeatureDescription",
    "FencedError",
    "GroupDescription",
    "GroupListing",
    "GroupMember",
    "GroupMetadata",
    "InvalidRecordError",
    "KafkaError",
    "KafkaTimeoutError",
    "ListedOffset",
    "LogDirDescription",
    "MemberDescription",
    "NewTopic",
    "OAuthBearer",
    "OffsetAndMetadata",
    "PartitionFunction",
    "PartitionMetadata",
    "Partitioner",
    "PeerLost",
    "PeerTimeout",
    "Plain",
    "Producer",
    "ProducerInterceptor",
    "ProducerRecord",
    "ProducerState",
    "QuorumDescription",
    "Reassignment",
    "RebalanceListener",
    "Receipt",
    "RecordBatch",
    "RecordMetadata",
    "RecordTooLargeError",
    "RetriableError",
    "ScramCredential",
    "ScramSha256",
    "ScramSha512",
    "Tls",
    "TopicMetadata",
    "TopicPartition",
    "TransactionAbortedError",
    "TransactionDescription",
    "TransactionListing",
    "UnknownTopicError",
    "UnsupportedError",
    "murmur2",
    "parse_bootstrap",
]

_PLACES: Final = {
    "ottla.client._accumulator": ("Delivery", "Receipt", "RecordMetadata"),
    "ottla.client._admin": ("Admin",),
    "ottla.client._admin_topics": (
        "CreatedTopic",
        "ListedOffset",
        "NewTopic",
        "Reassignment",
    ),
    "ottla.client._admin_configs": (
        "ConfigChange",
        "ConfigResource",
        "ConfigValue",
    ),
    "ottla.client._admin_groups": (
        "GroupDescription",
        "GroupListing",
        "MemberDescription",
    ),
    "ottla.client._admin_transactions": (
        "ProducerState",
        "TransactionDescription",
        "TransactionListing",
    ),
    "ottla.client._admin_cluster": (
        "BrokerDescription",
        "ClusterDescription",
        "FeatureDescription",
        "LogDirDescription",
        "QuorumDescription",
    ),
    "ottla.client._admin_security": (
        "Acl",
        "AclFilter",
        "ScramCredential",
    ),
    "ottla.client._cluster": (
        "BrokerAddress",
        "ClusterUnreachable",
        "PartitionMetadata",
        "TopicMetadata",
        "parse_bootstrap",
    ),
    "ottla.client._consumer": ("Consumer",),
    "ottla.client._decode": ("BytesColumn", "ConsumerRecord", "RecordBatch"),
    "ottla.client._assignors": ("Assignor", "GroupMember"),
    "ottla.client._commits": ("ConsumerGroupMetadata",),
    "ottla.client._group": ("RebalanceListener",),
    "ottla.client._errors": (
        "AuthenticationError",
        "AuthorizationError",
        "BufferExhaustedError",
        "ConfigError",
        "ErrorCode",
        "FencedError",
        "InvalidRecordError",
        "KafkaError",
        "KafkaTimeoutError",
        "ClientClosedError",
        "RecordTooLargeError",
        "RetriableError",
        "TransactionAbortedError",
        "UnknownTopicError",
        "UnsupportedError",
    ),
    "ottla.client._partitioner": ("PartitionFunction", "Partitioner", "murmur2"),
    "ottla.client._producer": ("Producer",),
    "ottla.client._record": ("ProducerInterceptor", "ProducerRecord"),
    "ottla.client._security": ("OAuthBearer", "Plain", "ScramSha256", "ScramSha512", "Tls"),
    "ottla.client._transactions": ("GroupMetadata",),
    "ottla.client._interceptors": ("ConsumerInterceptor",),
    "ottla.client._offsets": ("OffsetAndMetadata",),
    "ottla.model": ("TopicPartition",),
    "ottla.net.peer": ("PeerLost", "PeerTimeout"),
}
_PLACE_OF: Final = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _PLACE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(module), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
