"""Which segments a log may give up: by age, by size, by the log start offset. Kafka's rules, in Kafka's order."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ottla.storage.segment import Segment

if TYPE_CHECKING:
    from ottla.storage.log import Log


def expired_segments(log: "Log", now_ms: int, upper: int) -> int:
    """How many of the oldest segments may go. Only whole segments below ``upper``; an empty last one stays."""
    counts = [_leading(log, upper, _below_log_start(log))]
    if log.config.delete:
        if log.config.retention_ms >= 0:
            counts.append(_leading(log, upper, _too_old(now_ms, log.config.retention_ms)))
        if log.config.retention_bytes >= 0 and log.size >= log.config.retention_bytes:
            counts.append(_leading(log, upper, _surplus(log.size - log.config.retention_bytes)))
    return max(counts)


Rule = Callable[[Segment, Segment | None], bool]


def _leading(log: "Log", upper: int, gone: Rule) -> int:
    count = 0
    segments = log.segments
    for slot, segment in enumerate(segments):
        following = segments[slot + 1] if slot + 1 < len(segments) else None
        end = following.base_offset if following is not None else log.log_end_offset
        if end > upper or (following is None and not segment.size) or not gone(segment, following):
            break
        count += 1
    return count


def _too_old(now_ms: int, retention_ms: int) -> Rule:
    def gone(segment: Segment, _: Segment | None) -> bool:
        latest = segment.max_timestamp
        return now_ms - (latest if latest >= 0 else segment.modified_ms) > retention_ms

    return gone


def _surplus(surplus: int) -> Rule:
    left = surplus

    def gone(segment: Segment, _: Segment | None) -> bool:
        nonlocal left
        if left < segment.size:
            return False
        left -= segment.size
        return True

    return gone


def _below_log_start(log: "Log") -> Rule:
    def gone(_: Segment, following: Segment | None) -> bool:
        return following is not None and following.base_offset <= log.log_start_offset

    return gone
