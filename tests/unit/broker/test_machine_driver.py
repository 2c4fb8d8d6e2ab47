"""The driver of replicated machines: nothing unwritten is applied, nothing unacknowledged answered; replay restores."""

import asyncio
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from ottla.broker.gathered import ADAPTIVE_LINGER
from ottla.broker.machine_driver import DriverState, MachineDriver, ProducerMarker
from ottla.broker.partition import FlushPolicy, Isolation
from ottla.model import Decision, Reply
from ottla.records.batch import Codec, iter_headers
from ottla.records.control import EndTransaction, end_transaction_batch
from ottla.records.origin import Origin
from ottla.wire import DecodeError
from ottla.wire.errors import ErrorCode, KafkaError


class Tally:
    """A machine that appends words, and can be told to park, to refuse and to wake up later."""

    def __init__(self):
        self.words = []
        self.offsets = []
        self.loaded_ms = None
        self.deadline = None
        self.taken_back = []
        self.markers = []

    def apply(self, record, offset):
        if isinstance(record, tuple):
            self.markers.append(record)
            return
        self.words.append(record)
        self.offsets.append(offset)

    def on_loaded(self, now_ms):
        self.loaded_ms = now_ms
        return Decision()

    def next_deadline(self):
        return self.deadline

    def on_deadline(self, now_ms):
        self.deadline = None
        return Decision(records=("late",), replies=(Reply(token=1, response="woken"),))

    def on_append_failed(self, records, now_ms):
        self.taken_back.append(tuple(records))
        return Decision()

    def say(self, *words, atomic=True):
        return Decision(records=words, response=len(self.words) + len(words), atomic=atomic)

    def count(self):
        return Decision(response=len(self.words))


class Words:
    def encode(self, record):
        return record.encode(), b"!"

    def decode(self, key, value, producer_id):
        if key == b"unknown":
            return None
        if key == b"damaged":
            raise DecodeError("damaged")
        return key.decode()

    def decode_marker(self, producer_id, committed):
        return (producer_id, committed)


@dataclass
class Stage:
    bench: object
    partition: object
    machine: Tally
    driver: MachineDriver
    failures: list

    def submit(self, *words, **options):
        return self.driver.submit(lambda machine, _now, _token: machine.say(*words, **options))

    def gather(self, *words):
        return self.driver.begin(lambda machine, _now, _token: machine.say(*words), gathers=True).future()

    def batches(self):
        """How many records each batch of the log holds."""
        region = self.partition.read(0, 1 << 20, isolation=Isolation.LOG_END, at_least_one=True)
        if region is None:
            return []
        try:
            return [header.record_count for _, header in iter_headers(memoryview(region.pread()))]
        finally:
            region.release()


def new_driver(bench, partition, machine, failures=None, **options):
    return MachineDriver(
        machine=machine,
        codec=Words(),
        partition=partition,
        clock=bench.clock,
        load_bytes=options.get("load_bytes", 1 << 20),
        compression=options.get("compression", Codec.NONE),
        fail=([] if failures is None else failures).append,
        linger_ms=options.get("linger_ms", ADAPTIVE_LINGER),
    )


@pytest.fixture
def make_stage(make_bench, one_led):
    def make(policy=FlushPolicy.NEVER, **options):
        bench = make_bench(policy)
        bench.publish(log=[one_led()])
        partition = bench.partitions.get("log", 0)
        machine, failures = Tally(), []
        driver = new_driver(bench, partition, machine, failures, **options)
        assert driver.start_if_empty()
        return Stage(bench, partition, machine, driver, failures)

    return make


def test_what_was_decided_is_in_the_log_and_answered(make_stage):
    async def main():
        stage = make_stage()
        assert await stage.submit("a", "b") == 2
        assert await stage.submit("c") == 3
        assert stage.machine.words == ["a", "b", "c"]
        assert stage.machine.offsets == [0, 1, 2]
        assert stage.partition.log.log_end_offset == 3

    asyncio.run(main())


def test_an_answer_waits_for_the_disk_and_so_does_one_that_only_read(make_stage):
    async def main():
        stage = make_stage(FlushPolicy.ALWAYS)
        written = stage.submit("a")
        read = stage.driver.submit(lambda machine, _now, _token: machine.count())
        assert stage.machine.words == ["a"], "the next command sees it already"
        assert not written.done()
        assert not read.done(), "it would tell of a word that may still be lost"
        await stage.bench.flushes.flush()
        assert (await written, await read) == (1, 1)
        idle = stage.driver.submit(lambda machine, _now, _token: machine.count())
        assert idle.done()

    asyncio.run(main())


def test_a_lost_acknowledgement_closes_the_driver(make_stage):
    async def main():
        stage = make_stage(FlushPolicy.ALWAYS)
        written = stage.submit("a")
        await stage.bench.flushes.fail()
        await asyncio.sleep(0)
        with pytest.raises(KafkaError) as lost:
            await written
        assert lost.value.code is ErrorCode.NOT_COORDINATOR
        assert stage.driver.state is DriverState.CLOSED
        with pytest.raises(KafkaError):
            stage.submit("b")

    asyncio.run(main())


def test_what_could_not_be_appended_is_not_applied_and_taken_back(make_stage):
    async def main():
        stage = make_stage()
        parked = stage.driver.submit(lambda _machine, _now, _token: Decision())
        await stage.submit("a")
        stage.partition.log.config = replace(stage.partition.log.config, max_message_bytes=100)
        too_much = stage.driver.submit(
            lambda _machine, _now, _token: Decision(records=("b" * 90,), replies=(Reply(token=1, response="x"),))
        )
        for future in (too_much, parked):
            with pytest.raises(KafkaError) as refused:
                await future
            assert refused.value.code is ErrorCode.RECORD_LIST_TOO_LARGE
        assert stage.machine.words == ["a"]
        assert stage.machine.taken_back == [("b" * 90,)]
        assert stage.partition.log.log_end_offset == 1
        assert await stage.submit("c") == 2

    asyncio.run(main())


def test_what_need_not_be_atomic_is_written_in_several_batches(make_stage):
    async def main():
        stage = make_stage()
        words = [f"word-{index:04}" for index in range(100)]
        stage.partition.log.config = replace(stage.partition.log.config, max_message_bytes=200)
        with pytest.raises(KafkaError):
            await stage.submit(*words)
        assert stage.machine.words == []
        await stage.submit(*words, atomic=False)
        assert stage.machine.words == words
        assert stage.machine.offsets == list(range(100))

    asyncio.run(main())


def test_a_refusal_of_the_machine_reaches_the_caller(make_stage):
    async def main():
        stage = make_stage()

        def refuse(_machine, _now, _token):
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)

        with pytest.raises(KafkaError):
            stage.driver.submit(refuse)
        assert await stage.submit("a") == 1

    asyncio.run(main())


def test_parked_commands_are_answered_by_later_ones_and_by_time(make_stage):
    async def main():
        stage = make_stage()
        parked = stage.driver.submit(lambda _machine, _now, _token: Decision())
        other = stage.driver.submit(lambda _machine, _now, _token: Decision())
        assert not parked.done()
        stage.machine.deadline = stage.bench.clock.now_ms() + 1
        await stage.driver.submit(
            lambda _machine, _now, _token: Decision(replies=(Reply(token=2, response="there"),), response=0)
        )
        assert await other == "there"
        stage.bench.clock.advance(5)
        assert await asyncio.wait_for(parked, 5) == "woken"
        assert stage.machine.words == ["late"]
        assert stage.failures == []

    asyncio.run(main())


def test_a_bug_in_a_deadline_stops_the_node(make_stage):
    async def main():
        stage = make_stage()

        def broken(_now_ms):
            raise AssertionError("bug")

        stage.machine.on_deadline = broken
        stage.machine.deadline = stage.bench.clock.now_ms()
        await stage.driver.submit(lambda machine, _now, _token: machine.count())
        await asyncio.sleep(0.01)
        assert [str(failure) for failure in stage.failures] == ["bug"]

    asyncio.run(main())


def test_closing_tells_everybody_who_waits(make_stage):
    async def main():
        stage = make_stage(FlushPolicy.ALWAYS)
        parked = stage.driver.submit(lambda _machine, _now, _token: Decision())
        held = stage.submit("a")
        stage.driver.close(KafkaError(ErrorCode.NOT_COORDINATOR))
        stage.driver.close(KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR))
        for future in (parked, held):
            with pytest.raises(KafkaError) as told:
                await future
            assert told.value.code is ErrorCode.NOT_COORDINATOR
        await stage.bench.flushes.flush()

    asyncio.run(main())


def test_what_gathers_in_one_callback_is_one_batch(make_stage):
    async def main():
        stage = make_stage()

        def callback():
            return [stage.gather("a"), stage.gather("b", "c"), stage.gather("d")]

        answers = callback()
        assert stage.machine.words == []
        await asyncio.gather(*answers)
        assert stage.machine.words == ["a", "b", "c", "d"]
        assert stage.machine.offsets == [0, 1, 2, 3]
        assert stage.batches() == [4]

    asyncio.run(main())


def test_another_command_comes_after_what_has_gathered(make_stage):
    async def main():
        stage = make_stage()
        first = stage.gather("a")
        counted = stage.driver.submit(lambda machine, _now, _token: machine.count())
        second = stage.gather("b")
        stage.machine.deadline = stage.bench.clock.now_ms()
        stage.driver.run_deadlines()
        await asyncio.gather(first, second)
        assert await counted == 1
        assert stage.machine.words == ["a", "b", "late"]
        third = stage.gather("c")
        marker = ProducerMarker(7, 0, EndTransaction(committed=True, coordinator_epoch=0), 1)
        assert stage.driver.end_transaction(marker) == 4
        await third
        assert stage.batches() == [1, 1, 1, 1, 1]

    asyncio.run(main())


def test_while_the_disk_is_busy_commands_gather_for_the_next_sync(make_stage):
    async def main():
        stage = make_stage(FlushPolicy.ALWAYS)
        first = stage.gather("a")
        await asyncio.sleep(0)
        gathered = []
        for word in ("b", "c", "d"):
            gathered.append(stage.gather(word))
            await asyncio.sleep(0)
        assert stage.machine.words == ["a"]
        await stage.bench.flushes.flush()
        assert await first == 1
        assert stage.batches() == [1, 3]
        assert not any(answer.done() for answer in gathered)
        await stage.bench.flushes.flush()
        await asyncio.gather(*gathered)
        assert stage.machine.words == ["a", "b", "c", "d"]

    asyncio.run(main())


def test_an_acknowledgement_that_takes_long_does_not_hold_up_the_log(make_stage):
    async def main():
        stage = make_stage(FlushPolicy.ALWAYS)
        first = stage.gather("a")
        await asyncio.sleep(0)
        second = stage.gather("b")
        async with asyncio.timeout(5):
            while stage.batches() != [1, 1]:
                await asyncio.sleep(0.001)
        assert not first.done()
        assert not second.done()
        await stage.bench.flushes.flush()
        await asyncio.gather(first, second)

    asyncio.run(main())


@pytest.mark.parametrize(("linger_ms", "batches"), [(0, [1, 1, 1]), (20, [3])])
def test_a_linger_of_ones_own(make_stage, linger_ms, batches):
    async def main():
        stage = make_stage(linger_ms=linger_ms)
        answers = []
        for word in ("a", "b", "c"):
            answers.append(stage.gather(word))
            await asyncio.sleep(0)
        await asyncio.gather(*answers)
        assert stage.batches() == batches
        assert stage.machine.words == ["a", "b", "c"]

    asyncio.run(main())


def test_what_does_not_fit_one_batch_is_written_and_refused_one_by_one(make_stage):
    async def main():
        stage = make_stage()
        stage.partition.log.config = replace(stage.partition.log.config, max_message_bytes=200)
        words = ["a" * 70, "b" * 300, "c" * 70, "d" * 70]
        answers = await asyncio.gather(*(stage.gather(word) for word in words), return_exceptions=True)
        assert isinstance(answers[1], KafkaError)
        assert answers[1].code is ErrorCode.RECORD_LIST_TOO_LARGE
        assert stage.machine.words == [words[0], words[2], words[3]]
        assert stage.machine.taken_back == [(words[1],)]
        assert stage.batches() == [1, 1, 1]

    asyncio.run(main())


def test_an_append_that_closes_the_driver_ends_the_gathering(make_stage):
    async def main():
        stage = make_stage()

        def fails(*_args, **_options):
            stage.driver.close(KafkaError(ErrorCode.NOT_COORDINATOR))
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)

        stage.partition.append = fails
        answers = [stage.gather("a"), stage.gather(), stage.gather("b")]
        for told in await asyncio.gather(*answers, return_exceptions=True):
            assert isinstance(told, KafkaError)
            assert told.code is ErrorCode.NOT_COORDINATOR
        assert stage.failures == []

    asyncio.run(main())


def test_closing_tells_also_who_gathers(make_stage):
    async def main():
        stage = make_stage()
        gathered = stage.gather("a")
        stage.driver.close(KafkaError(ErrorCode.NOT_COORDINATOR))
        with pytest.raises(KafkaError):
            await gathered
        await asyncio.sleep(0.01)
        assert stage.batches() == []
        assert stage.failures == []

    asyncio.run(main())


def test_a_bug_while_the_gathered_are_written_stops_the_node(make_stage):
    async def main():
        stage = make_stage()

        def broken(_record, _offset):
            raise AssertionError("bug")

        stage.machine.apply = broken
        stage.gather("a")
        await asyncio.sleep(0.01)
        assert [str(failure) for failure in stage.failures] == ["bug"]

    asyncio.run(main())


@pytest.mark.parametrize("load_bytes", [1, 150, 1 << 20])
@pytest.mark.parametrize("compression", [Codec.NONE, Codec.GZIP])
def test_replay_restores_what_was_written_in_chunks_of_any_size(make_stage, load_bytes, compression):
    async def main():
        stage = make_stage(compression=compression)
        for index in range(30):
            await stage.submit(f"a{index}", f"b{index}")
        machine = Tally()
        driver = new_driver(stage.bench, stage.partition, machine, load_bytes=load_bytes)
        assert not driver.start_if_empty()
        with pytest.raises(KafkaError) as loading:
            driver.submit(lambda machine, _now, _token: machine.count())
        assert loading.value.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        await driver.load()
        assert driver.state is DriverState.ACTIVE
        assert (machine.words, machine.offsets) == (stage.machine.words, stage.machine.offsets)
        assert machine.loaded_ms == stage.bench.clock.now_ms()

    asyncio.run(main())


def test_replay_passes_over_what_it_cannot_read_and_sees_markers(make_stage):
    async def main():
        stage = make_stage()
        await stage.submit("a", "unknown", "damaged", "b")
        marker = EndTransaction(committed=True, coordinator_epoch=0)
        batch = end_transaction_batch(marker, producer_id=7, producer_epoch=0, timestamp=1)
        stage.partition.append(memoryview(bytearray(batch)), origin=Origin.COORDINATOR, required_acks=-1, now_ms=1)
        machine = Tally()
        driver = new_driver(stage.bench, stage.partition, machine)
        await driver.load()
        assert (machine.words, machine.offsets) == (["a", "b"], [0, 3])
        assert machine.markers == [(7, True)]

    asyncio.run(main())


def test_a_driver_closed_while_it_loads_stays_closed(make_stage):
    async def main():
        stage = make_stage()
        for index in range(10):
            await stage.submit(f"a{index}")
        machine = Tally()
        driver = new_driver(stage.bench, stage.partition, machine, load_bytes=1)
        loading = asyncio.get_running_loop().create_task(driver.load())
        await asyncio.sleep(0)
        driver.close(KafkaError(ErrorCode.NOT_COORDINATOR))
        await loading
        assert driver.state is DriverState.CLOSED
        assert machine.loaded_ms is None

    asyncio.run(main())
