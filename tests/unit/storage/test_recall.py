"""Producers whose last requests went unanswered when a log was closed: each of their retries is known again."""

import pytest
from msgspec.structs import replace

from ottla.config.log import LogConfig
from ottla.records.batch import iter_headers
from ottla.records.control import EndTransaction, end_transaction_batch
from ottla.storage import recall
from ottla.transactions.producer_state import Duplicate

PRODUCER, OTHER = 7, 8


def retry(log, batches, sequence, *, timestamp=1_000):
    """What the log's producers say of the batch of two records that begins with ``sequence``."""
    batch, _ = batches.build(0, 2, producer=(PRODUCER, 0, sequence), timestamp=timestamp)
    ((_, header),) = iter_headers(batch)
    return log.producers.check(header)


def fill(log, batches, *, count=8, timestamp=1_000):
    """``count`` batches of two records of the producer, each followed by one of another's; their base offsets."""
    offsets = []
    for number in range(count):
        offsets.append(log.log_end_offset)
        batches.append(log, 2, producer=(PRODUCER, 0, 2 * number), timestamp=timestamp)
        batches.append(log, 1, producer=(OTHER, 0, number))
    return offsets


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "killed"])
@pytest.mark.parametrize("segment_bytes", [300, 1_000, 1 << 20])
def test_the_last_five_batches_of_a_producer_are_known_after_a_restart(open_log, batches, small, clean, segment_bytes):
    config = replace(small, segment_bytes=segment_bytes)
    log = open_log(config=config)
    offsets = fill(log, batches)
    log.close(clean=clean)
    log = open_log(config=config, clean_shutdown=clean)
    known = [retry(log, batches, 2 * number) for number in range(3, 8)]
    assert known == [Duplicate(offset, offset + 1, 1_000) for offset in offsets[3:]]


def test_records_older_than_producers_are_kept_make_no_difference(open_log, batches):
    now_ms = 100 * 86_400_000
    log = open_log(now_ms=now_ms)
    offsets = fill(log, batches, timestamp=5)
    log.close()
    log = open_log(now_ms=now_ms, clean_shutdown=True)
    for number in (6, 7):
        assert retry(log, batches, 2 * number, timestamp=5) == Duplicate(offsets[number], offsets[number] + 1, 5)


def test_no_further_than_some_megabytes_are_looked_at(open_log, batches, monkeypatch):
    log = open_log(config=LogConfig(index_interval_bytes=100))
    fill(log, batches, count=50)
    segment = log.active_segment
    seen = []
    headers = type(segment).headers
    monkeypatch.setattr(
        type(segment),
        "headers",
        lambda self, position=0: (seen.append(found) or found for found in headers(self, position)),
    )
    monkeypatch.setattr(recall, "RECALLED_BYTES", (200, 1_000))
    found = recall.earlier_batches(log.segments, PRODUCER, log.log_end_offset)
    assert found
    assert all(header.producer_id == PRODUCER for header in found)
    assert segment.size - seen[0][0] < 1_400
    assert len(seen) < 25


def test_markers_are_no_batches_to_retry(open_log, batches):
    log = open_log()
    offsets = fill(log, batches, count=2)
    marker = end_transaction_batch(
        EndTransaction(True, 0), producer_id=PRODUCER, producer_epoch=0, timestamp=1_000, base_offset=log.log_end_offset
    )
    log.append(marker, list(iter_headers(marker)), 0)
    found = recall.earlier_batches(log.segments, PRODUCER, log.log_end_offset)
    assert [header.base_offset for header in found] == offsets


def test_a_log_that_cannot_be_read_gives_none(open_log, batches, monkeypatch):
    log = open_log()
    fill(log, batches)

    def gone(*_):
        raise OSError(5, "the disk is gone")

    monkeypatch.setattr(type(log.active_segment), "locate", gone)
    assert list(recall.earlier_batches(log.segments, PRODUCER, 10)) == []
