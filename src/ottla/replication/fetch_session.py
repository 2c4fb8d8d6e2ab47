"""Fetch sessions (KIP-227, with topic ids KIP-516).

The broker remembers what a client fetches, so that a request carries only what changed and an answer only what is new.
A request names a session and an epoch. Epoch 0 asks for everything and for a new session; epoch -1 asks for everything
without one, and closes the named one; any other must be the session's next. Partitions are keyed by ``(topic id or
name, partition)``: by id in sessions of Fetch 13 and later, by name before; finding names of ids is the caller's.

The cache holds a number of sessions. A new one takes the place of one unused for two minutes, or of a settled one (one
older than that) that is worth less: a consumer's before a follower's, the smaller before the larger; a follower's may
also displace a consumer's that is not settled. Where none gives way the client is told session id 0 and goes without.
"""

from collections.abc import Iterable, Mapping
from random import Random
from typing import Final, NamedTuple

from msgspec import Struct

from ottla.model import Uuid
from ottla.wire.errors import ErrorCode, KafkaError

__all__ = [
    "FINAL_EPOCH",
    "INITIAL_EPOCH",
    "NO_SESSION",
    "FetchAnswer",
    "FetchContext",
    "FetchPartition",
    "FetchSession",
    "FetchSessionCache",
    "PartitionKey",
    "PartitionOutcome",
]

NO_SESSION: Final = 0
INITIAL_EPOCH: Final = 0
FINAL_EPOCH: Final = -1
EPOCH_MAX: Final = 2**31 - 1
SLOTS_DEFAULT: Final = 1000
EVICTION_MS_DEFAULT: Final = 120_000
NO_HIGH_WATERMARK: Final = -1
_NOTHING_TOLD: Final = (NO_HIGH_WATERMARK, -1)

PartitionKey = tuple[Uuid | str, int]


class FetchPartition(NamedTuple):
    """What a client wants of one partition. -1 stands for no epoch and, in a consumer's, for no log start offset."""

    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int = -1
    last_fetched_epoch: int = -1
    log_start_offset: int = -1


class PartitionOutcome(Struct, frozen=True, gc=False):
    """What decides whether an incremental answer includes a partition."""

    records_bytes: int
    high_watermark: int
    log_start_offset: int
    error_code: int = 0
    preferred_replica: bool = False
    diverging_epoch: bool = False


class FetchAnswer(Struct, frozen=True):
    """The session's part of an answer: its error and id, and the partitions to include, in order."""

    error_code: ErrorCode
    session_id: int
    partitions: list[PartitionKey]


class FetchSession:
    """One client's partitions.

    ``partitions`` is in the order in which they are read: those that had data go last. ``told`` is what the client
    was told last of each: high watermark and log start offset.
    """

    __slots__ = (
        "created_ms",
        "epoch",
        "from_follower",
        "last_used_ms",
        "memo",
        "partitions",
        "session_id",
        "settled",
        "size",
        "told",
        "uses_topic_ids",
    )

    def __init__(
        self,
        session_id: int,
        partitions: dict[PartitionKey, FetchPartition],
        told: dict[PartitionKey, tuple[int, int]],
        *,
        from_follower: bool,
        uses_topic_ids: bool,
        now_ms: int,
    ) -> None:
        self.session_id = session_id
        self.partitions = partitions
        self.told = told
        self.from_follower = from_follower
        self.uses_topic_ids = uses_topic_ids
        self.created_ms = now_ms
        self.last_used_ms = now_ms
        self.epoch = 1
        self.settled = False
        self.size = len(partitions)
        """As of its last use, as is ``settled``."""
        self.memo: object = None
        """What whoever writes the answers wants to find again at the session's next."""

    @property
    def worth(self) -> tuple[bool, int, int]:
        return self.from_follower, self.size, self.session_id


class FetchContext:
    """One fetch: ``partitions`` are to be read in their order, then ``finish`` says what the answer holds.

    For an incremental fetch ``partitions`` is the session's own, which the client's next request changes; that makes
    an answer still owed to this one an error. ``finish`` must come once.
    """

    __slots__ = ("_cache", "_create", "_session", "from_follower", "partitions", "uses_topic_ids")

    def __init__(
        self,
        cache: "FetchSessionCache",
        partitions: Mapping[PartitionKey, FetchPartition],
        *,
        session: FetchSession | None = None,
        create: bool = False,
        from_follower: bool = False,
        uses_topic_ids: bool = False,
    ) -> None:
        self.partitions = partitions
        self.from_follower = from_follower
        self.uses_topic_ids = uses_topic_ids
        self._cache = cache
        self._session = None if session is None else (session, session.epoch)
        self._create = create

    @property
    def session_id(self) -> int:
        """The session continued here; a new one has no id before ``finish``."""
        return NO_SESSION if self._session is None else self._session[0].session_id

    @property
    def session(self) -> FetchSession | None:
        """The session continued here; a new one is not there before ``finish``."""
        return None if self._session is None else self._session[0]

    def finish(self, outcomes: Mapping[PartitionKey, PartitionOutcome], now_ms: int) -> FetchAnswer:
        """Decide which of ``outcomes`` are answered, and remember that they were."""
        if self._session is None:
            session_id = NO_SESSION
            if self._create:
                session_id = self._cache.create(self, outcomes, now_ms)
            return FetchAnswer(ErrorCode.NONE, session_id, list(outcomes))
        session, epoch = self._session
        if session.epoch != epoch:
            return FetchAnswer(ErrorCode.INVALID_FETCH_SESSION_EPOCH, session.session_id, [])
        included: list[PartitionKey] = []
        told, partitions = session.told, session.partitions
        for key, outcome in outcomes.items():
            known = told.get(key)
            if known is None:
                continue
            ends = outcome.high_watermark, outcome.log_start_offset
            if known == ends and not (
                outcome.records_bytes or outcome.error_code or outcome.preferred_replica or outcome.diverging_epoch
            ):
                continue
            included.append(key)
            told[key] = _told(outcome)
            if outcome.records_bytes:
                partitions[key] = partitions.pop(key)
        return FetchAnswer(ErrorCode.NONE, session.session_id, included)

    def throttled(self) -> FetchAnswer:
        """An answer without partitions, for a client that has to wait. Takes the place of ``finish``."""
        if self._session is None:
            return FetchAnswer(ErrorCode.NONE, NO_SESSION, [])
        session, epoch = self._session
        error = ErrorCode.NONE if session.epoch == epoch else ErrorCode.INVALID_FETCH_SESSION_EPOCH
        return FetchAnswer(error, session.session_id, [])


class FetchSessionCache:
    """All sessions of a broker. Session ids come from ``rng``."""

    __slots__ = ("_rng", "_sessions", "eviction_ms", "evictions", "partitions_cached", "slots")

    def __init__(self, *, rng: Random, slots: int = SLOTS_DEFAULT, eviction_ms: int = EVICTION_MS_DEFAULT) -> None:
        self.slots = slots
        self.eviction_ms = eviction_ms
        self.evictions = 0
        self.partitions_cached = 0
        self._rng = rng
        self._sessions: dict[int, FetchSession] = {}
        """In the order of last use."""

    def __len__(self) -> int:
        return len(self._sessions)

    def open(
        self,
        session_id: int,
        session_epoch: int,
        partitions: Mapping[PartitionKey, FetchPartition],
        forgotten: Iterable[PartitionKey] = (),
        *,
        uses_topic_ids: bool,
        from_follower: bool = False,
        now_ms: int,
    ) -> FetchContext:
        """Begin a fetch.

        Raises ``KafkaError`` for the whole answer: FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH,
        FETCH_SESSION_TOPIC_ID_ERROR (a session does not change between names and ids).
        """
        if session_epoch in (INITIAL_EPOCH, FINAL_EPOCH):
            if session_id != NO_SESSION:
                self.close(session_id)
            return FetchContext(
                self,
                partitions,
                create=session_epoch == INITIAL_EPOCH,
                from_follower=from_follower,
                uses_topic_ids=uses_topic_ids,
            )
        session = self._continued(session_id, session_epoch, uses_topic_ids)
        for key, wish in partitions.items():
            session.partitions[key] = wish
            session.told.setdefault(key, _NOTHING_TOLD)
        for key in forgotten:
            if session.partitions.pop(key, None) is not None:
                del session.told[key]
        if not session.partitions:
            self.close(session_id)
            return FetchContext(self, partitions, from_follower=from_follower, uses_topic_ids=uses_topic_ids)
        self._touch(session, now_ms)
        session.epoch = _next_epoch(session.epoch)
        return FetchContext(
            self,
            session.partitions,
            session=session,
            from_follower=from_follower,
            uses_topic_ids=uses_topic_ids,
        )

    def close(self, session_id: int) -> bool:
        """Forget a session; whether there was one."""
        session = self._sessions.pop(session_id, None)
        if session is None:
            return False
        self.partitions_cached -= session.size
        return True

    def create(self, context: FetchContext, outcomes: Mapping[PartitionKey, PartitionOutcome], now_ms: int) -> int:
        """A session of the partitions answered by ``context``; its id, or ``NO_SESSION`` where there is no room."""
        if len(self._sessions) >= self.slots and not self._evict(context.from_follower, len(outcomes), now_ms):
            return NO_SESSION
        partitions = {key: context.partitions[key] for key in outcomes}
        told = {key: _told(outcome) for key, outcome in outcomes.items()}
        session_id = self._rng.randrange(1, EPOCH_MAX)
        while session_id in self._sessions:
            session_id = self._rng.randrange(1, EPOCH_MAX)
        self._sessions[session_id] = FetchSession(
            session_id,
            partitions,
            told,
            from_follower=context.from_follower,
            uses_topic_ids=context.uses_topic_ids,
            now_ms=now_ms,
        )
        self.partitions_cached += len(partitions)
        return session_id

    def _continued(self, session_id: int, session_epoch: int, uses_topic_ids: bool) -> FetchSession:
        session = self._sessions.get(session_id)
        if session is None:
            raise KafkaError(ErrorCode.FETCH_SESSION_ID_NOT_FOUND, f"no fetch session {session_id}")
        if session.epoch != session_epoch:
            raise KafkaError(
                ErrorCode.INVALID_FETCH_SESSION_EPOCH,
                f"fetch session {session_id} expects epoch {session.epoch}, not {session_epoch}",
            )
        if session.uses_topic_ids != uses_topic_ids:
            raise KafkaError(
                ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR,
                f"fetch session {session_id} {'uses' if session.uses_topic_ids else 'does not use'} topic ids",
            )
        return session

    def _touch(self, session: FetchSession, now_ms: int) -> None:
        del self._sessions[session.session_id]
        self._sessions[session.session_id] = session
        session.last_used_ms = now_ms
        session.settled = now_ms - session.created_ms > self.eviction_ms
        self.partitions_cached += len(session.partitions) - session.size
        session.size = len(session.partitions)

    def _evict(self, from_follower: bool, size: int, now_ms: int) -> bool:
        """Make room for a session of ``size`` partitions; whether one gave way."""
        oldest = next(iter(self._sessions.values()), None)
        if oldest is None:
            return False
        if now_ms - oldest.last_used_ms > self.eviction_ms:
            victim = oldest
        else:
            candidates = [
                session
                for session in self._sessions.values()
                if session.settled or (from_follower and not session.from_follower)
            ]
            if not candidates:
                return False
            victim = min(candidates, key=_worth)
            if (from_follower, size, 0) < victim.worth:
                return False
        self.close(victim.session_id)
        self.evictions += 1
        return True


def _told(outcome: PartitionOutcome) -> tuple[int, int]:
    """What to remember of an outcome: an error makes the next success news again."""
    return NO_HIGH_WATERMARK if outcome.error_code else outcome.high_watermark, outcome.log_start_offset


def _worth(session: FetchSession) -> tuple[bool, int, int]:
    return session.worth


def _next_epoch(epoch: int) -> int:
    return 1 if epoch == EPOCH_MAX else epoch + 1
