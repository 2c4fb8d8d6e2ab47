"""How fast connections may come: a rate over time, with a burst of what a few quiet seconds would have allowed."""

import math

from msgspec import Struct


class AcceptRate(Struct):
    """Counts what was accepted. Times are in seconds of any steady clock; as made, there is no limit.

    Apache Kafka counts samples of a second and has further connections wait while the mean of the last ten is above the
    limit. This one lets as many come at once, and then one by one at the rate instead of in the next burst.
    """

    interval: float = 0.0
    """Between two connections at the rate."""
    burst_seconds: float = 0.0
    due: float = -math.inf
    """When the next one would come if all so far had come at the rate."""

    def limit(self, per_second: int, burst_seconds: float) -> None:
        """So many ``per_second``, and those of ``burst_seconds`` at once; with 0 one in that time."""
        self.interval = 1 / per_second if per_second > 0 else burst_seconds
        self.burst_seconds = burst_seconds

    def pause(self, now: float) -> float:
        """Seconds until another one may be accepted; 0: now."""
        return max(0.0, self.due - self.burst_seconds - now)

    def count(self, now: float) -> None:
        """One was accepted."""
        self.due = max(self.due, now) + self.interval
