"""What a broker and its cleaner process say to each other, apart from how a log is cleaned: no broker loads that."""

from typing import Final

from msgspec import Struct

from ottla.records.last_record import LastRecord
from ottla.storage.txn_index import AbortedTransaction

GO: Final = b"go"
STOP: Final = b"stop"


class CleaningJob(Struct, frozen=True, kw_only=True):
    """All that a pass needs to know. Milliseconds and bytes; ``segments`` are ``(base offset, size)`` of those whose
    base is below ``upper_offset``, in order."""

    directory: str
    segments: list[tuple[int, int]]
    first_dirty_offset: int
    upper_offset: int
    now_ms: int
    delete_retention_ms: int
    last_records: dict[int, LastRecord]
    aborted_above: list[AbortedTransaction]
    """Aborted transactions whose marker lies at ``upper_offset`` or above."""
    entries_max: int
    segment_bytes: int
    segment_index_bytes: int
    index_interval_bytes: int
    io_bytes: int
    decompressed_bytes_max: int


class CleanedSegment(Struct, frozen=True, kw_only=True):
    """A segment under its ``.cleaned`` name. ``replaces`` are the base offsets of those it is made from."""

    base_offset: int
    size: int
    replaces: list[int]
    bytes_read: int
    records_read: int
    records_kept: int


class CleaningOrder(Struct, frozen=True, kw_only=True):
    """A job, and the bytes a second it may move: read and written."""

    job: CleaningJob
    bytes_per_second_max: float


class Cleaned(Struct, frozen=True, kw_only=True, tag=True):
    """A segment waits under its ``.cleaned`` name to be swapped in."""

    segment: CleanedSegment


class Finished(Struct, frozen=True, kw_only=True, tag=True):
    """The log is clean up to ``end_offset``."""

    end_offset: int
    keys: int
    keys_max: int


class Failed(Struct, frozen=True, kw_only=True, tag=True):
    """The cleaning ended early. ``errno`` is set where the disk was the reason; ``stopped`` where it was told to."""

    reason: str
    errno: int | None = None
    stopped: bool = False


Reply = Cleaned | Finished | Failed
