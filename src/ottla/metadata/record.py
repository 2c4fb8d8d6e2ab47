"""Metadata records: a message with the version it is written in, and its frame in a record's value.

Frame (``AbstractApiMessageSerde``): unsigned varints frame version (1), record id, record version, then the message.
Which message an id means is looked up when the first record of that id turns up.
"""

from functools import cache
from importlib import import_module
from typing import Any, Final, NamedTuple

from ottla.wire import decode, encode

FRAME_VERSION: Final = 1

_MODULES: Final = {
    0: "register_broker_record.RegisterBrokerRecord",
    1: "unregister_broker_record.UnregisterBrokerRecord",
    2: "topic_record.TopicRecord",
    3: "partition_record.PartitionRecord",
    4: "config_record.ConfigRecord",
    5: "partition_change_record.PartitionChangeRecord",
    7: "fence_broker_record.FenceBrokerRecord",
    8: "unfence_broker_record.UnfenceBrokerRecord",
    9: "remove_topic_record.RemoveTopicRecord",
    10: "delegation_token_record.DelegationTokenRecord",
    11: "user_scram_credential_record.UserScramCredentialRecord",
    12: "feature_level_record.FeatureLevelRecord",
    14: "client_quota_record.ClientQuotaRecord",
    15: "producer_ids_record.ProducerIdsRecord",
    17: "broker_registration_change_record.BrokerRegistrationChangeRecord",
    18: "access_control_entry_record.AccessControlEntryRecord",
    19: "remove_access_control_entry_record.RemoveAccessControlEntryRecord",
    20: "no_op_record.NoOpRecord",
    21: "zk_migration_state_record.ZkMigrationStateRecord",
    22: "remove_user_scram_credential_record.RemoveUserScramCredentialRecord",
    23: "begin_transaction_record.BeginTransactionRecord",
    24: "end_transaction_record.EndTransactionRecord",
    25: "abort_transaction_record.AbortTransactionRecord",
    26: "remove_delegation_token_record.RemoveDelegationTokenRecord",
    27: "register_controller_record.RegisterControllerRecord",
    28: "clear_elr_record.ClearElrRecord",
}


class MetadataRecord(NamedTuple):
    """``message`` is one of the generated record structs, ``version`` the version it is written in."""

    message: Any
    version: int


class UnknownRecord(Exception):
    """The log holds a record this release does not know. Nothing is skipped: a wrong image is worse than none."""


def encode_record(record: MetadataRecord) -> bytes:
    """The framed value of a log record."""
    key = record.message.API_KEY
    # All ids and versions are below 128: each varint is one byte.
    return bytes((FRAME_VERSION, key, record.version)) + encode(record.message, record.version)


def decode_record(value: bytes | memoryview) -> MetadataRecord:
    """Raises ``UnknownRecord`` for another frame, id or version, ``DecodeError`` for a damaged body."""
    if len(value) < 3 or value[0] != FRAME_VERSION or value[1] > 127 or value[2] > 127:
        raise UnknownRecord(f"metadata record with an unknown frame: {bytes(value[:3]).hex()}")
    key, version = value[1], value[2]
    cls = _record_class(key)
    if version > cls.HIGHEST_VERSION:
        raise UnknownRecord(f"{cls.__name__} has no version {version}; this node knows up to {cls.HIGHEST_VERSION}")
    return MetadataRecord(decode(cls, value[3:], version), version)


@cache
def _record_class(key: int) -> Any:
    path = _MODULES.get(key)
    if path is None:
        raise UnknownRecord(f"metadata record with the unknown id {key}")
    module, name = path.split(".")
    return getattr(import_module(f"ottla.wire.messages.{module}"), name)
