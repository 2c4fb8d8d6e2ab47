"""Fetch sessions: who gets one, what an incremental answer holds, and that it adds up to the full one."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ottla.model import Uuid
from ottla.replication.fetch_session import (
    EPOCH_MAX,
    FINAL_EPOCH,
    NO_SESSION,
    FetchContext,
    FetchPartition,
    FetchSessionCache,
    PartitionKey,
    PartitionOutcome,
)
from ottla.wire.errors import ErrorCode, KafkaError

QUIET = PartitionOutcome(records_bytes=0, high_watermark=5, log_start_offset=0)


def wishes(count: int, name: str = "t") -> dict[PartitionKey, FetchPartition]:
    return {(name, n): FetchPartition(fetch_offset=0, max_bytes=1000) for n in range(count)}


def cache(**options: int) -> FetchSessionCache:
    return FetchSessionCache(rng=Random(1), **options)


def created(sessions: FetchSessionCache, count: int = 3, now_ms: int = 0, *, from_follower: bool = False) -> int:
    context = sessions.open(0, 0, wishes(count), uses_topic_ids=False, from_follower=from_follower, now_ms=now_ms)
    return context.finish(dict.fromkeys(context.partitions, QUIET), now_ms).session_id


def continued(sessions: FetchSessionCache, session_id: int, epoch: int, now_ms: int = 0) -> FetchContext:
    return sessions.open(session_id, epoch, {}, uses_topic_ids=False, now_ms=now_ms)


def refused(sessions: FetchSessionCache, session_id: int, epoch: int, *, uses_topic_ids: bool = False) -> ErrorCode:
    with pytest.raises(KafkaError) as caught:
        sessions.open(session_id, epoch, {}, uses_topic_ids=uses_topic_ids, now_ms=0)
    return caught.value.code


def test_a_session_goes_on_with_its_next_epoch() -> None:
    sessions = cache()
    session_id = created(sessions)
    assert session_id > 0
    context = continued(sessions, session_id, 1)
    assert list(context.partitions) == [("t", 0), ("t", 1), ("t", 2)]
    answer = context.finish(dict.fromkeys(context.partitions, QUIET), 0)
    assert (answer.error_code, answer.session_id, answer.partitions) == (ErrorCode.NONE, session_id, [])
    assert refused(sessions, session_id, 1) is ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert refused(sessions, session_id, 3) is ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert continued(sessions, session_id, 2).session_id == session_id
    assert refused(sessions, session_id + 1, 1) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_epochs_wrap_to_one() -> None:
    sessions = cache()
    session_id = created(sessions)
    sessions._sessions[session_id].epoch = EPOCH_MAX
    continued(sessions, session_id, EPOCH_MAX)
    assert continued(sessions, session_id, 1).session_id == session_id


def test_epoch_zero_replaces_and_minus_one_closes_a_session() -> None:
    sessions = cache()
    first = created(sessions)
    context = sessions.open(first, 0, wishes(1), uses_topic_ids=False, now_ms=0)
    second = context.finish({("t", 0): QUIET}, 0).session_id
    assert second not in (NO_SESSION, first)
    assert len(sessions) == 1
    context = sessions.open(second, FINAL_EPOCH, wishes(1), uses_topic_ids=False, now_ms=0)
    answer = context.finish({("t", 0): QUIET}, 0)
    assert (answer.session_id, answer.partitions) == (NO_SESSION, [("t", 0)])
    assert (len(sessions), sessions.partitions_cached) == (0, 0)


def test_sessions_stay_with_names_or_ids() -> None:
    sessions = cache()
    by_name = created(sessions)
    assert refused(sessions, by_name, 1, uses_topic_ids=True) is ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR
    key = (Uuid.ONE, 0)
    context = sessions.open(0, 0, {key: FetchPartition(0, 1)}, uses_topic_ids=True, now_ms=0)
    by_id = context.finish({key: QUIET}, 0).session_id
    assert refused(sessions, by_id, 1) is ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR
    assert list(sessions.open(by_id, 1, {}, uses_topic_ids=True, now_ms=0).partitions) == [key]


def test_requests_change_add_and_forget_partitions() -> None:
    sessions = cache()
    session_id = created(sessions)
    changed = {("t", 1): FetchPartition(9, 1000), ("u", 0): FetchPartition(3, 10)}
    context = sessions.open(session_id, 1, changed, [("t", 0), ("x", 5)], uses_topic_ids=False, now_ms=0)
    assert list(context.partitions) == [("t", 1), ("t", 2), ("u", 0)]
    assert context.partitions["t", 1].fetch_offset == 9
    answer = context.finish(dict.fromkeys(context.partitions, QUIET), 0)
    assert answer.partitions == [("u", 0)]
    assert sessions.partitions_cached == 3


def test_a_session_without_partitions_is_closed() -> None:
    sessions = cache()
    session_id = created(sessions, 1)
    context = sessions.open(session_id, 1, {}, [("t", 0)], uses_topic_ids=False, now_ms=0)
    assert context.finish({}, 0).session_id == NO_SESSION
    assert len(sessions) == 0


NEWS = {
    "records": replace(QUIET, records_bytes=10),
    "high watermark": replace(QUIET, high_watermark=6),
    "log start": replace(QUIET, log_start_offset=1),
    "error": replace(QUIET, error_code=6, high_watermark=-1),
    "preferred replica": replace(QUIET, preferred_replica=True),
    "diverging epoch": replace(QUIET, diverging_epoch=True),
}


@pytest.mark.parametrize("news", NEWS.values(), ids=NEWS.keys())
def test_only_news_is_answered(news: PartitionOutcome) -> None:
    sessions = cache()
    session_id = created(sessions)
    outcomes = {("t", 0): QUIET, ("t", 1): news, ("t", 2): QUIET}
    assert continued(sessions, session_id, 1).finish(outcomes, 0).partitions == [("t", 1)]


def test_what_follows_an_error_is_news() -> None:
    sessions = cache()
    session_id = created(sessions, 1)
    for epoch, error, included in ((1, 6, 1), (2, 0, 1), (3, 0, 0)):
        outcome = replace(QUIET, error_code=error)
        assert len(continued(sessions, session_id, epoch).finish({("t", 0): outcome}, 0).partitions) == included


def test_partitions_with_data_go_to_the_end_of_the_line() -> None:
    sessions = cache()
    session_id = created(sessions)
    outcomes = {("t", 0): replace(QUIET, records_bytes=1), ("t", 1): QUIET, ("t", 2): QUIET}
    continued(sessions, session_id, 1).finish(outcomes, 0)
    assert list(continued(sessions, session_id, 2).partitions) == [("t", 1), ("t", 2), ("t", 0)]


def test_an_answer_overtaken_by_the_next_request_is_an_error() -> None:
    sessions = cache()
    session_id = created(sessions)
    slow = continued(sessions, session_id, 1)
    continued(sessions, session_id, 2)
    answer = slow.finish({}, 0)
    assert (answer.error_code, answer.session_id) == (ErrorCode.INVALID_FETCH_SESSION_EPOCH, session_id)
    assert slow.throttled().error_code is ErrorCode.INVALID_FETCH_SESSION_EPOCH


def test_a_full_cache_gives_no_session() -> None:
    sessions = cache(slots=2)
    kept = [created(sessions) for _ in range(2)]
    assert created(sessions, 100) == NO_SESSION
    for session_id in kept:
        assert continued(sessions, session_id, 1).session_id == session_id


def test_sessions_unused_for_two_minutes_give_way() -> None:
    sessions = cache(slots=2)
    first, second = created(sessions), created(sessions)
    continued(sessions, first, 1, now_ms=100_000)
    assert created(sessions, now_ms=120_000) == NO_SESSION
    assert created(sessions, 1, now_ms=120_001) != NO_SESSION
    assert refused(sessions, second, 1) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert continued(sessions, first, 2).session_id == first
    assert sessions.evictions == 1


def test_settled_sessions_give_way_to_larger_ones() -> None:
    sessions = cache(slots=2)
    small, large = created(sessions, 2), created(sessions, 4)
    for session_id in (small, large):
        continued(sessions, session_id, 1, now_ms=120_001)
    assert created(sessions, 2, now_ms=120_002) == NO_SESSION
    assert created(sessions, 3, now_ms=120_002) != NO_SESSION
    assert refused(sessions, small, 2) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_followers_displace_consumers_but_not_the_other_way() -> None:
    sessions = cache(slots=1)
    consumer = created(sessions, 100)
    follower = created(sessions, 1, from_follower=True)
    assert follower != NO_SESSION
    assert refused(sessions, consumer, 1) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    continued(sessions, follower, 1, now_ms=120_001)
    assert created(sessions, 100, now_ms=120_002) == NO_SESSION


outcomes = st.builds(
    PartitionOutcome,
    records_bytes=st.sampled_from((0, 0, 7)),
    high_watermark=st.integers(0, 3),
    log_start_offset=st.integers(0, 1),
    error_code=st.sampled_from((0, 0, 0, 6)),
)
rounds = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5))),
        st.sets(st.integers(0, 3)),
        st.lists(outcomes, min_size=4, max_size=4),
    ),
    max_size=10,
)


@given(rounds=rounds)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_incremental_answers_add_up_to_full_ones(
    rounds: list[tuple[list[tuple[int, int]], set[int], list[PartitionOutcome]]],
) -> None:
    """A client that applies only what it is told knows what one knows that fetches everything every time."""
    sessions = cache()
    wanted = {("t", n): FetchPartition(0, 1000) for n in range(2)}
    session_id = epoch = 0
    known: dict[PartitionKey, PartitionOutcome] = {}
    first = True
    for changes, forgotten, now in rounds:
        gone = [("t", n) for n in sorted(forgotten) if ("t", n) in wanted and not first]
        delta = dict(wanted) if first else {("t", n): FetchPartition(offset, 1000) for n, offset in changes}
        delta = {key: wish for key, wish in delta.items() if key not in gone}
        wanted = {key: wish for key, wish in (wanted | delta).items() if key not in gone}
        known = {key: outcome for key, outcome in known.items() if key in wanted}
        context = sessions.open(session_id, epoch, delta, gone, uses_topic_ids=False, now_ms=0)
        if first or wanted:
            assert dict(context.partitions) == wanted
        full = {key: now[key[1]] for key in context.partitions}
        answer = context.finish(full, 0)
        told = {key: full[key] for key in answer.partitions}
        known |= told
        for key, outcome in full.items():
            assert known[key].high_watermark == outcome.high_watermark
            assert known[key].log_start_offset == outcome.log_start_offset
            assert known[key].error_code == outcome.error_code
            assert (key in told) or not (outcome.records_bytes or outcome.error_code)
        if answer.session_id == NO_SESSION:
            break
        session_id = answer.session_id
        epoch, first = epoch + 1, False
