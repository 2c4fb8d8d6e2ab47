"""How much of a compacted log is dirty, and how far it may be cleaned. Kafka's rules.

A log is clean up to its *clean point*, the offset that ``cleaner-offset-checkpoint`` keeps. From there it is dirty, and
may be cleaned up to the segment that holds the first record which is in the active segment, not below the last stable
offset, or younger than ``min.compaction.lag.ms``.
"""

from bisect import bisect_right
from typing import Final

from msgspec import Struct

from ottla.config.cleaner import CleanerConfig
from ottla.records.last_record import LastRecord
from ottla.storage.cleaning_orders import CleanedSegment, CleaningJob
from ottla.storage.log import Log
from ottla.storage.names import CLEANED_SUFFIX
from ottla.storage.segment import Segment

FOREVER: Final = 2**63 - 1


class Cleanable(Struct, frozen=True, kw_only=True):
    """One log as the cleaner sees it. Bytes; ``overdue_ms`` is how long ago ``max.compaction.lag.ms`` ran out."""

    first_dirty_offset: int
    upper_offset: int
    """Where the cleanable part ends: the base offset of a segment."""
    clean_bytes: int
    cleanable_bytes: int
    overdue_ms: int
    point_valid: bool
    """False where the clean point does not fit the log, which then is dirty from its start."""

    @property
    def ratio(self) -> float:
        total = self.clean_bytes + self.cleanable_bytes
        return self.cleanable_bytes / total if total else 0.0

    def due(self, min_ratio: float) -> bool:
        return self.cleanable_bytes > 0 and (self.ratio > min_ratio or self.overdue_ms > 0)


def cleanable(log: Log, clean_point: int | None, last_stable_offset: int, now_ms: int) -> Cleanable:
    """What there is to clean. May read indexes and a header of each dirty segment. Raises ``CorruptLogError`` and
    ``OSError``."""
    start = log.log_start_offset
    point_valid = clean_point is None or start <= clean_point <= log.log_end_offset
    first_dirty = start if clean_point is None or not point_valid else clean_point
    bases = [segment.base_offset for segment in log.segments]
    dirty = log.segments[max(bisect_right(bases, first_dirty) - 1, 0) : -1]
    limit = min(last_stable_offset, log.active_segment.base_offset)
    lag_ms = log.config.min_compaction_lag_ms
    if lag_ms > 0:
        fresh = (segment.base_offset for segment in dirty if segment.max_timestamp > now_ms - lag_ms)
        limit = min(limit, next(fresh, limit))
    limit = max(limit, first_dirty)
    upper = bases[max(bisect_right(bases, limit) - 1, 0)]
    return Cleanable(
        first_dirty_offset=first_dirty,
        upper_offset=upper,
        clean_bytes=sum(segment.size for segment in log.segments if segment.base_offset < first_dirty),
        cleanable_bytes=sum(segment.size for segment in dirty if segment.base_offset < upper),
        overdue_ms=_overdue_ms(dirty, log.config.max_compaction_lag_ms, now_ms),
        point_valid=point_valid,
    )


def _overdue_ms(dirty: list[Segment], max_lag_ms: int, now_ms: int) -> int:
    if max_lag_ms == FOREVER:
        return 0
    firsts = [segment.first_timestamp for segment in dirty if segment.size]
    earliest = min((timestamp for timestamp in firsts if timestamp > 0), default=FOREVER)
    return max(now_ms - max_lag_ms - earliest, 0)


def cleaning_job(log: Log, target: Cleanable, config: CleanerConfig, now_ms: int) -> CleaningJob:
    """What a pass over the log as it is now has to know."""
    upper = target.upper_offset
    return CleaningJob(
        directory=log.directory,
        segments=[(segment.base_offset, segment.size) for segment in log.segments if segment.base_offset < upper],
        first_dirty_offset=target.first_dirty_offset,
        upper_offset=upper,
        now_ms=now_ms,
        delete_retention_ms=log.config.delete_retention_ms,
        last_records={
            state.producer_id: LastRecord(state.last_offset, state.producer_epoch) for state in log.producers.producers
        },
        aborted_above=[aborted for aborted in log.aborted_transactions(upper, FOREVER) if aborted.last_offset >= upper],
        entries_max=config.entries_max,
        segment_bytes=log.config.segment_bytes,
        segment_index_bytes=log.config.segment_index_bytes,
        index_interval_bytes=log.config.index_interval_bytes,
        io_bytes=config.io_bytes,
        decompressed_bytes_max=config.decompressed_bytes_max,
    )


def swap_in(log: Log, cleaned: CleanedSegment, now_ms: int) -> None:
    """Let the log serve a cleaned segment from now on. Raises ``OSError``."""
    replaces = set(cleaned.replaces)
    replaced = [segment for segment in log.segments if segment.base_offset in replaces]
    segment = Segment(
        log.disk,
        log.directory,
        cleaned.base_offset,
        cleaned.size,
        index_interval_bytes=log.config.index_interval_bytes,
        mark=CLEANED_SUFFIX,
    )
    segment.created_ms = replaced[0].created_ms
    segment.rebuild = replaced[0].rebuild
    log.replace_segments(replaced, segment, now_ms)
