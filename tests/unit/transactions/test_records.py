"""The records of the transaction log: what is written is read back, and damage is told from a bug."""

from hypothesis import given
from hypothesis import strategies as st

from ottla.model import TopicPartition
from ottla.transactions.records import TransactionRecord, decode_record, encode_record
from ottla.transactions.transaction import Transaction, TransactionState
from ottla.wire import DecodeError

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
LONGS = st.integers(0, 2**63 - 1)
STATES = st.sampled_from(TransactionState)
PLACES = st.lists(st.builds(TopicPartition, NAMES, st.integers(0, 2**31 - 1)), unique=True, max_size=6).map(tuple)


@st.composite
def transactions(draw):
    state = draw(STATES)
    return Transaction(
        transactional_id=draw(NAMES),
        producer_id=draw(LONGS),
        producer_epoch=draw(st.integers(0, 2**15 - 1)),
        timeout_ms=draw(st.integers(0, 2**31 - 1)),
        state=state,
        updated_ms=draw(LONGS),
        started_ms=draw(st.integers(-1, 2**63 - 1)),
        partitions=() if state is TransactionState.EMPTY else draw(PLACES),
        previous_producer_id=draw(st.integers(-1, 2**63 - 1)),
        next_producer_id=draw(st.integers(-1, 2**63 - 1)),
        client_version=draw(st.integers(0, 2)),
    )


@given(transactions(), st.integers(1, 2))
def test_flexible_records_come_back(transaction, version):
    record = TransactionRecord(transaction.transactional_id, transaction)
    found = decode_record(*encode_record(record, version))
    assert found.transactional_id == record.transactional_id
    assert sorted(found.value.partitions) == sorted(transaction.partitions)
    assert encode_record(found, version) == encode_record(decode_record(*encode_record(found, version)), version)
    assert found.value.previous_producer_id == transaction.previous_producer_id
    assert found.value.next_producer_id == transaction.next_producer_id
    assert found.value.client_version == transaction.client_version


@given(transactions())
def test_version_0_forgets_what_it_has_no_room_for(transaction):
    found = decode_record(*encode_record(TransactionRecord(transaction.transactional_id, transaction), 0)).value
    assert (found.producer_id, found.producer_epoch, found.state) == (
        transaction.producer_id,
        transaction.producer_epoch,
        transaction.state,
    )
    assert (found.previous_producer_id, found.next_producer_id, found.client_version) == (-1, -1, 0)


def test_the_bytes_of_apache_kafka():
    """As Apache Kafka 4.3.1 wrote them for an open transaction of a client of version 2."""
    known = Transaction(
        transactional_id="tx",
        producer_id=7,
        producer_epoch=3,
        timeout_ms=60_000,
        state=TransactionState.ONGOING,
        updated_ms=2,
        started_ms=1,
        partitions=(TopicPartition("t", 0),),
        previous_producer_id=7,
        client_version=2,
    )
    key, value = encode_record(TransactionRecord("tx", known), 2)
    assert key == b"\0\0\0\x02tx"
    assert (
        value
        == (
            b"\0\x01"
            + (7).to_bytes(8)
            + b"\0\x03"
            + (60_000).to_bytes(4)
            + b"\x01"  # version, producer, timeout, status
            b"\x02\x02t\x02\0\0\0\0\0"
            + (2).to_bytes(8)
            + (1).to_bytes(8)  # partitions, times
            # Tags in order: the former producer id, and the version of the client.
            + b"\x02\x00\x08"
            + (7).to_bytes(8)
            + b"\x02\x02\0\x02"
        )
    )


def test_tombstones_and_the_unknown():
    key, value = encode_record(TransactionRecord("gone", None), 2)
    assert value is None
    assert decode_record(key, None) == TransactionRecord("gone", None)
    assert decode_record(b"\0\x07whatever", b"") is None
    assert decode_record(key, b"\0\x09whatever") is None


@given(st.binary(max_size=80), st.none() | st.binary(max_size=120))
def test_damage_raises_nothing_but_decode_errors(key, value):
    try:
        decode_record(key, value)
    except DecodeError:
        pass


@given(transactions(), st.data())
def test_damaged_records_raise_nothing_but_decode_errors(transaction, data):
    key, value = encode_record(TransactionRecord(transaction.transactional_id, transaction), 2)
    where = data.draw(st.integers(0, len(value) - 1))
    damaged = value[:where] + bytes([data.draw(st.integers(0, 255))]) + value[where + 1 :]
    for one in (damaged, value[:where]):
        try:
            decode_record(key, one)
        except DecodeError:
            pass
