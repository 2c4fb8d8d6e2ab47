"""The transaction coordinator on real logs: what is written when, what is sent again, who waits for whom."""

import asyncio
from random import Random

import pytest

from ottla.broker.context import RequestContext
from ottla.broker.group_coordinator import GroupCoordinator
from ottla.broker.handlers.end_txn import EndTxnHandler
from ottla.broker.handlers.init_producer_id import InitProducerIdHandler
from ottla.broker.handlers.list_transactions import ListTransactionsHandler
from ottla.broker.handlers.produce import ProduceHandler
from ottla.broker.handlers.write_txn_markers import WriteTxnMarkersHandler
from ottla.broker.leader_hints import LeaderHints
from ottla.broker.machine_driver import BatchProducer, ProducerMarker
from ottla.broker.partition import FlushPolicy, Isolation
from ottla.broker.produce_verification import ProduceVerification
from ottla.broker.producer_ids import ProducerIdBlock, ProducerIds
from ottla.broker.transaction_coordinator import TransactionCoordinator
from ottla.broker.transaction_markers import LocalMarkers, MarkerSender
from ottla.broker.transaction_verification import Asking, TransactionVerification
from ottla.config.broker import BrokerConfig
from ottla.groups.commands import CommitOffsets, FetchOffsets, OffsetToCommit
from ottla.metadata.delta import ImageDelta, TopicDelta
from ottla.metadata.image import ClusterImage, Provenance
from ottla.model import TopicPartition, Uuid
from ottla.model.internal_topics import CONSUMER_OFFSETS, TRANSACTION_STATE
from ottla.records.batch import iter_headers
from ottla.records.builder import BatchBuilder
from ottla.records.control import EndTransaction as EndMarker
from ottla.runtime.supervisor import Supervisor
from ottla.transactions.commands import AddPartitions, EndTransaction, InitProducerId
from ottla.transactions.transaction import TransactionState
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.frame import RequestHeader
from ottla.wire.messages.end_txn_request import EndTxnRequest
from ottla.wire.messages.init_producer_id_request import InitProducerIdRequest
from ottla.wire.messages.list_transactions_request import ListTransactionsRequest
from ottla.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.messages.write_txn_markers_request import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)

DATA = TopicPartition("orders", 0)
OFFSETS = TopicPartition(CONSUMER_OFFSETS, 0)
CONFIG = BrokerConfig.parse({"node.id": "1", "offsets.topic.num.partitions": "1"})


class Broker:
    """Partitions, both coordinators on them, and a channel for markers that a test can cut."""

    def __init__(self, bench, one_led):
        self.bench, self.one_led = bench, one_led
        self.supervisor = Supervisor()
        self.ids = ProducerIds(self.allocate)
        self.groups = GroupCoordinator(
            node_id=1,
            config=CONFIG.groups,
            partitions=bench.partitions,
            create_topic=None,
            clock=bench.clock,
            supervisor=self.supervisor,
            random=Random(1),
        )
        self.local = LocalMarkers(partitions=bench.partitions, groups=self.groups, clock=bench.clock, timeout_seconds=5)
        self.channel = Channel(self.local)
        self.transactions = self.new_coordinator()
        self.image = self.publish("orders", CONSUMER_OFFSETS, TRANSACTION_STATE)
        self.groups.on_image(ImageDelta(self.image), self.image)
        self.transactions.on_image(self.image)

    async def allocate(self):
        return ProducerIdBlock(first=100, length=100)

    def new_coordinator(self):
        return TransactionCoordinator(
            node_id=1,
            config=CONFIG.transactions,
            partitions=self.bench.partitions,
            create_topic=None,
            producer_ids=self.ids,
            markers=MarkerSender(image=lambda: self.image, channels={1: self.channel}),
            clock=self.bench.clock,
            supervisor=self.supervisor,
        )

    def publish(self, *names):
        delta = ImageDelta(ClusterImage())
        topics = {}
        for number, name in enumerate(names, 1):
            topic_id = Uuid(bytes([number]) * 16)
            changed = delta.topics[topic_id] = TopicDelta(name=name, topic_id=topic_id, before=None)
            for partition in range(2 if name == "orders" else 1):
                changed.changed[partition] = self.one_led()
            topics[name] = changed.finish()
        image = ClusterImage(
            provenance=Provenance(offset=1),
            topics=topics,
            topics_by_id={topic.topic_id: topic for topic in topics.values()},
            features={"transaction.version": 2},
        )
        self.bench.partitions.on_image(delta, image)
        return image

    def restart_coordinator(self):
        self.transactions.close()
        self.transactions = self.new_coordinator()
        self.transactions.on_image(self.image)

    # -- requests

    async def init(self, name="tx"):
        command = InitProducerId(transactional_id=name, timeout_ms=60_000)
        return await self.transactions.ask_with_producer_id(
            name, lambda shard, now_ms, _token: shard.init_producer_id(command, now_ms)
        )

    async def add(self, owner, *places, name="tx", patiently=False):
        command = AddPartitions(
            transactional_id=name,
            producer_id=owner.producer_id,
            producer_epoch=owner.producer_epoch,
            partitions=places or (DATA,),
        )
        ask = self.transactions.ask_patiently if patiently else self.transactions.ask
        return await ask(name, lambda shard, now_ms, _: shard.add_partitions(command, now_ms))

    async def end(self, owner, *, commit=True, name="tx", client_version=0):
        command = EndTransaction(
            transactional_id=name,
            producer_id=owner.producer_id,
            producer_epoch=owner.producer_epoch,
            commit=commit,
            client_version=client_version,
        )
        return await self.transactions.ask(name, lambda shard, now_ms, _: shard.end_transaction(command, now_ms))

    async def state(self, name="tx"):
        known = await self.transactions.ask(name, lambda shard, _now, _token: shard.describe(name))
        return known.state

    async def settled(self, name="tx"):
        for _ in range(400):
            state = await self.state(name)
            if state in (TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT):
                return state
            await asyncio.sleep(0.005)
        raise AssertionError(f"still {state.name}")

    def markers(self, place=DATA):
        partition = self.bench.partitions.get(*place)
        data = partition.read(0, 1 << 20, isolation=Isolation.LOG_END, at_least_one=True)
        if data is None:
            return []
        raw = data.pread()
        data.release()
        return [header for _, header in iter_headers(raw) if header.is_control]

    def produce(self, owner, sequence, *, version=9, name="tx", partition=0):
        """The handler's answer, perhaps an awaitable."""
        return self.produce_to(owner, {partition: sequence}, version=version, name=name)

    def produce_to(self, owner, sequences, *, version=9, name="tx"):
        """The same for one batch to each of several partitions."""
        parts = []
        for partition, sequence in sequences.items():
            builder = BatchBuilder(
                producer_id=owner.producer_id,
                producer_epoch=owner.producer_epoch,
                base_sequence=sequence,
                transactional=True,
            )
            builder.append(self.bench.clock.now_ms(), b"k", b"v")
            parts.append(PartitionProduceData(index=partition, records=memoryview(bytearray(builder.build()))))
        request = ProduceRequest(
            transactional_id=name,
            acks=-1,
            timeout_ms=1000,
            topic_data=[TopicProduceData(name="orders", partition_data=parts)],
        )
        return self.produce_handler.handle(context(0, version, self.bench.clock), request)

    @property
    def produce_handler(self):
        if not hasattr(self, "_produce"):
            verification = TransactionVerification(
                coordinator=self.transactions,
                enabled=lambda: True,
                seconds_max=30.0,
            )
            self._produce = ProduceHandler(
                partitions=self.bench.partitions,
                leader_hints=LeaderHints(image=lambda: self.image),
                verification=ProduceVerification(partitions=self.bench.partitions, verification=verification),
            )
        return self._produce


class Mute:
    """A coordinator that never answers."""

    async def ask(self, transactional_id, command):
        await asyncio.Event().wait()

    ask_patiently = ask


@pytest.mark.parametrize("asking", [Asking.ADDING, Asking.ABORTABLE_ERROR])
def test_a_verification_without_an_answer_ends(asking):
    async def main():
        verification = TransactionVerification(
            coordinator=Mute(),
            enabled=lambda: True,
            seconds_max=0.01,
        )
        place = TopicPartition("orders", 0)
        refusals = await asyncio.wait_for(verification.ask("id", (1, 0), [place], asking), 5)
        assert refusals == {place: ErrorCode.NETWORK_EXCEPTION}

    asyncio.run(main())


class Channel:
    """Leads to this broker, unless it is cut."""

    def __init__(self, local):
        self.local = local
        self.cut = None
        self.asked = 0

    async def write(self, marker, partitions):
        self.asked += 1
        if self.cut is not None:
            return dict.fromkeys(partitions, self.cut)
        return await self.local.write(marker, partitions)


def context(api_key, version, clock):
    header = RequestHeader(api_key=api_key, api_version=version, correlation_id=1, client_id="tester")
    return RequestContext(
        header=header, client_address=("10.0.0.9", 4), listener_name="PLAINTEXT", now_ms=clock.now_ms()
    )


async def answered(answer):
    """The answer of a handler that may or may not have had to wait."""
    return await answer if hasattr(answer, "__await__") else answer


def code_of(answer):
    return ErrorCode(answer.responses[0].partition_responses[0].error_code)


@pytest.fixture
def run(make_bench, one_led):
    def start(body, policy=FlushPolicy.NEVER):
        async def main():
            broker = Broker(make_bench(policy), one_led)
            try:
                await body(broker)
                assert not broker.supervisor.failure.done(), broker.supervisor.failure.result()
            finally:
                broker.transactions.close()
                broker.groups.close()
                await broker.supervisor.stop()

        asyncio.run(main())

    return start


def test_a_transaction_is_marked_and_completed(run):
    async def body(broker):
        owner = await broker.init()
        await broker.add(owner)
        assert code_of(await broker.produce(owner, 0)) is ErrorCode.NONE
        assert broker.bench.partitions.get(*DATA).last_stable_offset == 0
        await broker.end(owner)
        assert await broker.settled() is TransactionState.COMPLETE_COMMIT
        assert [header.producer_epoch for header in broker.markers()] == [0]
        assert broker.bench.partitions.get(*DATA).last_stable_offset == 2

    run(body)


def test_no_marker_before_the_decision_is_on_disk(run):
    """A decision that can still be lost must not show in anybody's log."""

    async def body(broker):
        async def flushed(awaitable):
            task = asyncio.ensure_future(awaitable)
            while not task.done():
                await broker.bench.flushes.flush()
                await asyncio.sleep(0)
            return await task

        owner = await flushed(broker.init())
        await flushed(broker.add(owner))
        ending = asyncio.ensure_future(broker.end(owner))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not ending.done()
        assert not broker.markers()
        await flushed(ending)
        await asyncio.sleep(0.01)
        assert len(broker.markers()) == 1
        assert await flushed(broker.state()) is TransactionState.PREPARE_COMMIT, "the marker is not on disk"
        assert await flushed(broker.settled()) is TransactionState.COMPLETE_COMMIT

    run(body, FlushPolicy.ALWAYS)


@pytest.mark.parametrize("code", [ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.REQUEST_TIMED_OUT])
def test_markers_are_sent_until_they_are_in(run, code):
    async def body(broker):
        owner = await broker.init()
        await broker.add(owner)
        broker.channel.cut = code
        await broker.end(owner, commit=False)
        await asyncio.sleep(0.2)
        assert broker.channel.asked > 1
        assert await broker.state() is TransactionState.PREPARE_ABORT
        with pytest.raises(KafkaError, match="CONCURRENT_TRANSACTIONS"):
            await broker.add(owner)
        broker.channel.cut = None
        assert await broker.settled() is TransactionState.COMPLETE_ABORT

    run(body)


def test_who_begins_the_next_transaction_waits_for_the_end_of_the_last(run):
    async def body(broker):
        owner = await broker.init()
        await broker.add(owner)
        broker.channel.cut = ErrorCode.REQUEST_TIMED_OUT
        await broker.end(owner)
        adding = [asyncio.create_task(broker.add(owner, patiently=True)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in adding)
        broker.channel.cut = None
        assert await asyncio.wait_for(asyncio.gather(*adding), 5) == [ErrorCode.NONE] * 2
        assert await broker.state() is TransactionState.ONGOING

    run(body)


def test_who_begins_the_next_transaction_does_not_wait_for_long(run):
    async def body(broker):
        owner = await broker.init()
        await broker.add(owner)
        broker.channel.cut = ErrorCode.REQUEST_TIMED_OUT
        await broker.end(owner)
        adding = asyncio.create_task(broker.add(owner, patiently=True))
        await asyncio.sleep(0)
        broker.bench.clock.advance(CONFIG.transactions.add_retry_ms_max)
        with pytest.raises(KafkaError, match="CONCURRENT_TRANSACTIONS"):
            await asyncio.wait_for(adding, 5)

    run(body)


def test_a_marker_that_is_refused_for_good_completes_nothing(run):
    async def body(broker):
        owner = await broker.init()
        await broker.add(owner)
        broker.channel.cut = ErrorCode.TRANSACTION_COORDINATOR_FENCED
        await broker.end(owner)
        await asyncio.sleep(0.1)
        assert broker.channel.asked == 1
        assert await broker.state() is TransactionState.PREPARE_COMMIT

    run(body)


def test_partitions_that_are_gone_need_no_marker(run):
    async def body(broker):
        owner = await broker.init()
        await broker.add(owner, DATA, TopicPartition("deleted", 3))
        await broker.end(owner)
        assert await broker.settled() is TransactionState.COMPLETE_COMMIT

    run(body)


def test_another_coordinator_takes_up_what_was_decided(run):
    async def body(broker):
        owner = await broker.init()
        await broker.add(owner)
        broker.channel.cut = ErrorCode.NOT_LEADER_OR_FOLLOWER
        await broker.end(owner)
        broker.restart_coordinator()
        broker.channel.cut = None
        await asyncio.sleep(0.01)
        assert await broker.settled() is TransactionState.COMPLETE_COMMIT
        assert len(broker.markers()) >= 1

    run(body)


def test_offsets_wait_for_the_marker_in_the_living_shard(run):
    async def body(broker):
        owner = await broker.init()
        await broker.add(owner, OFFSETS)
        command = CommitOffsets(
            group_id="g",
            topics=(("orders", Uuid.ZERO, (OffsetToCommit(partition=0, offset=5),)),),
            producer_id=owner.producer_id,
        )
        guard = broker.bench.partitions.get(*OFFSETS).start_verification(
            (owner.producer_id, owner.producer_epoch, -1), broker.bench.clock.now_ms(), adds_partition=False
        )
        await broker.groups.ask(
            "g",
            lambda shard, now_ms, _token: shard.commit_transactional_offsets(command, now_ms),
            producer=BatchProducer(owner.producer_id, owner.producer_epoch, guard),
        )
        assert (await fetched(broker)).offset == -1
        assert (await fetched(broker, stable=True)).error is ErrorCode.UNSTABLE_OFFSET_COMMIT
        await broker.end(owner)
        await broker.settled()
        assert (await fetched(broker, stable=True)).offset == 5

    async def fetched(broker, *, stable=False):
        wanted = FetchOffsets(group_id="g", topics=(("orders", Uuid.ZERO, (0,)),), require_stable=stable)
        found = await broker.groups.ask("g", lambda shard, _now, _token: shard.fetch_offsets(wanted))
        return found.topics[0][2][0]

    run(body)


def test_records_need_the_coordinators_consent(run):
    async def body(broker):
        owner = await broker.init()
        assert code_of(await broker.produce(owner, 0)) is ErrorCode.INVALID_TXN_STATE
        assert code_of(await broker.produce(owner, 0, version=11)) is ErrorCode.TRANSACTION_ABORTABLE
        assert code_of(await broker.produce(owner, 0, version=12)) is ErrorCode.NONE, "which is asked for and given"
        assert code_of(await answered(broker.produce(owner, 1))) is ErrorCode.NONE

    run(body)


def test_a_batch_does_not_overtake_one_that_waits_for_consent(run):
    async def body(broker):
        owner = await broker.init()
        await broker.add(owner)
        answers = await asyncio.gather(*(broker.produce(owner, sequence) for sequence in range(5)))
        assert [code_of(answer) for answer in answers] == [ErrorCode.NONE] * 5
        offsets = [answer.responses[0].partition_responses[0].base_offset for answer in answers]
        assert offsets == list(range(5))

    run(body)


@pytest.mark.parametrize("callbacks_between", range(4))
def test_a_batch_that_needs_no_consent_does_not_overtake_one_whose_request_does(run, callbacks_between):
    async def body(broker):
        owner = await broker.init()
        await answered(broker.produce(owner, 0, version=12, partition=1))
        first = asyncio.ensure_future(answered(broker.produce_to(owner, {1: 1, 0: 0}, version=12)))
        for _ in range(callbacks_between):
            await asyncio.sleep(0)
        second = await answered(broker.produce(owner, 2, version=12, partition=1))
        assert code_of(second) is ErrorCode.NONE, "comes in the same callback as the one before it, or soon after"
        assert {part.error_code for part in (await first).responses[0].partition_responses} == {0}

    run(body)


def test_many_requests_wait_in_line_and_leave_none_behind(run):
    async def body(broker):
        owner = await broker.init()
        produced = []
        for sequence in range(6):
            # Every other one needs consent for a partition of its own, and their frames' buffer is used again.
            places = {1: sequence, 0: sequence} if sequence % 2 else {1: sequence}
            if 0 in places:
                places[0] = sequence // 2
            produced.append(asyncio.ensure_future(answered(broker.produce_to(owner, places, version=12))))
            await asyncio.sleep(0)
        parts = [part for answer in await asyncio.gather(*produced) for part in answer.responses[0].partition_responses]
        assert {part.error_code for part in parts} == {0}
        offsets = [part.base_offset for part in parts if part.index == 1]
        assert offsets == list(range(6))
        assert not broker.produce_handler.verification.is_busy("tx")
        assert not hasattr(broker.produce(owner, 6, version=12, partition=1), "__await__"), "nobody waits any more"

    run(body)


def test_records_that_wait_outlive_the_buffer_they_came_in(run):
    async def body(broker):
        owner = await broker.init()
        builder = BatchBuilder(producer_id=owner.producer_id, producer_epoch=0, base_sequence=0, transactional=True)
        builder.append(1, b"k", b"v")
        buffer = bytearray(builder.build())
        part = PartitionProduceData(index=0, records=memoryview(buffer))
        data = [TopicProduceData(name="orders", partition_data=[part])]
        request = ProduceRequest(transactional_id="tx", acks=-1, timeout_ms=1000, topic_data=data)
        waiting = broker.produce_handler.handle(context(0, 12, broker.bench.clock), request)
        buffer[:] = bytes(len(buffer))
        assert code_of(await waiting) is ErrorCode.NONE

    run(body)


def test_several_producers_in_one_request_are_refused(run):
    async def body(broker):
        owner = await broker.init()
        builder = BatchBuilder(producer_id=owner.producer_id + 1, producer_epoch=0, base_sequence=0, transactional=True)
        builder.append(1, b"k", b"v")
        other = PartitionProduceData(index=1, records=memoryview(bytearray(builder.build())))
        builder = BatchBuilder(producer_id=owner.producer_id, producer_epoch=0, base_sequence=0, transactional=True)
        builder.append(1, b"k", b"v")
        own = PartitionProduceData(index=0, records=memoryview(bytearray(builder.build())))
        data = [TopicProduceData(name="orders", partition_data=[own, other])]
        request = ProduceRequest(transactional_id="tx", acks=-1, timeout_ms=1000, topic_data=data)
        answer = broker.produce_handler.handle(context(0, 9, broker.bench.clock), request)
        codes = [part.error_code for part in answer.responses[0].partition_responses]
        assert codes == [ErrorCode.INVALID_PRODUCER_ID_MAPPING] * 2

    run(body)


def test_a_marker_that_comes_in_between_makes_consent_worthless(run):
    async def body(broker):
        owner = await broker.init()
        await broker.add(owner)
        waiting = broker.produce(owner, 0)
        partition = broker.bench.partitions.get(*DATA)
        marker = ProducerMarker(owner.producer_id, owner.producer_epoch, EndMarker(False, 0), 0)
        partition.append_marker(marker, broker.bench.clock.now_ms())
        assert code_of(await waiting) is ErrorCode.INVALID_TXN_STATE
        assert partition.log.producers.first_undecided_offset is None

    run(body)


def test_old_versions_know_no_fenced_producers(run):
    async def body(broker):
        first = await broker.init()
        await broker.init()
        handler = EndTxnHandler(coordinator=broker.transactions)
        for version, code in ((1, ErrorCode.INVALID_PRODUCER_EPOCH), (2, ErrorCode.PRODUCER_FENCED)):
            request = EndTxnRequest(
                transactional_id="tx", producer_id=first.producer_id, producer_epoch=0, committed=True
            )
            answer = await handler.handle(context(26, version, broker.bench.clock), request)
            assert answer.error_code == code
        handler = InitProducerIdHandler(producer_ids=broker.ids, coordinator=broker.transactions)
        for version, code in ((3, ErrorCode.INVALID_PRODUCER_EPOCH), (4, ErrorCode.PRODUCER_FENCED)):
            request = InitProducerIdRequest(
                transactional_id="tx", transaction_timeout_ms=1000, producer_id=999, producer_epoch=3
            )
            answer = await handler.handle(context(22, version, broker.bench.clock), request)
            assert answer.error_code == code

    run(body)


def test_an_administrator_ends_a_transaction(run):
    async def body(broker):
        owner = await broker.init()
        await broker.add(owner)
        await broker.produce(owner, 0)
        marker = WritableTxnMarker(
            producer_id=owner.producer_id,
            producer_epoch=owner.producer_epoch,
            transaction_result=False,
            coordinator_epoch=-1,
            topics=[
                WritableTxnMarkerTopic(name="orders", partition_indexes=[0, 7]),
                WritableTxnMarkerTopic(name="nowhere", partition_indexes=[0]),
            ],
        )
        answer = await WriteTxnMarkersHandler(markers=broker.local).handle(
            context(27, 1, broker.bench.clock), WriteTxnMarkersRequest(markers=[marker])
        )
        codes = [[part.error_code for part in topic.partitions] for topic in answer.markers[0].topics]
        assert codes == [[0, 3], [3]]
        assert broker.bench.partitions.get(*DATA).last_stable_offset == 2

    run(body)


def test_ids_are_listed_by_an_expression_while_others_are_served(run):
    names = ("orders-1", "orders-2", "Заказы-1", "clicks")

    async def body(broker):
        handler = ListTransactionsHandler(coordinator=broker.transactions)

        async def ask(pattern):
            request = ListTransactionsRequest(transactional_id_pattern=pattern)
            answer = await handler.handle(context(66, 2, broker.bench.clock), request)
            return [listed.transactional_id for listed in answer.transaction_states], ErrorCode(answer.error_code)

        for name in names:
            await broker.init(name)
        for pattern, found in (
            (None, names),
            ("", names),
            ("orders-[0-9]", names[:2]),
            ("orders", ()),
            ("(?i)\\p{Cyrillic}+-1", names[2:3]),
        ):
            assert await ask(pattern) == (list(found), ErrorCode.NONE)
        for pattern in ("(?=a)", "(a)\\1", "(a{1000}){1000}"):
            assert await ask(pattern) == ([], ErrorCode.INVALID_REGULAR_EXPRESSION)

        # Matching this takes seconds.
        await broker.init("a" * 10_000)
        slow = asyncio.create_task(ask("(?:.?){1000}b"))
        await asyncio.sleep(0)
        await asyncio.wait_for(broker.state("clicks"), 5)
        assert not slow.done()
        slow.cancel()
        await asyncio.wait([slow])

    run(body)
