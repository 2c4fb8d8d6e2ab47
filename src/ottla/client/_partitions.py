"""The partitions a consumer reads, and how far: where to fetch next, what was handed out, what was dealt with.

Three offsets a partition, each at most the one before: ``fetched`` (the end of what was fetched), ``position`` (the end
of what the application was handed), ``finished`` (the end of what it has come back from: what may be committed for it).
A seek, a pause, a new assignment make a new ``Reading``; answers and records for an old one are dropped by identity.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from ottla.model import TopicPartition, Uuid

UNKNOWN: Final = -1


class Reading:
    """One partition being read."""

    __slots__ = (
        "end_offset",
        "epoch",
        "fetched",
        "finished",
        "high_watermark",
        "paused",
        "place",
        "position",
        "replica",
        "replica_until",
        "reset_to",
        "stale",
        "start_offset",
        "stocked_bytes",
        "topic_id",
        "validated_epoch",
    )

    def __init__(self, place: TopicPartition, offset: int = UNKNOWN, *, epoch: int = -1, paused: bool = False) -> None:
        self.place = place
        self.topic_id = Uuid.ZERO
        """The topic in which the offsets are ones, as far as known: another one may come to have its name."""
        self.fetched = self.position = self.finished = offset
        self.epoch = epoch
        """Leader epoch of the last batch that was fetched."""
        self.validated_epoch = -1
        """The leader epoch under which ``fetched`` is known to be in the log (KIP-320)."""
        self.paused = paused
        self.stale = False
        """Nobody is known to ask for it: wait for metadata."""
        self.reset_to: int | None = None
        """A timestamp to look up the position by, before anything is fetched."""
        self.replica = -1
        """The follower to read from (KIP-392), or -1: the leader."""
        self.replica_until = 0.0
        self.high_watermark = self.end_offset = self.start_offset = UNKNOWN
        self.stocked_bytes = 0

    @property
    def fetchable(self) -> bool:
        return self.fetched >= 0 and not self.paused and not self.stale and self.reset_to is None

    def move(self, offset: int, epoch: int = -1) -> None:
        """Read from here on."""
        self.fetched = self.position = self.finished = offset
        self.epoch, self.validated_epoch = epoch, -1
        self.reset_to = None

    def anew(self) -> "Reading":
        """The same reading without anything on its way."""
        copy = Reading(self.place, self.position, epoch=self.epoch, paused=self.paused)
        copy.topic_id, copy.finished, copy.reset_to = self.topic_id, self.finished, self.reset_to
        copy.high_watermark, copy.end_offset, copy.start_offset = (
            self.high_watermark,
            self.end_offset,
            self.start_offset,
        )
        return copy


class Readings:
    """All of them, by partition."""

    __slots__ = ("_by_place", "generation")

    def __init__(self) -> None:
        self._by_place: dict[TopicPartition, Reading] = {}
        self.generation = 0
        """Another number after each change of which readings there are."""

    def __contains__(self, place: object) -> bool:
        return place in self._by_place

    def __len__(self) -> int:
        return len(self._by_place)

    def get(self, place: TopicPartition) -> Reading | None:
        return self._by_place.get(place)

    def places(self) -> frozenset[TopicPartition]:
        return frozenset(self._by_place)

    def all(self) -> list[Reading]:
        return list(self._by_place.values())

    def current(self, reading: Reading) -> bool:
        """Whether this is still how its partition is read."""
        return self._by_place.get(reading.place) is reading

    def takes(self, reading: Reading, offset: int) -> bool:
        """Whether what was fetched of it from ``offset`` on is still what comes next."""
        # The conditions of ``fetchable`` in line: this is on the way of each record that somebody waits for.
        return (
            reading.fetched == offset >= 0
            and not (reading.paused or reading.stale)
            and reading.reset_to is None
            and self._by_place.get(reading.place) is reading
        )

    def put(self, reading: Reading) -> None:
        self._by_place[reading.place] = reading
        self.generation += 1

    def drop(self, places: Iterable[TopicPartition]) -> None:
        for place in places:
            self._by_place.pop(place, None)
        self.generation += 1

    def topics(self) -> set[str]:
        return {place.topic for place in self._by_place}

    def finished(self) -> Mapping[TopicPartition, tuple[int, int]]:
        """Offset and leader epoch that may be committed of each partition that has a certain position."""
        return {
            place: (reading.finished, reading.epoch)
            for place, reading in self._by_place.items()
            if reading.finished >= 0 and reading.reset_to is None
        }
