"""Which transactions are said to hang where no single node can show it: coordinators out of reach, ends in between."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import pytest

from ottla.cli.connection import Connection
from ottla.cli.main import run
from ottla.client import ErrorCode, KafkaError, PartitionMetadata, TopicMetadata
from ottla.client._admin_transactions import ProducerState, TransactionDescription, TransactionListing
from ottla.model import TopicPartition, Uuid

CLIENT, COORDINATOR = "orders", "__transaction_state"
PLACE = TopicPartition(CLIENT, 0)


def topic(name: str, *leaders: int) -> TopicMetadata:
    partitions = {
        number: PartitionMetadata(partition=number, leader=leader, leader_epoch=1, replicas=(1,), isr=(1,), offline=())
        for number, leader in enumerate(leaders)
    }
    return TopicMetadata(name=name, topic_id=Uuid(bytes(16)), internal=name != CLIENT, partitions=partitions)


def open_since(offset: int, producer_id: int = 7) -> ProducerState:
    """A producer that was last heard of in 1970."""
    return ProducerState(
        producer_id=producer_id,
        producer_epoch=0,
        last_sequence=0,
        last_timestamp=0,
        coordinator_epoch=0,
        transaction_start_offset=offset,
    )


class Cluster:
    """Answers as an ``Admin`` would: one transaction of producer 7 is open in `orders-0`, and nobody knows of it."""

    def __init__(self) -> None:
        self.topics = [topic(CLIENT, 1), topic(COORDINATOR, 1, 1, 1)]
        self.producers: dict[TopicPartition, list[ProducerState]] = {PLACE: [open_since(5)]}
        self.known: dict[str, tuple[int, Sequence[TopicPartition]]] = {}
        self.expired: set[str] = set()
        """Listed, and gone when they are asked about."""
        self.refused: Exception | None = None
        self.asked: list[list[TopicPartition]] = []
        self.before_last_question: Callable[[], object] = lambda: None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def list_topics(self, *, internal: bool) -> list[TopicMetadata]:
        assert internal
        return self.topics

    async def describe_topics(self, names: Sequence[str]) -> list[TopicMetadata]:
        return [one for one in self.topics if one.name in names]

    async def describe_producers(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, list[ProducerState]]:
        self.asked.append(list(places))
        if len(self.asked) > 1:
            self.before_last_question()
        return {place: self.producers.get(place, []) for place in self.asked[-1]}

    async def list_transactions(self, *, all_brokers: bool) -> list[TransactionListing]:
        assert all_brokers, "one broker that is not asked may know the transaction"
        if self.refused is not None:
            raise self.refused
        return [
            TransactionListing(transactional_id=name, producer_id=producer_id, state="Ongoing")
            for name, (producer_id, _) in self.known.items()
        ]

    async def describe_transactions(self, names: Sequence[str]) -> dict[str, TransactionDescription | KafkaError]:
        return {
            name: KafkaError(ErrorCode.TRANSACTIONAL_ID_NOT_FOUND, "no such id")
            if name in self.expired
            else TransactionDescription(
                transactional_id=name,
                state="Ongoing",
                producer_id=self.known[name][0],
                producer_epoch=0,
                timeout_ms=60_000,
                started_at=0,
                partitions=tuple(self.known[name][1]),
                coordinator=1,
            )
            for name in names
        }


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(Connection, "admin", lambda _self: made)
    return made


@pytest.fixture
def find(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """What `txn find-hanging` prints: (partition, producer, open since), and what it says on stderr."""

    def ask(*arguments: str, code: int = 0) -> tuple[list[tuple[int, int, int]], str]:
        ended = run(["txn", "find-hanging", "-o", "json", *arguments])
        printed = capsys.readouterr()
        assert ended == code, printed
        rows = json.loads(printed.out) if printed.out else []
        return [(row["partition"], row["producer_id"], row["open_since_offset"]) for row in rows], printed.err

    return ask


def test_nobody_knows_it(cluster: Cluster, find: Callable[..., Any]) -> None:
    assert find() == ([(0, 7, 5)], "")
    cluster.known = {"another": (8, [PLACE]), "elsewhere": (7, [TopicPartition("payments", 0)])}
    assert find() == ([(0, 7, 5)], "")
    cluster.known = {"mine": (7, [PLACE])}
    assert find() == ([], "")


def test_without_all_coordinators_nothing_is_said(cluster: Cluster, find: Callable[..., Any]) -> None:
    cluster.topics = [topic(CLIENT, 1), topic(COORDINATOR, 1, -1, 1, -1)]
    rows, said = find("--topic", CLIENT, code=1)
    assert rows == []
    assert "COORDINATOR_NOT_AVAILABLE" in said
    assert "nobody leads __transaction_state-1, __transaction_state-3: it may know more" in said

    assert run(["txn", "abort", CLIENT, "0", "--start-offset", "5", "--yes"]) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, "later"), 1),
        (ConnectionRefusedError("broker 2"), 3),
    ],
)
def test_a_coordinator_that_does_not_answer(
    cluster: Cluster, find: Callable[..., Any], error: Exception, code: int
) -> None:
    cluster.refused = error
    assert find(code=code)[0] == []


def test_coordinators_are_asked_only_about_suspects(cluster: Cluster, find: Callable[..., Any]) -> None:
    cluster.topics = [topic(CLIENT, 1), topic(COORDINATOR, -1)]
    cluster.producers = {PLACE: [open_since(-1)]}
    assert find("--topic", CLIENT) == ([], "")
    assert cluster.asked == [[PLACE]]


def test_nobody_ever_had_a_transactional_id(cluster: Cluster, find: Callable[..., Any]) -> None:
    cluster.topics = [topic(CLIENT, 1)]
    assert find() == ([(0, 7, 5)], "")


@pytest.mark.parametrize(
    ("later", "found"),
    [
        ([open_since(-1)], []),
        ([], []),
        ([open_since(9)], []),
        ([open_since(5), open_since(9, producer_id=8)], [(0, 7, 5)]),
    ],
)
def test_one_that_ends_between_the_questions(
    cluster: Cluster, find: Callable[..., Any], later: list[ProducerState], found: list[tuple[int, int, int]]
) -> None:
    """Its coordinator may have forgotten it because it has just ended: open is what is open at both questions."""
    cluster.before_last_question = lambda: cluster.producers.update({PLACE: later})
    assert find() == (found, "")
    assert cluster.asked[-1] == [PLACE]


def test_a_transactional_id_that_expires_between_the_questions(cluster: Cluster, find: Callable[..., Any]) -> None:
    """Nobody will end what is still open under it; the other ids are looked at as ever."""
    payments = TopicPartition("payments", 0)
    cluster.topics.append(topic("payments", 1))
    cluster.producers[payments] = [open_since(3, producer_id=8)]
    cluster.known = {"gone": (7, [PLACE]), "mine": (8, [payments])}
    cluster.expired = {"gone"}
    assert find() == ([(0, 7, 5)], "")
    cluster.before_last_question = lambda: cluster.producers.update({PLACE: [open_since(-1)]})
    cluster.asked.clear()
    assert find() == ([], "")
    assert run(["txn", "describe", "gone"]) == 1


def test_partitions_without_a_leader_are_counted_and_left_out(cluster: Cluster, find: Callable[..., Any]) -> None:
    cluster.topics = [topic(CLIENT, 1, -1, -1, 2), topic("payments", -1), topic(COORDINATOR, 1)]
    places = [TopicPartition(CLIENT, 0), TopicPartition(CLIENT, 3)]
    rows, said = find("--topic", CLIENT)
    assert (rows, cluster.asked[0]) == ([(0, 7, 5)], places)
    assert said == "warning: 2 partitions have no leader to ask: `ottla doctor` names them\n"

    cluster.asked.clear()
    rows, said = find()
    assert (rows, cluster.asked[0]) == ([(0, 7, 5)], [*places, TopicPartition(COORDINATOR, 0)])
    assert said.startswith("warning: 3 partitions have no leader to ask")
