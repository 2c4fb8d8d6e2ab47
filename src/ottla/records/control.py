"""Control records: transaction markers, and what the quorum writes about itself into its log and snapshots.

A control batch is never compressed. The key of a control record is its version (0) and type, two i16. A transaction
marker's value is an i16 version before the message; the quorum's messages begin with their version as a field.
"""

from collections.abc import Sequence
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from ottla.records.builder import NO_LEADER_EPOCH, BatchBuilder
from ottla.records.errors import CorruptRecord
from ottla.records.reader import read_records
from ottla.wire import DecodeError, decode, encode
from ottla.wire.messages.end_txn_marker import EndTxnMarker
from ottla.wire.messages.kraft_version_record import KRaftVersionRecord
from ottla.wire.messages.leader_change_message import LeaderChangeMessage
from ottla.wire.messages.snapshot_footer_record import SnapshotFooterRecord
from ottla.wire.messages.snapshot_header_record import SnapshotHeaderRecord
from ottla.wire.messages.voters_record import VotersRecord

__all__ = [
    "ControlMessage",
    "ControlType",
    "EndTransaction",
    "control_batch",
    "control_type",
    "end_transaction_batch",
    "read_control_messages",
    "read_end_transaction",
]

_KEY: Final = Struct(">hh")
_KEY_VERSION: Final = 0
_VERSION: Final = Struct(">h")
_MARKER_VERSION: Final = 0
_MARKER_END: Final = 6
"""Version and coordinator epoch; later versions may add behind."""


class ControlType(IntEnum):
    """The type in a control record's key."""

    ABORT = 0
    COMMIT = 1
    LEADER_CHANGE = 2
    SNAPSHOT_HEADER = 3
    SNAPSHOT_FOOTER = 4
    KRAFT_VERSION = 5
    KRAFT_VOTERS = 6


class EndTransaction(NamedTuple):
    """A transaction marker: how the coordinator of ``coordinator_epoch`` decided."""

    committed: bool
    coordinator_epoch: int


ControlMessage = LeaderChangeMessage | SnapshotHeaderRecord | SnapshotFooterRecord | KRaftVersionRecord | VotersRecord

_TYPE_OF: Final[dict[type[ControlMessage], ControlType]] = {
    LeaderChangeMessage: ControlType.LEADER_CHANGE,
    SnapshotHeaderRecord: ControlType.SNAPSHOT_HEADER,
    SnapshotFooterRecord: ControlType.SNAPSHOT_FOOTER,
    KRaftVersionRecord: ControlType.KRAFT_VERSION,
    VotersRecord: ControlType.KRAFT_VOTERS,
}
_CLASS_OF: Final = {control: cls for cls, control in _TYPE_OF.items()}


def control_type(key: bytes | None) -> ControlType | None:
    """The type in a control record's key; ``None`` for one from the future. Raises ``CorruptRecord``."""
    if key is None or len(key) < _KEY.size:
        raise CorruptRecord(f"control record key of {0 if key is None else len(key)} bytes is too short")
    version, number = _KEY.unpack_from(key)
    if version < 0:
        raise CorruptRecord(f"control record key has version {version}")
    try:
        return ControlType(number)
    except ValueError:
        return None


def control_batch(
    messages: Sequence[ControlMessage],
    *,
    base_offset: int,
    timestamp: int,
    leader_epoch: int = NO_LEADER_EPOCH,
) -> bytes:
    """A batch of the quorum's control records, each in the version that it carries."""
    builder = BatchBuilder(base_offset=base_offset, leader_epoch=leader_epoch, control=True)
    for message in messages:
        key = _KEY.pack(_KEY_VERSION, _TYPE_OF[type(message)])
        builder.append(timestamp, key, encode(message, message.version))
    return builder.build()


def end_transaction_batch(
    marker: EndTransaction,
    *,
    producer_id: int,
    producer_epoch: int,
    timestamp: int,
    base_offset: int = 0,
    leader_epoch: int = NO_LEADER_EPOCH,
) -> bytes:
    """The batch of one transaction marker."""
    builder = BatchBuilder(
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=True,
        control=True,
    )
    key = _KEY.pack(_KEY_VERSION, ControlType.COMMIT if marker.committed else ControlType.ABORT)
    value = encode(EndTxnMarker(coordinator_epoch=marker.coordinator_epoch), _MARKER_VERSION)
    builder.append(timestamp, key, _VERSION.pack(_MARKER_VERSION) + value)
    return builder.build()


def read_end_transaction(batch: bytes | bytearray | memoryview) -> EndTransaction | None:
    """The marker in a control batch; ``None`` if compaction emptied it or it is none. Raises ``CorruptRecord``."""
    for record in read_records(batch):
        control = control_type(record.key)
        if control not in (ControlType.ABORT, ControlType.COMMIT):
            return None
        value = record.value or b""
        if len(value) < _MARKER_END or _VERSION.unpack_from(value)[0] < 0:
            raise CorruptRecord(f"transaction marker of {len(value)} bytes cannot be read")
        message = decode(EndTxnMarker, value[_VERSION.size : _MARKER_END], _MARKER_VERSION)
        return EndTransaction(control is ControlType.COMMIT, message.coordinator_epoch)
    return None


def read_control_messages(batch: bytes | bytearray | memoryview) -> list[ControlMessage]:
    """The quorum's messages in a control batch; markers and types from the future are passed over.

    Raises ``CorruptRecord``.
    """
    messages: list[ControlMessage] = []
    for record in read_records(batch):
        control = control_type(record.key)
        message_class = None if control is None else _CLASS_OF.get(control)
        if message_class is None:
            continue
        value = record.value or b""
        if len(value) < _VERSION.size:
            raise CorruptRecord(f"control record value of {len(value)} bytes is too short")
        version = min(_VERSION.unpack_from(value)[0], message_class.HIGHEST_VERSION)
        try:
            messages.append(decode(message_class, value, version))
        except DecodeError as error:
            raise CorruptRecord(f"control record {message_class.__name__} cannot be read: {error}") from None
    return messages
