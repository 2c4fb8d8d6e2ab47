"""What a cleaning keeps for the sake of producers that are still there."""

from typing import NamedTuple


class LastRecord(NamedTuple):
    """The last thing a live producer wrote: an offset, or -1 and the epoch that only a marker tells."""

    last_data_offset: int
    producer_epoch: int
