"""Scenarios of a transaction shard: what happens to it and what it decides.

Every record goes through its bytes before it is applied.
"""

from msgspec.structs import replace

from harness.scenarios import act_by_name, check, scenarios
from ottla.model import Decision, TopicPartition
from ottla.transactions.commands import (
    AddPartitions,
    EndTransaction,
    InitProducerId,
    ProducerIdAndEpoch,
    ProducerResult,
    TransactionFilter,
)
from ottla.transactions.records import TransactionRecord, decode_record, encode_record
from ottla.transactions.settings import TransactionSettings
from ottla.transactions.shard import TransactionShard
from ottla.transactions.transaction import STATES_BY_DISPLAY, Transaction
from ottla.wire.errors import ErrorCode, KafkaError


@scenarios("transactions")
def test_scenario(path, rewrite):
    stage = Stage()
    check(path, lambda line: act_by_name(stage, line), rewrite=rewrite)


class Stage:
    """A shard, its log, a clock."""

    def __init__(self):
        self.now = 0
        self.settings = TransactionSettings()
        self.next_id = 1000
        self.ids_left = 100
        self.log = []
        self.out = []
        self.shard = self.fresh()

    def fresh(self):
        shard = TransactionShard(settings=self.settings, next_producer_id=self.take_id)
        for offset, (key, value) in enumerate(self.log):
            shard.apply(decode_record(key, value), offset)
        assert not shard.on_loaded(self.now).records
        return shard

    def take_id(self):
        if not self.ids_left:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        self.ids_left -= 1
        self.next_id += 1
        return self.next_id - 1

    # -- events

    def do_settings(self, **options):
        self.settings = TransactionSettings(**{name: int(value) for name, value in options.items()})
        self.shard = self.fresh()

    def do_ids(self, left):
        self.ids_left = int(left)

    def do_init(self, name, **options):
        expected = None
        if "as" in options:
            producer_id, epoch = map(int, options["as"].split(":"))
            expected = ProducerIdAndEpoch(producer_id=producer_id, producer_epoch=epoch)
        command = InitProducerId(
            transactional_id=name, timeout_ms=int(options.get("timeout", 60_000)), expected=expected
        )
        self.carry_out(self.shard.init_producer_id(command, self.now))

    def do_add(self, name, owner, *places, version="0"):
        self.carry_out(self.shard.add_partitions(adding(name, owner, places, version), self.now))

    def do_verify(self, name, owner, *places):
        self.carry_out(self.shard.verify_partitions(adding(name, owner, places, "0")))

    def do_commit(self, name, owner, version="0"):
        self.end(name, owner, version, commit=True)

    def do_abort(self, name, owner, version="0"):
        self.end(name, owner, version, commit=False)

    def end(self, name, owner, version, *, commit):
        producer_id, epoch = map(int, owner.split(":"))
        command = EndTransaction(
            transactional_id=name,
            producer_id=producer_id,
            producer_epoch=epoch,
            commit=commit,
            client_version=int(version),
        )
        self.carry_out(self.shard.end_transaction(command, self.now))

    def do_marked(self, name):
        """All markers are in."""
        self.carry_out(self.shard.complete(self.shard.describe(name).response, self.now))

    def do_marked_late(self, name):
        """All markers of the transaction as it was before the last record are in."""
        earlier = [decode_record(*entry) for entry in self.log][:-1]
        known = [record.value for record in earlier if record.transactional_id == name]
        self.carry_out(self.shard.complete(known[-1], self.now))

    def do_describe(self, name):
        self.out.append(shown(self.shard.describe(name).response))

    def do_prepared(self):
        self.out += [shown(known) for known in self.shard.prepared().response]

    def do_list(self, **options):
        names = [name for name in options.get("states", "").split(",") if name]
        wanted = TransactionFilter(
            states=frozenset(STATES_BY_DISPLAY[name] for name in names) if names else None,
            producer_ids=frozenset(int(one) for one in options.get("producers", "").split(",") if one),
            duration_ms=int(options.get("duration", -1)),
        )
        self.out += [shown(known) for known in self.shard.list_transactions(wanted, self.now).response]

    def do_wait(self, milliseconds):
        """Time passes; deadlines are met when they are due."""
        end = self.now + int(milliseconds)
        for _ in range(100):
            deadline = self.shard.next_deadline()
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            mark = len(self.out)
            self.carry_out(self.shard.on_deadline(self.now))
            self.out[mark:] = [f"[{self.now}] {line}" for line in self.out[mark:]]
        else:
            raise AssertionError("deadlines that never move on")
        self.now = end

    def do_restart(self):
        before = self.everything()
        self.shard = self.fresh()
        assert self.everything() == before

    def everything(self):
        """As far as a record of this version can tell."""
        version = self.settings.transaction_version
        known = self.shard.list_transactions(TransactionFilter(), self.now).response
        return sorted(encode_record(TransactionRecord(one.transactional_id, one), version) for one in known)

    def do_epoch(self, name, epoch):
        """The id has had so many owners by now."""
        known = self.shard.describe(name).response
        jumped = replace(known, producer_epoch=int(epoch), last_producer_epoch=-1)
        self.carry_out(Decision(records=(TransactionRecord(name, jumped),)))

    # -- decisions

    def carry_out(self, decision):
        for record in decision.records:
            entry = encode_record(record, self.settings.transaction_version)
            self.log.append(entry)
            self.shard.apply(record, len(self.log) - 1)
            value = record.value
            self.out.append(f"write {record.transactional_id} {'gone' if value is None else shown(value)}")
        match decision.response:
            case ProducerResult() as result:
                self.out.append(f"{result.error.name} {result.producer_id}:{result.producer_epoch}")
            case dict() as codes:
                self.out += [f"{key}: {code.name}" for key, code in codes.items()]
            case ErrorCode() as code:
                self.out.append(code.name)
            case bool() as news:
                self.out.append("completed" if news else "not news")
            case None:
                pass


def adding(name, owner, places, version):
    producer_id, epoch = map(int, owner.split(":"))
    partitions = tuple(TopicPartition(topic, int(part)) for topic, part in (place.rsplit("-", 1) for place in places))
    return AddPartitions(
        transactional_id=name,
        producer_id=producer_id,
        producer_epoch=epoch,
        partitions=partitions,
        client_version=int(version),
    )


def shown(known: Transaction):
    where = ",".join(map(str, known.partitions)) or "-"
    return (
        f"{known.state.display} {known.producer_id}:{known.producer_epoch} before={known.previous_producer_id}"
        f" next={known.next_producer_id} started={known.started_ms} client={known.client_version} {where}"
    )
