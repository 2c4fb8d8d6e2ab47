"""What a producer snapshot leaves out, looked up in the log: the batches before a producer's last."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from ottla.records.batch import BatchHeader
from ottla.runtime.telemetry import get_logger
from ottla.storage.errors import CorruptLogError
from ottla.storage.segment import Segment
from ottla.transactions.producer_state import BATCHES_RETAINED

_log = get_logger(__name__)

RECALLED_BYTES: Final = (128 * 1024, 1024 * 1024, 4 * 1024 * 1024)
"""How far back to look, and how far if that was not enough: whatever one producer has in flight lies within a few
requests."""


def earlier_batches(segments: Sequence[Segment], producer_id: int, below: int) -> Sequence[BatchHeader]:
    """Up to ``BATCHES_RETAINED`` data batches of a producer, the latest that end below offset ``below``, oldest first.

    None where the log cannot be read: the producer is told then what it would have been told without.
    """
    found: Sequence[BatchHeader] = ()
    for size in RECALLED_BYTES:
        found = _latest(segments, producer_id, below, size)
        if len(found) == BATCHES_RETAINED:
            break
    return found


def _latest(segments: Sequence[Segment], producer_id: int, below: int, size: int) -> Sequence[BatchHeader]:
    """Those in the last ``size`` bytes."""
    found: deque[BatchHeader] = deque(maxlen=BATCHES_RETAINED)
    left = size
    for segment in reversed(segments):
        if segment.base_offset >= below:
            continue
        try:
            location = segment.locate(below)
            end = segment.size if location is None else location.position
            here = [
                header
                for _, header in segment.headers_up_to(end, left)
                if header.producer_id == producer_id and not header.is_control
            ]
        except (CorruptLogError, OSError) as error:
            _log.warning("earlier batches not found", segment=segment.log_path, reason=error)
            break
        found.extendleft(reversed(here[len(found) - BATCHES_RETAINED :]))
        left -= end
        if left <= 0 or len(found) == BATCHES_RETAINED:
            break
    return found
