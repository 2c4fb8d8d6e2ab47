"""Transactions under arbitrary schedules, against a model small enough to be believed.

Real are the coordinator's shard, the guards, the producer ledgers and the logs on disk. The model knows transactions as
lists of values and how each ended. Clients keep to the protocol, but their requests may be late: they wait between the
coordinator's consent and the append, arrive twice, or arrive when their producer has long been replaced. Coordinators
and partitions may start again at any point. Then a reader of committed records sees, in order, what committed
transactions wrote, and nothing else; and the stable offset stands where the model says.

``OTTLA_MODEL_CASES`` sets the number of schedules (200 without it).
"""

import os
import shutil
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import Struct, field

from ottla.broker.partition import ACKS_ALL, FlushPolicy, Isolation, Partition, PartitionSettings
from ottla.config.log import LogConfig
from ottla.metadata.image import PartitionImage
from ottla.model import TopicPartition, Uuid
from ottla.records.batch import iter_headers, read_header
from ottla.records.builder import BatchBuilder
from ottla.records.control import EndTransaction as EndMarker
from ottla.records.control import read_end_transaction
from ottla.records.origin import Origin
from ottla.records.reader import read_records
from ottla.storage.log_store import LogStore
from ottla.transactions.commands import AddPartitions, EndTransaction, InitProducerId
from ottla.transactions.records import decode_record, encode_record
from ottla.transactions.settings import TransactionSettings
from ottla.transactions.shard import TransactionShard
from ottla.transactions.transaction import PREPARED
from ottla.transactions.verification import Asker
from ottla.wire.errors import ErrorCode, KafkaError

CASES = int(os.environ.get("OTTLA_MODEL_CASES", "200"))
pytestmark = pytest.mark.timeout(120 + CASES)
PLACES = (TopicPartition("t", 0), TopicPartition("t", 1))
TIMEOUT_MS = 60_000
CLIENTS = st.sampled_from(("old", "new", "both"))
PARTS = st.sampled_from(PLACES)
PICK = st.integers(0, 2**16)


class Marker(Struct):
    """One marker under way to one partition; ``written`` is what it decides there, None for an empty transaction."""

    written: "Written | None"
    place: TopicPartition
    producer_id: int
    producer_epoch: int
    end: EndMarker
    transaction_version: int


class Written(Struct, eq=False):
    """A transaction as the model sees it; ``committed`` is None while nobody has decided."""

    values: dict[TopicPartition, list[bytes]] = field(default_factory=lambda: {place: [] for place in PLACES})
    committed: bool | None = None
    marked: set[TopicPartition] = field(default_factory=set)


class Request(Struct):
    """A produce request that has left its client, and what was decided about it so far."""

    client: str
    place: TopicPartition
    owner: tuple[int, int]
    sequence: int
    value: bytes
    written: Written
    guard: object = None
    consented: bool = False


class Client(Struct):
    """A producer that follows the protocol of its version."""

    name: str
    version: int
    owner: tuple[int, int] | None = None
    sequences: dict[TopicPartition, int] = field(default_factory=dict)
    added: set[TopicPartition] = field(default_factory=set)
    written: Written | None = None


class Transactions(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="ottla-model-"))
        self.now = 1_700_000_000_000
        self.next_id = 0
        self.log = []
        self.clients = {}
        self.in_flight = []
        self.sent = []
        self.markers = []
        self.number = 0
        self.open = {}
        self.decided = {}
        self.history = {place: [] for place in PLACES}
        self.changed = False
        self.settings = TransactionSettings()
        self.shard = self.new_shard()
        self.leader_epoch = 0
        self.open_store()

    # -- the system

    def open_store(self):
        self.store = LogStore.open([self.directory], cluster_id="model", node_id=1, rng=Random(1))
        self.store.load(lambda topic: LogConfig(), now_ms=self.now)
        rules = PartitionSettings(
            flush_policy=FlushPolicy.NEVER,
            flushes=None,
            decompressed_bytes_max=1 << 20,
            replica_lag_time_max_ms=30_000,
            propose_isr=lambda partition, change: None,
        )
        topic_id = Uuid(b"t" * 16)
        self.leader_epoch += 1
        image = PartitionImage(
            replicas=(1,), isr=(1,), leader=1, leader_epoch=self.leader_epoch, partition_epoch=self.leader_epoch
        )
        self.partitions = {}
        for place in PLACES:
            log = self.store.create(place, topic_id, LogConfig(), now_ms=self.now)
            self.partitions[place] = Partition(
                topic_partition=place, topic_id=topic_id, node_id=1, log=log, high_watermark=0, settings=rules
            )
            self.partitions[place].apply_image(image, self.now)

    def teardown(self):
        self.store.close(clean=False)
        shutil.rmtree(self.directory)

    def new_shard(self):
        shard = TransactionShard(settings=self.settings, next_producer_id=self.take_id)
        for offset, (key, value) in enumerate(self.log):
            shard.apply(decode_record(key, value), offset)
        shard.on_loaded(self.now)
        return shard

    def take_id(self):
        self.next_id += 1
        return self.next_id

    def carry_out(self, decision):
        """Write and apply; decided transactions send their markers."""
        for record in decision.records:
            self.log.append(encode_record(record, 2))
            self.shard.apply(record, len(self.log))
            if record.value is not None and record.value.state in PREPARED:
                self.send_markers(record.value)
        return decision.response

    def send_markers(self, prepared):
        owner = (prepared.producer_id, prepared.producer_epoch)
        written = self.decide(prepared)
        for place in prepared.partitions:
            end = EndMarker(committed=prepared.commits, coordinator_epoch=self.leader_epoch)
            self.markers.append(Marker(written, place, *owner, end, prepared.client_version))

    def decide(self, prepared):
        """Which transaction of the model this is: the one that was open, or, sent again, the same as before."""
        name = prepared.transactional_id
        written = self.open.pop(name, None)
        if written is not None:
            written.committed = prepared.commits
            self.decided[name, prepared.producer_id, prepared.producer_epoch] = written
        # Its client may not know: what it still sends belongs to this transaction, or is refused.
        return self.decided.get((name, prepared.producer_id, prepared.producer_epoch))

    def expect(self, refused, *codes):
        if refused.code not in codes:
            raise AssertionError(f"refused with {refused.code.name}") from refused

    # -- clients

    @initialize()
    def clients_come(self):
        for name, version in (("old", 0), ("new", 2), ("both", 2)):
            self.clients[name] = Client(name, version)
            self.init(name)

    @rule(name=CLIENTS)
    def init(self, name):
        """A new process of the producer: it owns the id once nothing is open."""
        client = self.clients[name]
        command = InitProducerId(transactional_id=name, timeout_ms=TIMEOUT_MS)
        try:
            result = self.carry_out(self.shard.init_producer_id(command, self.now))
        except KafkaError as refused:
            result = None
            self.expect(refused, ErrorCode.CONCURRENT_TRANSACTIONS)
        self.abandon(client)
        if result is not None and result.error is ErrorCode.NONE:
            self.adopt(client, (result.producer_id, result.producer_epoch))

    def abandon(self, client):
        """Nobody speaks for the old process any more; what it sent may still arrive."""
        client.owner = None
        client.written = None

    def adopt(self, client, owner):
        client.owner = owner
        client.sequences = dict.fromkeys(PLACES, 0)
        client.added = set()
        client.written = None

    @rule(name=CLIENTS, place=PARTS)
    def send(self, name, place):
        """A batch leaves the client; where it arrives first in its transaction, consent is asked for."""
        client = self.clients[name]
        if client.owner is None:
            return
        if client.version < 2 and place not in client.added and not self.add(client, place):
            return
        if client.written is None:
            client.written = Written()
        self.number += 1
        request = Request(name, place, client.owner, client.sequences[place], b"%d" % self.number, client.written)
        client.sequences[place] += 1
        self.in_flight.append(request)

    def add(self, client, place, version=0):
        try:
            self.carry_out(self.shard.add_partitions(self.adding(client.name, client.owner, place, version), self.now))
        except KafkaError as refused:
            self.expect(refused, ErrorCode.CONCURRENT_TRANSACTIONS, ErrorCode.PRODUCER_FENCED)
            if refused.code is ErrorCode.PRODUCER_FENCED:
                self.abandon(client)
            return False
        client.added.add(place)
        if client.written is None:
            client.written = Written()
        self.open[client.name] = client.written
        return True

    def adding(self, name, owner, place, version):
        return AddPartitions(
            transactional_id=name,
            producer_id=owner[0],
            producer_epoch=owner[1],
            partitions=(place,),
            client_version=version,
        )

    @precondition(lambda self: self.in_flight)
    @rule(pick=PICK)
    def ask(self, pick):
        """The partition's leader asks the coordinator about a request that has reached it."""
        request = self.in_flight[pick % len(self.in_flight)]
        adds = self.clients[request.client].version >= 2
        # A new question: what was answered to an earlier one is of no use any more.
        request.consented = False
        try:
            request.guard = self.partitions[request.place].start_verification(
                Asker(*request.owner, request.sequence), self.now, adds_partition=adds
            )
            if request.guard is not None:
                self.consent(request, adds=adds)
            request.consented = True
        except KafkaError as refused:
            if refused.code is not ErrorCode.CONCURRENT_TRANSACTIONS:
                self.lose(request)

    def consent(self, request, *, adds):
        command = self.adding(request.client, request.owner, request.place, 2)
        if adds:
            self.carry_out(self.shard.add_partitions(command, self.now))
            self.open[request.client] = request.written
            return
        found = self.shard.verify_partitions(command).response
        if found[request.place] is not ErrorCode.NONE:
            raise KafkaError(found[request.place])

    @precondition(lambda self: any(request.consented for request in self.in_flight))
    @rule(pick=PICK)
    def arrive(self, pick):
        """A request is appended, with whatever was found out about it, however long ago."""
        ready = [request for request in self.in_flight if request.consented]
        request = ready[pick % len(ready)]
        partition = self.partitions[request.place]
        try:
            appended = self.append(partition, request)
        except KafkaError as refused:
            if refused.code in (ErrorCode.INVALID_TXN_STATE, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER):
                # The client sends it again, as long as it is this client's.
                request.consented = False
                if self.clients[request.client].owner != request.owner:
                    self.lose(request)
            else:
                self.expect(refused, ErrorCode.INVALID_PRODUCER_EPOCH)
                self.lose(request)
            return
        self.in_flight.remove(request)
        self.sent.append(request)
        if not appended.duplicate:
            joined = self.joined_by(request)
            assert joined is not None, f"{request} hangs: no transaction will ever end it"
            # Below version 2 nothing tells a late request from one of the next transaction.
            assert joined is request.written or self.clients[request.client].version < 2
            joined.values[request.place].append(request.value)
            self.history[request.place].append(joined)

    def joined_by(self, request):
        """The transaction whose marker comes next there: one that is open, or decided and not marked yet."""
        if request.client in self.open:
            return self.open[request.client]
        decided = [marker.written for marker in self.markers if marker.place == request.place]
        mine = [one for (name, *_), one in self.decided.items() if name == request.client]
        return next((one for one in mine if one in decided and request.place not in one.marked), None)

    def append(self, partition, request):
        builder = BatchBuilder(
            producer_id=request.owner[0],
            producer_epoch=request.owner[1],
            base_sequence=request.sequence,
            transactional=True,
        )
        builder.append(self.now, b"k", request.value)
        batch = memoryview(bytearray(builder.build()))
        self.changed = True
        return partition.append(
            batch,
            origin=Origin.CLIENT,
            required_acks=ACKS_ALL,
            now_ms=self.now,
            headers=((0, read_header(batch)),),
            guard=request.guard,
        )

    def lose(self, request):
        """Refused for good: a producer that is still alive gives its transaction up."""
        self.in_flight.remove(request)
        client = self.clients[request.client]
        if client.owner == request.owner:
            self.abandon(client)

    @precondition(lambda self: self.sent)
    @rule(pick=PICK)
    def arrive_again(self, pick):
        """The network delivers a request a second time, of whatever age."""
        request = self.sent[-1 - pick % min(len(self.sent), 12)]
        again = Request(
            request.client, request.place, request.owner, request.sequence, b"again " + request.value, Written()
        )
        adds = self.clients[request.client].version >= 2
        try:
            again.guard = self.partitions[again.place].start_verification(
                Asker(*again.owner, again.sequence), self.now, adds_partition=adds
            )
            if again.guard is not None:
                self.consent(again, adds=adds)
            appended = self.append(self.partitions[again.place], again)
        except KafkaError:
            return
        assert appended.duplicate, f"{request} was appended twice"

    @rule(name=CLIENTS, commit=st.booleans())
    def end(self, name, commit):
        client = self.clients[name]
        if client.owner is None or (client.version < 2 and not client.added):
            return
        own = [request for request in self.in_flight if request.owner == client.owner and request.client == name]
        if own and commit:
            return  # a commit waits for every answer
        command = EndTransaction(
            transactional_id=name,
            producer_id=client.owner[0],
            producer_epoch=client.owner[1],
            commit=commit,
            client_version=client.version,
        )
        try:
            result = self.carry_out(self.shard.end_transaction(command, self.now))
        except KafkaError as refused:
            self.refused_end(client, refused.code, commit=commit)
            return
        if client.version >= 2:
            self.adopt(client, (result.producer_id, result.producer_epoch))
        else:
            client.added = set()
            client.written = None

    def refused_end(self, client, code, *, commit):
        if code is ErrorCode.PRODUCER_FENCED:
            self.abandon(client)
        elif code is ErrorCode.INVALID_TXN_STATE:
            assert client.version < 2 or commit, "an abort in doubt is always fine"
        else:
            assert code is ErrorCode.CONCURRENT_TRANSACTIONS, code

    @precondition(lambda self: self.sent)
    @rule(pick=PICK, commit=st.booleans())
    def late_end(self, pick, commit):
        """An EndTxn of a client of version 2 that the network has kept: nobody's transaction may end by it."""
        request = self.sent[-1 - pick % min(len(self.sent), 12)]
        client = self.clients[request.client]
        if client.version < 2 or client.owner is None or client.owner == request.owner:
            return
        command = EndTransaction(
            transactional_id=client.name,
            producer_id=request.owner[0],
            producer_epoch=request.owner[1],
            commit=commit,
            client_version=2,
        )
        try:
            decision = self.shard.end_transaction(command, self.now)
        except KafkaError:
            return
        assert not decision.records, f"a late request of {request.owner} ended the transaction of {client.owner}"

    # -- brokers

    @precondition(lambda self: self.markers)
    @rule(pick=PICK, again=st.booleans())
    def mark(self, pick, again):
        """A marker reaches its partition; perhaps its answer is lost, and it comes again."""
        marker = self.markers[pick % len(self.markers)]
        self.partitions[marker.place].append_marker(marker, self.now)
        self.changed = True
        if marker.written is not None:
            marker.written.marked.add(marker.place)
        if not again:
            self.markers.remove(marker)
            self.complete()

    def complete(self):
        for prepared in self.shard.prepared().response:
            left = [one for one in self.markers if one.producer_id == prepared.producer_id]
            if not left:
                self.carry_out(self.shard.complete(prepared, self.now))

    @rule(name=CLIENTS, commit=st.booleans())
    def end_and_mark(self, name, commit):
        """The common case in one step: a transaction ends before anything else happens."""
        self.end(name, commit)
        while self.markers:
            self.mark(0, again=False)
        self.complete()

    @rule(name=CLIENTS, place=PARTS)
    def send_and_ask(self, name, place):
        """The common case: whoever sends first in a transaction is answered at once."""
        self.send(name, place)
        if self.in_flight:
            self.ask(len(self.in_flight) - 1)

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds):
        self.now += seconds * 1000
        while (self.shard.next_deadline() or self.now + 1) <= self.now:
            self.carry_out(self.shard.on_deadline(self.now))

    @rule()
    def restart_coordinator(self):
        """Whatever was decided is found in the log, and its markers are sent again."""
        self.markers.clear()
        self.shard = self.new_shard()
        for prepared in self.shard.prepared().response:
            self.send_markers(prepared)

    @rule()
    def restart_partitions(self):
        """Producer ledgers come from snapshots and logs; guards are gone."""
        self.store.close(clean=True)
        self.open_store()
        self.changed = True
        for request in self.in_flight:
            request.guard, request.consented = None, False

    # -- what must hold

    @invariant()
    def what_must_hold(self):
        if self.changed:
            self.changed = False
            self.committed_readers_see_committed_transactions()
            self.stable_offsets_stop_at_the_first_open_transaction()

    def committed_readers_see_committed_transactions(self):
        for place, partition in self.partitions.items():
            expected = [
                value for written, value in self.values_in_order(place) if written.committed and place in written.marked
            ]
            seen = read_committed(partition)
            assert seen == expected[: len(seen)], (place, seen, expected)
            assert not any(value.startswith(b"again") for value in seen)

    def values_in_order(self, place):
        taken = {}
        for written in self.history[place]:
            index = taken[id(written)] = taken.get(id(written), -1) + 1
            yield written, written.values[place][index]

    def stable_offsets_stop_at_the_first_open_transaction(self):
        for partition in self.partitions.values():
            first = first_undecided(partition)
            end = partition.high_watermark
            assert partition.last_stable_offset == (end if first is None else first)


def batches(partition):
    data = partition.read(0, 1 << 24, isolation=Isolation.LOG_END, at_least_one=True)
    if data is None:
        return
    raw = data.pread()
    data.release()
    for position, header in iter_headers(raw):
        yield header, raw[position : position + header.size]


def first_undecided(partition):
    """By the log alone."""
    started = {}
    for header, raw in batches(partition):
        if header.is_control:
            if read_end_transaction(raw) is not None:
                started.pop(header.producer_id, None)
        elif header.is_transactional:
            started.setdefault(header.producer_id, header.base_offset)
    return min(started.values(), default=None)


def read_committed(partition):
    """As a consumer does it: below the stable offset, without what the list of aborted transactions names."""
    stable = partition.last_stable_offset
    aborted = sorted(partition.log.aborted_transactions(0, stable), key=lambda one: one.first_offset)
    skipped = set()
    values = []
    for header, raw in batches(partition):
        if header.base_offset >= stable:
            break
        while aborted and aborted[0].first_offset <= header.last_offset:
            skipped.add(aborted.pop(0).producer_id)
        if header.is_control:
            end = read_end_transaction(raw)
            if end is not None and not end.committed:
                skipped.discard(header.producer_id)
        elif header.producer_id not in skipped:
            values += [record.value for record in read_records(raw)]
    return values


TestTransactions = Transactions.TestCase
TestTransactions.settings = settings(
    max_examples=CASES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
