"""One broker's fetch session (KIP-227): only what changed since the last request is named.

Most often that is that one partition was read on. Such a request differs from the one before in two numbers only, and
its answer in three and the records, so both have a mold for each partition (``wire.mold``).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from msgspec import Struct

from ottla.model import TopicPartition, Uuid
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode
from ottla.wire.fetch_mold import fetch_mold
from ottla.wire.frame import RequestHeader
from ottla.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic
from ottla.wire.mold import Filled, NumbersMold

TOPIC_ID_VERSION: Final = 13
"""From here on Fetch names topics by id."""
EPOCH_MAX: Final = 2**31 - 1
SESSION_LOST: Final = frozenset(
    (
        ErrorCode.FETCH_SESSION_ID_NOT_FOUND,
        ErrorCode.INVALID_FETCH_SESSION_EPOCH,
        ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INCONSISTENT_TOPIC_ID,
    )
)


class FetchSettings(Struct, frozen=True, kw_only=True):
    """How to fetch, and how much may wait to be read."""

    max_wait_ms: int = 500
    min_bytes: int = 1
    max_bytes: int = 16 * 1024 * 1024
    partition_max_bytes: int = 4 * 1024 * 1024
    stock_bytes_max: int = 32 * 1024 * 1024
    read_committed: bool = False
    rack: str = ""


class Wanted(NamedTuple):
    """From where to fetch a partition, of which topic id, under which leader epoch (-1: unknown)."""

    offset: int
    topic_id: Uuid
    leader_epoch: int


Read = Callable[[bytes], Filled | None]


class _Molds(NamedTuple):
    request: NumbersMold
    read: Read | None
    """There from ``TOPIC_ID_VERSION`` on."""


class FetchSession:
    """What the broker remembers of us, and the next request."""

    __slots__ = ("_molds", "_moved", "_sent", "_spoken", "epoch", "session_id")

    def __init__(self) -> None:
        self.session_id = 0
        self.epoch = 0
        self._sent: dict[TopicPartition, Wanted] = {}
        self._moved: dict[TopicPartition, int] = {}
        """Offsets sent since by ``frame``."""
        self._molds: dict[TopicPartition, _Molds] = {}
        self._spoken: tuple[FetchSettings, int] | None = None
        """How the last request was made: settings and version."""

    def request(self, wanted: Mapping[TopicPartition, Wanted], settings: FetchSettings, version: int) -> FetchRequest:
        """The request after which the session holds ``wanted`` and nothing else."""
        changed, forgotten = self._changes(wanted)
        if self._spoken != (settings, version):
            self._spoken = settings, version
            self._molds.clear()
        return self._request(changed, forgotten, self.epoch)

    def frame(
        self, place: TopicPartition, offset: int, client_id: str, correlation_id: int
    ) -> tuple[bytes, Read | None]:
        """The next request, whole as it is sent, where since the last one only the offset of ``place`` has changed; and
        what reads an answer that has records of that partition and nothing else: high watermark, last stable offset
        and log start offset."""
        molds = self._molds.get(place)
        if molds is None:
            molds = self._molds[place] = self._make_molds(place, client_id)
        self._moved[place] = offset
        return molds.request.frame(correlation_id, self.epoch, offset), molds.read

    def answered(self, session_id: int) -> None:
        """The broker keeps the session, or none (0)."""
        if session_id != self.session_id:
            self._molds.clear()
        self.session_id = session_id
        self.epoch = 0 if session_id == 0 else self.epoch % EPOCH_MAX + 1

    def reset(self) -> None:
        """Begin anew with a full request."""
        self.session_id = self.epoch = 0
        self._sent = {}
        self._moved.clear()
        self._molds.clear()

    def _make_molds(self, place: TopicPartition, client_id: str) -> _Molds:
        assert self._spoken is not None, "the first request names everything"
        want, (settings, version) = self._sent[place], self._spoken

        def moved(epoch: int, offset: int) -> FetchRequest:
            return self._request({place: want._replace(offset=offset)}, (), epoch)

        request = NumbersMold(RequestHeader(ApiKey.FETCH, version, 0, client_id), "iq", moved)
        if version < TOPIC_ID_VERSION:
            return _Molds(request, None)
        answer = fetch_mold(
            version, self.session_id, want.topic_id, place.partition, looks_for_aborted=settings.read_committed
        )
        return _Molds(request, answer.read)

    def _request(
        self, changed: Mapping[TopicPartition, Wanted], forgotten: Iterable[tuple[str, Uuid, int]], epoch: int
    ) -> FetchRequest:
        assert self._spoken is not None
        settings, version = self._spoken
        by_id = version >= TOPIC_ID_VERSION
        topics: dict[tuple[str, Uuid], FetchTopic] = {}
        for place, want in changed.items():
            entry = topics.get((place.topic, want.topic_id))
            if entry is None:
                entry = FetchTopic(topic_id=want.topic_id) if by_id else FetchTopic(topic=place.topic)
                entry.partitions = []
                topics[place.topic, want.topic_id] = entry
            entry.partitions.append(
                FetchPartition(
                    partition=place.partition,
                    fetch_offset=want.offset,
                    current_leader_epoch=want.leader_epoch,
                    partition_max_bytes=settings.partition_max_bytes,
                )
            )
        return FetchRequest(
            max_wait_ms=settings.max_wait_ms,
            min_bytes=settings.min_bytes,
            max_bytes=settings.max_bytes,
            isolation_level=int(settings.read_committed),
            session_id=self.session_id,
            session_epoch=epoch,
            topics=list(topics.values()),
            forgotten_topics_data=_forgotten(forgotten, by_id=by_id),
            rack_id=settings.rack,
        )

    def _changes(
        self, wanted: Mapping[TopicPartition, Wanted]
    ) -> tuple[Mapping[TopicPartition, Wanted], list[tuple[str, Uuid, int]]]:
        """What to name and what to forget. A topic that was made anew is another topic, so its id is compared too."""
        sent, self._sent = self._sent, dict(wanted)
        for place, offset in self._moved.items():
            sent[place] = sent[place]._replace(offset=offset)
        self._moved.clear()
        if self.epoch == 0:
            return wanted, []
        changed = {place: want for place, want in wanted.items() if sent.get(place) != want}
        for place, before in sent.items():
            if place not in wanted or wanted[place][1:] != before[1:]:
                self._molds.pop(place, None)
        forgotten = [
            (place.topic, want.topic_id, place.partition)
            for place, want in sent.items()
            if place not in wanted or wanted[place].topic_id != want.topic_id
        ]
        return changed, forgotten


def _forgotten(places: Iterable[tuple[str, Uuid, int]], *, by_id: bool) -> list[ForgottenTopic]:
    numbers: defaultdict[tuple[str, Uuid], list[int]] = defaultdict(list)
    for topic, topic_id, partition in places:
        numbers[topic, topic_id].append(partition)
    make: Callable[..., ForgottenTopic] = ForgottenTopic
    return [
        make(topic_id=topic_id, partitions=partitions) if by_id else make(topic=topic, partitions=partitions)
        for (topic, topic_id), partitions in numbers.items()
    ]
