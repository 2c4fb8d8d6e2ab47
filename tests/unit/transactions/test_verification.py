"""Guards: who needs one, what makes it worthless, and that no batch overtakes another while both wait."""

import pytest

from ottla.records.batch import read_header
from ottla.records.builder import BatchBuilder
from ottla.records.control import EndTransaction, end_transaction_batch, read_end_transaction
from ottla.transactions.producer_state import ProducerStateTable
from ottla.transactions.verification import Asker, Verifications
from ottla.wire.errors import ErrorCode, KafkaError


class Place:
    """A partition without a log."""

    def __init__(self):
        self.producers, self.guards, self.end = ProducerStateTable(), Verifications(), 0

    def start(self, epoch=0, sequence=0, *, adds=False, now_ms=0):
        return self.guards.start(self.producers, Asker(7, epoch, sequence), now_ms, adds_partition=adds)

    def append(self, guard=None, *, epoch=0, sequence=0):
        builder = BatchBuilder(producer_id=7, producer_epoch=epoch, base_sequence=sequence, transactional=True)
        builder.append(1, b"k", b"v")
        header = read_header(builder.build())
        self.guards.check(self.producers, header, guard, required=True)
        self.guards.check_sequence(self.producers, header)
        self.producers.record(header, self.end, 0)
        self.guards.record(header)
        self.end += 1

    def mark(self, epoch=0):
        batch = end_transaction_batch(EndTransaction(True, 0), producer_id=7, producer_epoch=epoch, timestamp=1)
        header = read_header(batch)
        self.producers.record(header, self.end, 0, marker=read_end_transaction(batch))
        self.guards.record(header)
        self.end += 1


@pytest.fixture
def place():
    return Place()


def refused(code, act, *arguments, **options):
    with pytest.raises(KafkaError) as raised:
        act(*arguments, **options)
    assert raised.value.code is code


def test_only_the_first_batch_of_a_transaction_needs_a_guard(place):
    refused(ErrorCode.INVALID_TXN_STATE, place.append)
    place.append(place.start())
    assert place.start(sequence=1) is None
    place.append(sequence=1)
    place.mark()
    assert place.start(sequence=2) is not None
    refused(ErrorCode.INVALID_TXN_STATE, place.append, sequence=2)


def test_a_marker_makes_a_guard_worthless(place):
    guard = place.start()
    place.mark()
    refused(ErrorCode.INVALID_TXN_STATE, place.append, guard)


def test_the_marker_before_leaves_the_guard_of_the_next_transaction(place):
    place.append(place.start(adds=True))
    early = place.start(epoch=1, adds=True)
    place.mark(epoch=1)
    place.append(early, epoch=1)


def test_a_marker_after_it_does_not(place):
    place.append(place.start(adds=True))
    early = place.start(epoch=1, adds=True)
    place.mark(epoch=2)
    refused(ErrorCode.INVALID_PRODUCER_EPOCH, place.append, early, epoch=1)


def test_a_batch_does_not_overtake_an_earlier_one(place):
    guard = place.start(sequence=0)
    assert place.start(sequence=5) is guard
    refused(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, place.append, guard, sequence=5)
    place.append(guard, sequence=0)


def test_a_producer_of_version_2_begins_at_zero(place):
    guard = place.start(sequence=3, adds=True)
    refused(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, place.append, guard, sequence=3)


def test_epochs_that_were_left_behind_are_not_asked_about(place):
    place.append(place.start(epoch=2), epoch=2)
    refused(ErrorCode.INVALID_PRODUCER_EPOCH, place.start, epoch=1)


def test_guards_that_nobody_comes_back_for_are_dropped(place):
    place.start(now_ms=0)
    place.guards.expire(999, 1000)
    assert len(place.guards) == 1
    place.guards.expire(1000, 1000)
    assert not place.guards
