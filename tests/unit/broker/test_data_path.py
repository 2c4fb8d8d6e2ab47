"""Produce, Fetch, ListOffsets and ApiVersions through the dispatch, frame to frame, without a socket."""

import asyncio
import errno
from functools import partial
from random import Random

import pytest

from ottla.broker import fetching
from ottla.broker.dispatch import Dispatch, Route
from ottla.broker.handlers.api_versions import ApiVersionsHandler
from ottla.broker.handlers.delete_records import DeleteRecordsHandler
from ottla.broker.handlers.fetch import FetchHandler
from ottla.broker.handlers.list_offsets import ListOffsetsHandler
from ottla.broker.handlers.produce import ProduceHandler
from ottla.broker.leader_hints import LeaderHints
from ottla.broker.machine_driver import ProducerMarker
from ottla.broker.partition import FlushPolicy
from ottla.broker.produce_verification import ProduceVerification
from ottla.net.connection import CloseConnection
from ottla.net.deferred import Deferred
from ottla.records.control import EndTransaction
from ottla.records.validate import Origin
from ottla.replication.fetch_session import FetchSessionCache
from ottla.runtime.turn import of_running_loop
from ottla.transactions.verification import Asker
from ottla.wire import decode
from ottla.wire.apis import API_SPECS, ApiKey
from ottla.wire.errors import ErrorCode
from ottla.wire.frame import RequestHeader, encode_request, read_response_header
from ottla.wire.messages.api_versions_request import ApiVersionsRequest
from ottla.wire.messages.delete_records_request import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from ottla.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic
from ottla.wire.messages.list_offsets_request import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData


class Peer:
    peer = ("127.0.0.1", 9)


class Served:
    """A dispatch over a bench; ``ask`` sends a request and decodes what comes back."""

    def __init__(self, bench):
        self.bench = bench
        self.failures = []
        hints = LeaderHints(image=lambda: bench.partitions.image)
        self.sessions = FetchSessionCache(rng=Random(3))
        handlers = {
            ApiKey.PRODUCE: lambda: ProduceHandler(
                partitions=bench.partitions,
                leader_hints=hints,
                verification=ProduceVerification(partitions=bench.partitions, verification=None),  # no transactions
            ),
            ApiKey.FETCH: lambda: FetchHandler(
                partitions=bench.partitions,
                sessions=self.sessions,
                leader_hints=hints,
                bytes_max=1 << 20,
                now_ms=bench.clock.now_ms,
            ),
            ApiKey.LIST_OFFSETS: lambda: ListOffsetsHandler(partitions=bench.partitions),
            ApiKey.API_VERSIONS: lambda: ApiVersionsHandler(
                routes=self.routes,
                image=lambda: bench.partitions.image,
                supported_features={"metadata.version": (7, 30), "group.version": (0, 1)},
            ),
        }
        self.routes = {
            int(key): Route(
                api_key=key,
                min_version=API_SPECS[key].lowest,
                max_version=API_SPECS[key].latest_stable,
                advertised_min=API_SPECS[key].advertised_lowest,
                build=build,
            )
            for key, build in handlers.items()
        }
        self.dispatch = Dispatch(
            routes=self.routes, listener_name="PLAINTEXT", clock=bench.clock, fail=self.failures.append
        )

    def send(self, key, version, request):
        frame = encode_request(RequestHeader(int(key), version, 77, "test"), request)
        return self.dispatch.serve(Peer, memoryview(bytearray(frame))[4:])

    async def ask(self, key, version, request):
        answer = self.send(key, version, request)
        if answer is None:
            return None
        if isinstance(answer, Deferred):
            answer = answer.future()
        if not isinstance(answer, list):
            answer = await answer
        raw = b"".join(part if isinstance(part, bytes) else part.pread() for part in answer)
        assert int.from_bytes(raw[:4]) == len(raw) - 4
        correlation_id, begin = read_response_header(key, version, raw[4:])
        assert correlation_id == 77
        return decode(API_SPECS[key].load_response(), raw[4 + begin :], version)

    async def produce(self, records, *, topic="orders", acks=-1, version=9, partition=0, timeout_ms=1000):
        data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=partition, records=records)])
        if version >= 13:
            data = TopicProduceData(
                topic_id=self.bench.partitions.image.topics[topic].topic_id, partition_data=data.partition_data
            )
        answer = await self.ask(
            ApiKey.PRODUCE, version, ProduceRequest(acks=acks, timeout_ms=timeout_ms, topic_data=[data])
        )
        return None if answer is None else answer.responses[0].partition_responses[0]

    async def fetch(
        self, offset=0, *, version=11, max_wait_ms=0, min_bytes=1, session=(0, -1), topics=("orders",), **more
    ):
        return await self.ask(
            ApiKey.FETCH,
            version,
            FetchRequest(
                max_wait_ms=max_wait_ms,
                min_bytes=min_bytes,
                session_id=session[0],
                session_epoch=session[1],
                topics=[
                    FetchTopic(
                        topic=topic if version < 13 else "",
                        topic_id=self.bench.partitions.image.topics[topic].topic_id,
                        partitions=[FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)],
                    )
                    for topic in topics
                ],
                **more,
            ),
        )


@pytest.fixture
def serve(make_bench, one_led):
    def make(policy=FlushPolicy.NEVER):
        bench = make_bench(policy)
        bench.publish(orders=[one_led()], other=[one_led()])
        return Served(bench)

    return make


PRODUCE_VERSIONS = range(API_SPECS[ApiKey.PRODUCE].lowest, API_SPECS[ApiKey.PRODUCE].latest_stable + 1)
FETCH_VERSIONS = range(API_SPECS[ApiKey.FETCH].lowest, API_SPECS[ApiKey.FETCH].latest_stable + 1)


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
@pytest.mark.parametrize("fetch_version", [FETCH_VERSIONS[0], 11, 12, 13, FETCH_VERSIONS[-1]])
def test_what_is_produced_is_fetched_byte_for_byte(serve, make_batch, version, fetch_version):
    async def main():
        served = serve()
        sent = make_batch(b"one", b"two")
        answer = await served.produce(sent, version=version)
        assert (answer.error_code, answer.base_offset) == (0, 0)
        fetched = await served.fetch(version=fetch_version)
        data = fetched.responses[0].partitions[0]
        assert data.error_code == 0
        assert data.high_watermark == 2
        got = bytes(data.records)
        assert got[:8] == bytes(8)
        assert got[17:] == bytes(sent[17:])

    asyncio.run(main())


def test_acks_0_is_silent_and_its_failure_ends_the_connection(serve, make_batch):
    async def main():
        served = serve()
        assert await served.produce(make_batch(b"x"), acks=0) is None
        assert served.bench.partitions.get("orders", 0).log.log_end_offset == 1
        with pytest.raises(CloseConnection):
            await served.produce(make_batch(b"x"), acks=0, topic="missing")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"topic": "missing"}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"partition": 7}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"acks": 5}, ErrorCode.INVALID_REQUIRED_ACKS),
    ],
)
def test_produce_errors(serve, make_batch, change, code):
    async def main():
        answer = await serve().produce(make_batch(b"x"), **change)
        assert answer.error_code == code
        assert answer.base_offset == -1

    asyncio.run(main())


def test_a_flipped_bit_is_corrupt_and_nothing_is_appended(serve, make_batch):
    async def main():
        served = serve()
        records = make_batch(b"value")
        records[-2] ^= 1
        answer = await served.produce(records)
        assert answer.error_code == ErrorCode.CORRUPT_MESSAGE
        assert served.bench.partitions.get("orders", 0).log.log_end_offset == 0

    asyncio.run(main())


def test_acks_all_waits_for_the_flush_and_times_out_without_it(serve, make_batch):
    async def main():
        served = serve(FlushPolicy.AUTO)
        waiting = asyncio.ensure_future(served.produce(make_batch(b"x")))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await served.bench.flushes.flush()
        assert (await waiting).error_code == 0
        late = await served.produce(make_batch(b"y"), timeout_ms=20)
        assert late.error_code == ErrorCode.REQUEST_TIMED_OUT
        quick = await served.produce(make_batch(b"z"), acks=1)
        assert quick.error_code == 0

    asyncio.run(main())


def test_always_makes_acks_1_wait_for_the_flush(serve, make_batch):
    async def main():
        served = serve(FlushPolicy.ALWAYS)
        waiting = asyncio.ensure_future(served.produce(make_batch(b"x"), acks=1))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await served.bench.flushes.flush()
        assert (await waiting).error_code == 0

    asyncio.run(main())


def test_a_fetch_waits_for_data_and_is_woken_by_the_append(serve, make_batch):
    async def main():
        served = serve()
        loop = asyncio.get_running_loop()
        waiting = asyncio.ensure_future(served.fetch(max_wait_ms=5000))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        before = loop.time()
        await served.produce(make_batch(b"x"))
        fetched = await waiting
        assert loop.time() - before < 1
        assert len(fetched.responses[0].partitions[0].records) > 61
        assert len(served.bench.partitions.get("orders", 0).data_waiters) == 0

    asyncio.run(main())


def test_a_fetch_waits_for_min_bytes_and_answers_with_less_when_time_is_over(serve, make_batch):
    async def main():
        served = serve()
        waiting = asyncio.ensure_future(served.fetch(max_wait_ms=80, min_bytes=10_000))
        await asyncio.sleep(0.01)
        await served.produce(make_batch(b"x"))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        fetched = await waiting
        assert len(fetched.responses[0].partitions[0].records) > 61

    asyncio.run(main())


def test_a_reader_of_committed_records_is_woken_by_all_that_the_marker_sets_free(serve, make_batch):
    """``min_bytes`` is about what the reader gets, not about the marker alone."""

    async def main():
        served = serve()
        loop = asyncio.get_running_loop()
        partition = served.bench.partitions.get("orders", 0)
        waiting = asyncio.ensure_future(served.fetch(max_wait_ms=5000, min_bytes=500, isolation_level=1))
        await asyncio.sleep(0.01)
        partition.append(
            make_batch(b"x" * 1000, producer=(7, 0, 0), transactional=True),
            origin=Origin.COORDINATOR,
            required_acks=-1,
            now_ms=served.bench.clock.now_ms(),
            guard=partition.start_verification(Asker(7, 0, 0), 0, adds_partition=False),
        )
        await asyncio.sleep(0.01)
        assert not waiting.done()
        before = loop.time()
        marker = ProducerMarker(7, 0, EndTransaction(committed=True, coordinator_epoch=0), 0)
        partition.append_marker(marker, served.bench.clock.now_ms())
        fetched = await waiting
        assert loop.time() - before < 1
        assert len(fetched.responses[0].partitions[0].records) > 1000

    asyncio.run(main())


def test_a_fetch_out_of_range_or_of_a_deleted_topic_is_answered_at_once(serve, make_batch):
    async def main():
        served = serve()
        fetched = await served.fetch(5, max_wait_ms=5000)
        assert fetched.responses[0].partitions[0].error_code == ErrorCode.OFFSET_OUT_OF_RANGE
        waiting = asyncio.ensure_future(served.fetch(0, max_wait_ms=5000))
        await asyncio.sleep(0.01)
        served.bench.publish(orders=None)
        data = (await waiting).responses[0].partitions[0]
        assert data.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    asyncio.run(main())


def test_sessions_answer_only_news(serve, make_batch):
    async def main():
        served = serve()
        first = await served.fetch(0, session=(0, 0), topics=("orders", "other"))
        assert first.session_id > 0
        assert len(first.responses) == 2
        nothing = await served.ask(
            ApiKey.FETCH, 11, FetchRequest(max_wait_ms=0, min_bytes=1, session_id=first.session_id, session_epoch=1)
        )
        assert nothing.responses == []
        await served.produce(make_batch(b"y"), topic="other")
        news = await served.ask(
            ApiKey.FETCH, 11, FetchRequest(max_wait_ms=0, min_bytes=1, session_id=first.session_id, session_epoch=2)
        )
        assert [topic.topic for topic in news.responses] == ["other"]
        wrong = await served.ask(
            ApiKey.FETCH, 11, FetchRequest(max_wait_ms=0, min_bytes=1, session_id=first.session_id, session_epoch=9)
        )
        assert wrong.error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH

    asyncio.run(main())


@pytest.mark.parametrize("isolation_level", [0, 1])
@pytest.mark.parametrize("version", [12, 13, FETCH_VERSIONS[-1]])
def test_a_session_that_is_read_on_answers_as_without_one(serve, make_batch, version, isolation_level):
    """From the second answer of a kind on it is written from a mold; what is in it is what a plain fetch gets."""

    async def main():
        served = serve()
        session_id = (
            await served.fetch(0, version=version, session=(0, 0), isolation_level=isolation_level)
        ).session_id
        for epoch in range(1, 6):
            await served.produce(make_batch(*[b"y" * 100] * epoch))
            if epoch == 4:
                served.bench.partitions.get("orders", 0).delete_records_before(2)
            offset = sum(range(epoch))
            on = await served.fetch(
                offset, version=version, session=(session_id, epoch), isolation_level=isolation_level
            )
            alone = await served.fetch(offset, version=version, isolation_level=isolation_level)
            assert on.session_id == session_id
            assert on.responses == alone.responses
            assert len(on.responses[0].partitions[0].records) > 100 * epoch
        wrong = await served.fetch(0, version=version, session=(session_id, 2))
        assert wrong.error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH

    asyncio.run(main())


def test_a_session_tells_its_partitions_apart_whatever_the_last_answer_was_like(serve, make_batch):
    """News of one partition, then of the other; read_committed in between; an aborted transaction."""

    async def main():
        served = serve()
        version, names = FETCH_VERSIONS[-1], ("orders", "other")
        session_id = (await served.fetch(version=version, session=(0, 0), topics=names)).session_id
        offsets = dict.fromkeys(names, 0)

        async def fetch(session, committed):
            topics = [
                FetchTopic(
                    topic_id=served.bench.partitions.image.topics[name].topic_id,
                    partitions=[FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)],
                )
                for name, offset in offsets.items()
            ]
            request = FetchRequest(
                min_bytes=1, session_id=session[0], session_epoch=session[1], isolation_level=committed, topics=topics
            )
            return await served.ask(ApiKey.FETCH, version, request)

        turns = [*["orders"] * 6, *["other"] * 6, *["orders", "other"] * 2]
        for epoch, name in enumerate(turns, start=1):
            committed = int(epoch in (5, 6, 9))
            await served.produce(make_batch(b"z" * epoch), topic=name)
            on, alone = await fetch((session_id, epoch), committed), await fetch((0, -1), committed)
            assert on.session_id == session_id
            assert on.responses == [topic for topic in alone.responses if topic.partitions[0].records]
            offsets[name] += 1
        partition = served.bench.partitions.get("orders", 0)
        partition.append(
            make_batch(b"x", producer=(7, 0, 0), transactional=True),
            origin=Origin.COORDINATOR,
            required_acks=-1,
            now_ms=served.bench.clock.now_ms(),
            guard=partition.start_verification(Asker(7, 0, 0), 0, adds_partition=False),
        )
        marker = ProducerMarker(7, 0, EndTransaction(committed=False, coordinator_epoch=0), 0)
        partition.append_marker(marker, served.bench.clock.now_ms())
        on, alone = await fetch((session_id, len(turns) + 1), 1), await fetch((0, -1), 1)
        assert on.responses == alone.responses[:1]
        assert [one.producer_id for one in on.responses[0].partitions[0].aborted_transactions] == [7]

    asyncio.run(main())


class ReadAhead:
    """A session that has read all there is and waits, its usual answer being known; and a record on its way to disk."""

    def __init__(self, serve, make_batch):
        self.served = serve(FlushPolicy.AUTO)
        self.make_batch = make_batch
        self.partition = self.served.bench.partitions.get("orders", 0)
        self.session = (0, 0)
        self.offset = 0

    isolation_level = 0

    async def fetch(self, session=(0, -1), max_wait_ms=0):
        partition = FetchPartition(fetch_offset=self.offset, partition_max_bytes=1 << 20, current_leader_epoch=0)
        topic = FetchTopic(topic_id=self.partition.topic_id, partitions=[partition])
        request = FetchRequest(
            max_wait_ms=max_wait_ms,
            min_bytes=1,
            session_id=session[0],
            session_epoch=session[1],
            isolation_level=self.isolation_level,
            topics=[topic],
        )
        return await self.served.ask(ApiKey.FETCH, FETCH_VERSIONS[-1], request)

    async def begin(self):
        self.session = (await self.fetch(session=self.session)).session_id, 1
        for _ in range(5):
            waiting = await self.wait()
            await self.end(waiting)
        return await self.wait()

    async def wait(self):
        """The fetch that waits, its record appended."""
        waiting = asyncio.ensure_future(self.fetch(session=self.session, max_wait_ms=5000))
        self.session = self.session[0], self.session[1] + 1
        await asyncio.sleep(0.01)
        self.producing = asyncio.ensure_future(self.served.produce(self.make_batch(b"x" * 50)))
        await asyncio.sleep(0.01)
        assert not waiting.done(), "nothing is shown before it is durable"
        return waiting

    async def end(self, waiting):
        """The answer once the record is durable."""
        await self.served.bench.flushes.flush()
        answer = await waiting
        await self.producing
        alone = await self.fetch()
        assert answer.responses == alone.responses
        self.offset = self.partition.high_watermark
        return answer


def test_a_waiting_fetch_is_read_for_while_the_disk_syncs(serve, make_batch, monkeypatch):
    async def main():
        case = ReadAhead(serve, make_batch)
        waiting = await case.begin()
        monkeypatch.setattr(fetching, "read_once", lambda *_: pytest.fail("it was read already"))
        await case.served.bench.flushes.flush()
        answer = await waiting
        monkeypatch.undo()
        (data,) = answer.responses[0].partitions
        assert data.high_watermark == data.last_stable_offset == case.offset + 1
        assert len(data.records) > 100
        assert answer.responses == (await case.fetch()).responses
        await case.producing

    asyncio.run(main())


def test_who_comes_to_wait_while_the_disk_syncs_is_read_for_too(serve, make_batch, monkeypatch):
    async def main():
        case = ReadAhead(serve, make_batch)
        await case.end(await case.begin())
        producing = asyncio.ensure_future(case.served.produce(make_batch(b"x" * 50)))
        await asyncio.sleep(0.01)
        waiting = asyncio.ensure_future(case.fetch(session=case.session, max_wait_ms=5000))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        monkeypatch.setattr(fetching, "read_once", lambda *_: pytest.fail("it was read already"))
        await case.served.bench.flushes.flush()
        assert len((await waiting).responses[0].partitions[0].records) > 100
        await producing

    asyncio.run(main())


def read_on(case):
    """Nothing else happens."""


def delete_records(case):
    case.partition.delete_records_before(case.offset)


def begin_a_transaction(case):
    case.partition.append(
        case.make_batch(b"x", producer=(7, 0, 0), transactional=True),
        origin=Origin.COORDINATOR,
        required_acks=-1,
        now_ms=case.served.bench.clock.now_ms(),
        guard=case.partition.start_verification(Asker(7, 0, 0), 0, adds_partition=False),
    )


def append_more(case):
    case.partition.append(case.make_batch(b"more"), origin=Origin.COORDINATOR, required_acks=-1, now_ms=0)


def begin_a_term(case):
    case.served.bench.publish(orders=[case.led(epoch=1, partition_epoch=1)])


def test_a_term_that_begins_before_the_record_is_noticed(serve, make_batch, one_led):
    async def main():
        case = ReadAhead(serve, make_batch)
        case.led = one_led
        await case.end(await case.begin())
        waiting = asyncio.ensure_future(case.fetch(session=case.session, max_wait_ms=5000))
        await asyncio.sleep(0.01)
        begin_a_term(case)
        producing = asyncio.ensure_future(case.served.produce(make_batch(b"x")))
        await asyncio.sleep(0.01)
        await case.served.bench.flushes.flush()
        (data,) = (await waiting).responses[0].partitions
        assert data.error_code == ErrorCode.FENCED_LEADER_EPOCH
        await producing

    asyncio.run(main())


@pytest.mark.parametrize("isolation_level", [0, 1])
def test_an_open_transaction_is_told_of_as_to_those_who_do_not_wait(serve, make_batch, isolation_level):
    async def main():
        case = ReadAhead(serve, make_batch)
        case.isolation_level = isolation_level
        case.session = (await case.fetch(session=case.session)).session_id, 1
        for _ in range(5):
            await case.end(await case.wait())
        waiting = asyncio.ensure_future(case.fetch(session=case.session, max_wait_ms=5000))
        await asyncio.sleep(0.01)
        begin_a_transaction(case)
        await asyncio.sleep(0.01)
        await case.served.bench.flushes.flush()
        if isolation_level:
            await asyncio.sleep(0.01)
            assert not waiting.done(), "of records that are not decided nothing is shown"
            marker = ProducerMarker(7, 0, EndTransaction(committed=True, coordinator_epoch=0), 0)
            case.partition.append_marker(marker, case.served.bench.clock.now_ms())
            await asyncio.sleep(0.01)
            await case.served.bench.flushes.flush()
        answer = await waiting
        assert answer.responses == (await case.fetch()).responses
        (data,) = answer.responses[0].partitions
        assert data.last_stable_offset == case.offset + (2 if isolation_level else 0)

    asyncio.run(main())


def test_a_fetch_that_waits_for_many_bytes_hears_of_each_when_it_is_visible(serve, make_batch):
    """While one flush is under way more is appended: that counts with the next."""

    async def main():
        served = serve(FlushPolicy.AUTO)
        size = len(make_batch(b"x" * 50))
        waiting = asyncio.ensure_future(served.fetch(max_wait_ms=5000, min_bytes=2 * size + 1))
        await asyncio.sleep(0.01)
        partition = served.bench.partitions.get("orders", 0)

        def append():
            partition.append(make_batch(b"x" * 50), origin=Origin.COORDINATOR, required_acks=-1, now_ms=0)

        append()
        for _ in range(2):
            append()
            # What was there when the flush began, as the disk would have it.
            (log, resolve), served.bench.flushes.waiting = served.bench.flushes.waiting[0], []
            log.mark_flushed(log.log_end_offset - 1)
            resolve(None)
            await asyncio.sleep(0.01)
            assert not waiting.done()
        served.bench.flushes.waiting[0][0].mark_flushed(log.log_end_offset)
        served.bench.flushes.waiting[0][1](None)
        fetched = await asyncio.wait_for(waiting, 2)
        assert len(fetched.responses[0].partitions[0].records) == 3 * size

    asyncio.run(main())


@pytest.mark.parametrize("event", [read_on, delete_records, begin_a_transaction, append_more, begin_a_term])
def test_what_happens_meanwhile_is_seen_by_who_was_read_for(serve, make_batch, one_led, event):
    async def main():
        case = ReadAhead(serve, make_batch)
        case.led = one_led
        waiting = await case.begin()
        event(case)
        await case.end(waiting)

    asyncio.run(main())


def test_a_partition_that_is_lost_meanwhile_is_an_error(serve, make_batch):
    async def main():
        case = ReadAhead(serve, make_batch)
        waiting = await case.begin()
        case.partition.set_offline("the disk is gone")
        assert (await waiting).responses[0].partitions[0].error_code == ErrorCode.KAFKA_STORAGE_ERROR
        await case.producing

    asyncio.run(main())


def test_consumers_are_answered_before_the_producer_whose_records_they_wait_for(serve, make_batch):
    """Two answers become known in one turn; each leaves when it is set, or right behind that (``net.connection``)."""

    async def main():
        served = serve(FlushPolicy.AUTO)
        order = []
        turn = of_running_loop()

        def note(name, answer):
            answer.then(lambda _: turn.at_end(lambda: order.append(name)), order.append)

        topics = [FetchTopic(topic="orders", partitions=[FetchPartition(fetch_offset=0, partition_max_bytes=1 << 20)])]
        note("consumer", served.send(ApiKey.FETCH, 11, FetchRequest(max_wait_ms=5000, min_bytes=1, topics=topics)))
        records = [TopicProduceData(name="orders", partition_data=[PartitionProduceData(records=make_batch(b"x"))])]
        request = ProduceRequest(acks=-1, timeout_ms=1000, topic_data=records)
        answer = served.send(ApiKey.PRODUCE, 9, request)
        answer.then(lambda _: order.append("producer"), order.append)
        await served.bench.flushes.flush()
        await asyncio.sleep(0.01)
        assert order == ["consumer", "producer"]

    asyncio.run(main())


def test_limits_leave_room_for_at_least_one_batch(serve, make_batch):
    async def main():
        served = serve()
        for _ in range(3):
            await served.produce(make_batch(bytes(1000)))
        fetched = await served.fetch(max_bytes=10)
        size = len(fetched.responses[0].partitions[0].records)
        assert 1000 < size < 2000

    asyncio.run(main())


async def list_offsets(served, timestamp, *, version=7, replica_id=-1):
    place = ListOffsetsPartition(partition_index=0, timestamp=timestamp)
    request = ListOffsetsRequest(replica_id=replica_id, topics=[ListOffsetsTopic(name="orders", partitions=[place])])
    return (await served.ask(ApiKey.LIST_OFFSETS, version, request)).topics[0].partitions[0]


def test_the_end_is_told_with_all_that_producers_have_acknowledgements_for(serve, make_batch):
    async def main():
        served = serve(FlushPolicy.AUTO)
        flushes = served.bench.flushes
        assert (await served.produce(make_batch(b"x", timestamp=1000), acks=1)).error_code == 0
        assert (await list_offsets(served, -2)).offset == 0
        assert (await list_offsets(served, -1, replica_id=3)).offset == 1
        assert flushes.resting, "neither looks at what consumers may see"
        asked = [asyncio.ensure_future(list_offsets(served, timestamp)) for timestamp in (-1, -3, 500)]
        await asyncio.sleep(0.01)
        assert not any(waiting.done() for waiting in asked)
        assert not flushes.resting
        await flushes.flush()
        assert [found.offset for found in await asyncio.gather(*asked)] == [1, 0, 0]

    asyncio.run(main())


def test_a_disk_that_is_slow_does_not_hold_up_who_asks_for_the_end(serve, make_batch, monkeypatch):
    monkeypatch.setattr("ottla.broker.handlers.list_offsets.FLUSH_SECONDS", 0.01)

    async def main():
        served = serve(FlushPolicy.AUTO)
        await served.produce(make_batch(b"x"), acks=1)
        assert (await list_offsets(served, -1)).offset == 0
        await served.bench.flushes.fail()
        assert (await list_offsets(served, -1)).error_code == ErrorCode.KAFKA_STORAGE_ERROR

    asyncio.run(main())


def test_what_a_producer_has_an_acknowledgement_for_can_be_deleted(serve, make_batch):
    async def checkpoint():
        pass

    async def main():
        served = serve(FlushPolicy.AUTO)
        await served.produce(make_batch(b"x"), acks=1)
        handler = DeleteRecordsHandler(partitions=served.bench.partitions, checkpoint=checkpoint)
        topic = DeleteRecordsTopic(name="orders", partitions=[DeleteRecordsPartition(partition_index=0, offset=1)])
        nobody = DeleteRecordsTopic(name="nobody", partitions=[DeleteRecordsPartition(partition_index=0, offset=1)])
        asked = asyncio.ensure_future(handler.handle(None, DeleteRecordsRequest(topics=[nobody, topic])))
        await asyncio.sleep(0.01)
        assert not asked.done()
        await served.bench.flushes.flush()
        refused, done = (await asked).topics
        assert refused.partitions[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert (done.partitions[0].error_code, done.partitions[0].low_watermark) == (0, 1)

    asyncio.run(main())


@pytest.mark.parametrize("version", range(1, 12))
def test_list_offsets_special_timestamps(serve, make_batch, version):
    ask = partial(list_offsets, version=version)

    async def main():
        served = serve()
        await served.produce(make_batch(b"a", timestamp=1000))
        await served.produce(make_batch(b"b", timestamp=3000))
        await served.produce(make_batch(b"c", timestamp=2000))
        assert (await ask(served, -1)).offset == 3
        assert (await ask(served, -2)).offset == 0
        found = await ask(served, 1500)
        assert (found.offset, found.timestamp) == (1, 3000)
        assert (await ask(served, 9999)).offset == -1
        largest = await ask(served, -3)
        if version >= 7:
            assert (largest.offset, largest.timestamp) == (1, 3000)
        else:
            assert largest.error_code == ErrorCode.UNSUPPORTED_VERSION

    asyncio.run(main())


@pytest.mark.parametrize("version", range(5))
def test_api_versions_names_routes_and_features(serve, version):
    async def main():
        answer = await serve().ask(
            ApiKey.API_VERSIONS,
            version,
            ApiVersionsRequest(client_software_name="a-client", client_software_version="1.0"),
        )
        rows = {row.api_key: (row.min_version, row.max_version) for row in answer.api_keys}
        assert rows[0] == (0, 13)
        assert rows[18][0] == 0
        names = {feature.name for feature in answer.supported_features}
        assert names == (
            {"metadata.version", "group.version"} if version == 4 else {"metadata.version"} if version == 3 else set()
        )

    asyncio.run(main())


def test_api_versions_are_written_once_for_each_image(serve, one_led):
    async def main():
        served = serve()
        request = ApiVersionsRequest(client_software_name="a-client", client_software_version="1.0")
        first, again = [await served.ask(ApiKey.API_VERSIONS, 4, request) for _ in range(2)]
        assert first == again
        assert first.finalized_features_epoch == served.bench.partitions.image.provenance.offset
        older = await served.ask(ApiKey.API_VERSIONS, 0, request)
        assert older.api_keys == first.api_keys
        served.bench.publish(more=[one_led()])
        later = await served.ask(ApiKey.API_VERSIONS, 4, request)
        assert later.finalized_features_epoch == first.finalized_features_epoch + 1

    asyncio.run(main())


def test_api_versions_of_an_unknown_version_is_answered_in_version_0(serve):
    async def main():
        served = serve()
        frame = (18).to_bytes(2) + (99).to_bytes(2) + (77).to_bytes(4) + b"\xff\xff" + b"\x00garbage"
        (answer,) = served.dispatch.serve(Peer, memoryview(frame))
        from ottla.wire.messages.api_versions_response import ApiVersionsResponse

        decoded = decode(ApiVersionsResponse, answer[8:], 0)
        assert decoded.error_code == ErrorCode.UNSUPPORTED_VERSION
        assert [row.api_key for row in decoded.api_keys] == [18]

    asyncio.run(main())


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00",
        (500).to_bytes(2) + (0).to_bytes(2) + bytes(4) + b"\xff\xff",
        (0).to_bytes(2) + (99).to_bytes(2) + bytes(4) + b"\xff\xff",
        (0).to_bytes(2) + (9).to_bytes(2) + bytes(4) + b"\xff\xff" + b"\x00" + b"\xff" * 20,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_frames_that_make_no_sense_end_the_connection(serve, frame):
    async def main():
        served = serve()
        with pytest.raises(CloseConnection):
            served.dispatch.serve(Peer, memoryview(frame))
        assert served.failures == []

    asyncio.run(main())


def test_an_error_found_after_the_records_hides_them(serve, make_batch, monkeypatch):
    async def main():
        served = serve()
        await served.produce(make_batch(b"x"))
        log = served.bench.partitions.get("orders", 0).log

        def broken(start, upper):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(log, "aborted_transactions", broken)
        part = (await served.fetch(isolation_level=1)).responses[0].partitions[0]
        assert part.error_code == ErrorCode.KAFKA_STORAGE_ERROR
        assert not part.records

    asyncio.run(main())
