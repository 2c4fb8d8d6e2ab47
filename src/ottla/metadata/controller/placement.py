"""Where the replicas of new partitions go: striped over racks, then over brokers (``StripedReplicaPlacer``).

Racks take turns, so do the brokers of a rack; the first replica is always on an unfenced broker. After as many
partitions as there are unfenced brokers everything is shuffled again, so that pairings do not repeat.
"""

from collections.abc import Iterable
from random import Random

from ottla.metadata.image import BrokerRegistration
from ottla.wire.errors import ErrorCode, KafkaError


def place_replicas(
    brokers: Iterable[BrokerRegistration], *, partitions: int, replication_factor: int, rng: Random
) -> list[tuple[int, ...]]:
    """The replicas of each new partition, preferred leader first. Raises InvalidReplicationFactor."""
    racks = _Racks(list(brokers), rng)
    if replication_factor <= 0:
        raise _invalid(f"Invalid replication factor {replication_factor}: the replication factor must be positive.")
    if racks.unfenced_count == 0:
        raise _invalid("All brokers are currently fenced, or have all their log directories cordoned.")
    if replication_factor > racks.total_count:
        raise _invalid(
            f"The target replication factor of {replication_factor} cannot be reached because only "
            f"{racks.total_count} broker(s) are registered or some brokers have all their log directories cordoned."
        )
    return [racks.place(replication_factor) for _ in range(partitions)]


def _invalid(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REPLICATION_FACTOR, message)


class _Stripe:
    """Brokers that take turns; each partition starts one further than the last."""

    def __init__(self, brokers: list[int], rng: Random) -> None:
        self.brokers = sorted(brokers)
        rng.shuffle(self.brokers)
        self._epoch = 0
        self._index = 0
        self._offset = 0

    def next(self, epoch: int) -> int | None:
        if not self.brokers:
            return None
        if self._epoch != epoch:
            self._epoch = epoch
            self._index = 0
            self._offset = (self._offset + 1) % len(self.brokers)
        if self._index >= len(self.brokers):
            return None
        found = self.brokers[(self._index + self._offset) % len(self.brokers)]
        self._index += 1
        return found

    def shuffle(self, rng: Random) -> None:
        rng.shuffle(self.brokers)
        self._epoch = self._index = self._offset = 0


class _Rack:
    def __init__(self, brokers: list[BrokerRegistration], rng: Random) -> None:
        self.unfenced = _Stripe([broker.broker_id for broker in brokers if not broker.fenced], rng)
        self.fenced = _Stripe([broker.broker_id for broker in brokers if broker.fenced], rng)

    def next(self, epoch: int) -> int | None:
        found = self.unfenced.next(epoch)
        return self.fenced.next(epoch) if found is None else found


class _Racks:
    def __init__(self, brokers: list[BrokerRegistration], rng: Random) -> None:
        names = sorted({broker.rack or "" for broker in brokers})
        self._rng = rng
        self._racks = [_Rack([broker for broker in brokers if (broker.rack or "") == name], rng) for name in names]
        rng.shuffle(self._racks)
        self._epoch = 0
        self._offset = 0
        self.unfenced_count = sum(len(rack.unfenced.brokers) for rack in self._racks)
        self.total_count = len(brokers)

    def place(self, replication_factor: int) -> tuple[int, ...]:
        if self._epoch == self.unfenced_count:
            self._shuffle()
        self._offset %= len(self._racks)
        first_rack, leader = self._first(self._offset)
        chosen = [leader]
        rack_index, skip = self._offset, first_rack
        while len(chosen) < replication_factor:
            found = None
            if rack_index == skip:
                # The leader's rack sits out its first turn: the second replica goes elsewhere if it can.
                skip = -1
            else:
                found = self._racks[rack_index].next(self._epoch)
            if found is not None:
                chosen.append(found)
            rack_index = (rack_index + 1) % len(self._racks)
        self._epoch += 1
        self._offset += 1
        return tuple(chosen)

    def _first(self, start: int) -> tuple[int, int]:
        for step in range(len(self._racks)):
            index = (start + step) % len(self._racks)
            found = self._racks[index].unfenced.next(self._epoch)
            if found is not None:
                return index, found
        raise AssertionError("an unfenced broker was counted but none was found")

    def _shuffle(self) -> None:
        self._epoch = 0
        self._rng.shuffle(self._racks)
        for rack in self._racks:
            rack.unfenced.shuffle(self._rng)
            rack.fenced.shuffle(self._rng)
