"""Transactions: which are open, what they hold up, and which of them nobody will end (KIP-664)."""

from ottla.cli.rows import ProducerRow, Transaction, TransactionRow
from ottla.client import Admin, ErrorCode, KafkaError
from ottla.model import TopicPartition
from ottla.model.internal_topics import TRANSACTION_STATE


async def list_transactions(
    admin: Admin, states: tuple[str, ...] = (), longer_ms: int | None = None
) -> list[TransactionRow]:
    """What every coordinator knows, by transactional id."""
    found = await admin.list_transactions(states=states, open_longer_than_ms=-1 if longer_ms is None else longer_ms)
    return [
        TransactionRow(transactional_id=one.transactional_id, producer_id=one.producer_id, state=one.state)
        for one in sorted(found, key=lambda one: one.transactional_id)
    ]


async def describe_transaction(admin: Admin, name: str) -> Transaction:
    """One transactional id."""
    one = (await admin.describe_transactions([name]))[name]
    if isinstance(one, KafkaError):
        if one.code is ErrorCode.TRANSACTIONAL_ID_NOT_FOUND:
            raise KafkaError(one.code, f"transactional id {name!r} does not exist")
        raise one
    return Transaction(
        transactional_id=name,
        producer_id=one.producer_id,
        producer_epoch=one.producer_epoch,
        state=one.state,
        coordinator=one.coordinator,
        timeout_ms=one.timeout_ms,
        started_ms=one.started_at if one.started_at > 0 else None,
        partitions=[str(place) for place in one.partitions],
    )


async def producers(admin: Admin, places: list[TopicPartition]) -> list[ProducerRow]:
    """Whom the leaders of these partitions know as producers, open transactions among them."""
    rows = []
    for place, found in (await admin.describe_producers(places)).items():
        if isinstance(found, KafkaError):
            raise found
        rows += [
            ProducerRow(
                topic=place.topic,
                partition=place.partition,
                producer_id=one.producer_id,
                producer_epoch=one.producer_epoch,
                coordinator_epoch=one.coordinator_epoch,
                last_sequence=one.last_sequence,
                last_ms=one.last_timestamp,
                open_since_offset=one.transaction_start_offset if one.transaction_start_offset >= 0 else None,
            )
            for one in found
        ]
    return rows


async def hanging(admin: Admin, places: list[TopicPartition], older_ms: int, now_ms: int) -> list[ProducerRow]:
    """Open transactions of partitions that no coordinator will end: it does not know them, or not of the partition.

    Raises ``ConnectionError`` or ``KafkaError`` where a coordinator cannot be asked: it may know them.
    """
    open_ones = [row for row in await producers(admin, places) if row.open_since_offset is not None]
    suspects = [row for row in open_ones if now_ms - row.last_ms >= older_ms]
    if not suspects:
        return []
    await _require_coordinators(admin)
    names = {row.producer_id: row.transactional_id for row in await admin.list_transactions(all_brokers=True)}
    wanted = {names[row.producer_id] for row in suspects if row.producer_id in names}
    described = {name: await _partitions_of(admin, name) for name in sorted(wanted)}
    unknown = [
        row
        for row in suspects
        if f"{row.topic}-{row.partition}" not in described.get(names.get(row.producer_id, ""), ())
    ]
    # One that was open at the first question may have ended before the last.
    still = await producers(admin, list({TopicPartition(row.topic, row.partition): None for row in unknown}))
    still_open = {_identity(row) for row in still}
    return [row for row in unknown if _identity(row) in still_open]


async def _partitions_of(admin: Admin, name: str) -> tuple[str, ...]:
    """What a coordinator will end under a transactional id; of one that has expired since it was listed, nothing."""
    try:
        return tuple((await describe_transaction(admin, name)).partitions)
    except KafkaError as error:
        if error.code is ErrorCode.TRANSACTIONAL_ID_NOT_FOUND:
            return ()
        raise


async def _require_coordinators(admin: Admin) -> None:
    """Every partition of the coordinators' topic has a leader, or nobody has ever had a transactional id."""
    internal = {topic.name: topic for topic in await admin.list_topics(internal=True)}
    topic = internal.get(TRANSACTION_STATE)
    without = [] if topic is None else [number for number, one in topic.partitions.items() if one.leader < 0]
    if without:
        names = ", ".join(f"{TRANSACTION_STATE}-{number}" for number in without[:3])
        raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, f"nobody leads {names}: it may know more")


def _identity(row: ProducerRow) -> tuple[str, int, int, int | None]:
    return row.topic, row.partition, row.producer_id, row.open_since_offset
