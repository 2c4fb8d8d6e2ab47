"""Transactions: every state against every request, and what partitions and readers make of it."""

from __future__ import annotations

import itertools
import time
from typing import Any

from harness.differential.produce import produce
from harness.differential.topics import fetch, make
from harness.twins import Case, Row, Steps, Twin, batch
from ottla.wire.messages.add_offsets_to_txn_request import AddOffsetsToTxnRequest
from ottla.wire.messages.add_partitions_to_txn_request import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from ottla.wire.messages.describe_producers_request import DescribeProducersRequest, TopicRequest
from ottla.wire.messages.describe_transactions_request import DescribeTransactionsRequest
from ottla.wire.messages.end_txn_request import EndTxnRequest
from ottla.wire.messages.fetch_request import FetchPartition
from ottla.wire.messages.find_coordinator_request import FindCoordinatorRequest
from ottla.wire.messages.init_producer_id_request import InitProducerIdRequest
from ottla.wire.messages.list_offsets_request import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.wire.messages.list_transactions_request import ListTransactionsRequest
from ottla.wire.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from ottla.wire.messages.txn_offset_commit_request import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from ottla.wire.messages.update_features_request import FeatureUpdateKey, UpdateFeaturesRequest
from ottla.wire.messages.write_txn_markers_request import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)

TRANSACTIONAL = 16
COMING = (14, 15, 16)
"""The errors of a coordinator that is not there yet."""
ENDING = ("PrepareCommit", "PrepareAbort")


class Id:
    """A transactional id on one node, and who owns it as far as the case knows."""

    def __init__(self, twin: Twin, name: str) -> None:
        self.twin, self.name = twin, name
        self.producer_id = self.epoch = -1

    def init(self, version: int = 4, **rest: Any) -> Any:
        """Take the id over, however often that has to be asked."""
        for _ in range(200):
            request = InitProducerIdRequest(transactional_id=self.name, transaction_timeout_ms=60_000, **rest)
            answer = self.twin.call(request, version)
            if answer.error_code not in (*COMING, 51):
                break
            time.sleep(0.02)
        if answer.error_code == 0:
            self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
            self.twin.producers[answer.producer_id] = self.name
        return self.twin.plain(answer)

    def add(self, *places: tuple[str, int], version: int = 3, **lies: Any) -> Any:
        """AddPartitionsToTxn as a client sends it."""
        return self.twin.ask_any(self.adding(*places, **lies), version)

    def adding(self, *places: tuple[str, int], **lies: Any) -> AddPartitionsToTxnRequest:
        """The request of a client."""
        topics: dict[str, list[int]] = {}
        for topic, part in places:
            topics.setdefault(topic, []).append(part)
        return AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=lies.get("name", self.name),
            v3_and_below_producer_id=lies.get("producer_id", self.producer_id),
            v3_and_below_producer_epoch=lies.get("epoch", self.epoch),
            v3_and_below_topics=[
                AddPartitionsToTxnTopic(name=name, partitions=parts) for name, parts in topics.items()
            ],
        )

    def end(self, *, commit: bool, version: int = 3, **lies: Any) -> Any:
        """EndTxn, and the wait for what it sets off; a client of version 2 takes over what it is told."""
        request = EndTxnRequest(
            transactional_id=lies.get("name", self.name),
            producer_id=lies.get("producer_id", self.producer_id),
            producer_epoch=lies.get("epoch", self.epoch),
            committed=commit,
        )
        answer = self.twin.call(request, version)
        if answer.error_code == 0:
            self.settle()
            if version >= 5:
                self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
        return self.twin.plain(answer)

    def error_code(self) -> int:
        """What the coordinator says about the id."""
        found = self.twin.call(DescribeTransactionsRequest(transactional_ids=[self.name]), 0)
        return int(found.transaction_states[0].error_code)

    def settle(self) -> str:
        """The state, once no markers are under way."""
        for _ in range(200):
            found = self.twin.call(DescribeTransactionsRequest(transactional_ids=[self.name]), 0).transaction_states[0]
            if found.transaction_state not in ENDING:
                break
            time.sleep(0.02)
        return str(found.transaction_state)

    def records(self, sequence: int, *rows: Row, **lies: Any) -> bytes:
        """A batch of the transaction."""
        return batch(
            *rows,
            attributes=TRANSACTIONAL,
            producer_id=lies.get("producer_id", self.producer_id),
            producer_epoch=lies.get("epoch", self.epoch),
            sequence=sequence,
        )

    def send(self, topic: str, sequence: int, version: int = 9, **lies: Any) -> Any:
        """Produce to partition 0."""
        request = produce(self.twin, version, topic, self.records(sequence, **lies))
        request.transactional_id = lies.get("name", self.name)
        return self.twin.ask(request, version)


def ready(twin: Twin, label: str = "id") -> Id:
    """A transactional id nobody has used; a fresh Apache node makes the topic on the first question."""
    made = Id(twin, twin.unique(label))
    for _ in range(400):
        found = twin.call(FindCoordinatorRequest(key=made.name, key_type=1), 3).error_code
        if found == 0 and made.error_code() not in COMING:
            break
        time.sleep(0.05)
    return made


def init_errors(twin: Twin) -> Steps:
    one = ready(twin)
    for version in range(6):
        for timeout in (0, -1, 900_001, 2**31 - 1):
            request = InitProducerIdRequest(transactional_id=one.name, transaction_timeout_ms=timeout)
            yield f"v{version} timeout {timeout}", twin.ask(request, version)
    yield "first", one.init()
    yield "again", one.init()
    for version in (3, 4, 5):
        for pid, epoch in ((one.producer_id + 1000, 0), (one.producer_id, 77), (one.producer_id, -1), (-1, 0)):
            request = InitProducerIdRequest(
                transactional_id=one.name, transaction_timeout_ms=1000, producer_id=pid, producer_epoch=epoch
            )
            yield f"v{version} as {pid - one.producer_id} {epoch}", twin.ask(request, version)
    old = (one.producer_id, one.epoch)
    yield "bump", one.init(producer_id=old[0], producer_epoch=old[1])
    yield "retry of bump", one.init(producer_id=old[0], producer_epoch=old[1])
    yield "before that", one.init(producer_id=old[0], producer_epoch=old[1] - 1)


def init_while_open(twin: Twin) -> Steps:
    topic = make(twin, "txn-init", 1)
    for version in (0, 4, 5):
        one = ready(twin)
        one.init()
        yield f"v{version} add", one.add((topic, 0))
        request = InitProducerIdRequest(transactional_id=one.name, transaction_timeout_ms=60_000)
        yield f"v{version} while open", twin.ask(request, version)
        yield f"v{version} state", one.settle()
        before = one.epoch
        one.init()
        yield f"v{version} epochs", one.epoch - before
        yield f"v{version} old owner", one.end(commit=True, epoch=before)


def adding(twin: Twin) -> Steps:
    topic = make(twin, "txn-add", 3)
    for version in range(4):
        one = ready(twin)
        yield f"v{version} unknown id", one.add((topic, 0), version=version, producer_id=5, epoch=0)
        one.init()
        yield f"v{version} empty id", one.add((topic, 0), version=version, name="")
        yield f"v{version} other producer", one.add((topic, 0), version=version, producer_id=one.producer_id + 999)
        yield f"v{version} old epoch", one.add((topic, 0), version=version, epoch=-1)
        yield f"v{version} new epoch", one.add((topic, 0), version=version, epoch=9)
        yield f"v{version} missing", one.add((topic, 0), ("nowhere", 0), (topic, 7), version=version)
        yield f"v{version} fine", one.add((topic, 0), (topic, 1), version=version)
        yield f"v{version} again", one.add((topic, 0), version=version)
        yield f"v{version} more", one.add((topic, 2), version=version)
        yield f"v{version} described", described(one)


def adding_many(twin: Twin) -> Steps:
    topic = make(twin, "txn-many", 2)
    for version in (4, 5):
        one, other = ready(twin, "a"), ready(twin, "b")
        one.init()
        other.init()
        one.add((topic, 0))

        def ask(
            *wanted: tuple[Id, int, bool], version: int = version, one: Id = one, other: Id = other, **lies: Any
        ) -> Any:
            request = AddPartitionsToTxnRequest(
                transactions=[
                    AddPartitionsToTxnTransaction(
                        transactional_id=lies.get("name", who.name),
                        producer_id=lies.get("producer_id", who.producer_id),
                        producer_epoch=lies.get("epoch", who.epoch),
                        verify_only=verify,
                        topics=[AddPartitionsToTxnTopic(name=topic, partitions=[part])],
                    )
                    for who, part, verify in wanted
                ]
            )
            answer = twin.ask_any(request, version)
            if isinstance(answer, dict):
                for row in answer["results_by_transaction"]:
                    row["transactional_id"] = {one.name: "one", other.name: "other"}.get(row["transactional_id"], "?")
                answer["results_by_transaction"].sort(key=lambda row: row["transactional_id"])
            return answer

        yield f"v{version} verify", ask((one, 0, True))
        yield f"v{version} verify absent", ask((one, 1, True))
        yield f"v{version} verify idle", ask((other, 1, True))
        yield f"v{version} verify missing", ask((one, 9, True))
        yield f"v{version} verify stranger", ask((one, 0, True), producer_id=999)
        yield f"v{version} verify old epoch", ask((one, 0, True), epoch=-1)
        yield f"v{version} verify unknown", ask((one, 0, True), name="nobody")
        yield f"v{version} verify empty", ask((one, 0, True), name="")
        yield f"v{version} two", ask((one, 1, False), (other, 0, False))
        yield f"v{version} described", described(one)
        yield f"v{version} fenced", ask((one, 0, False), epoch=-1)
        yield f"v{version} none", ask()


def adding_offsets(twin: Twin) -> Steps:
    offsets_ready(twin, "txn-group")
    for version in range(5):
        one = ready(twin)

        def ask(version: int = version, one: Id = one, **lies: Any) -> Any:
            request = AddOffsetsToTxnRequest(
                transactional_id=lies.get("name", one.name),
                producer_id=lies.get("producer_id", one.producer_id),
                producer_epoch=lies.get("epoch", one.epoch),
                group_id="txn-group",
            )
            return twin.ask(request, version)

        yield f"v{version} unknown id", ask(producer_id=5, epoch=0)
        one.init()
        yield f"v{version} empty id", ask(name="")
        yield f"v{version} other producer", ask(producer_id=one.producer_id + 999)
        yield f"v{version} old epoch", ask(epoch=-1)
        yield f"v{version} fine", ask()
        yield f"v{version} described", described(one)


def ending(twin: Twin) -> Steps:
    """Each state, each end, each epoch; by clients of both kinds."""
    topic = make(twin, "txn-end", 1)
    states = {
        "empty": (),
        "ongoing": ("add",),
        "committed": ("add", "commit"),
        "aborted": ("add", "abort"),
    }
    for version in range(6):
        for state, steps in states.items():
            for commit, shift in itertools.product((True, False), (0, -1, 1)):
                one = ready(twin)
                one.init()
                for step in steps:
                    if step == "add":
                        one.add((topic, 0))
                    else:
                        one.end(commit=step == "commit", version=version)
                label = f"v{version} {state} {'commit' if commit else 'abort'} {shift:+d}"
                yield label, one.end(commit=commit, version=version, epoch=one.epoch + shift)
                yield f"{label} then", described(one)
        one = ready(twin)
        yield f"v{version} unknown", one.end(commit=True, version=version, producer_id=3, epoch=0)
        one.init()
        yield f"v{version} empty id", one.end(commit=True, version=version, name="")
        yield f"v{version} other producer", one.end(commit=True, version=version, producer_id=one.producer_id + 999)


def producing(twin: Twin) -> Steps:
    """The first records of a transaction, with and without its consent."""
    for version in range(3, 14):
        topic = make(twin, f"txn-produce-{version}", 2)
        one = ready(twin)
        one.init()
        yield f"v{version} unknown id", one.send(topic, 0, version, name="nobody")
        yield f"v{version} no id", one.send(topic, 0, version, name=None)
        yield f"v{version} not added", one.send(topic, 0, version)
        one.add((topic, 0))
        yield f"v{version} old epoch", one.send(topic, 0, version, epoch=-1)
        yield f"v{version} later epoch", one.send(topic, 0, version, epoch=5)
        yield f"v{version} stranger", one.send(topic, 0, version, producer_id=one.producer_id + 999)
        yield f"v{version} added", one.send(topic, 0, version)
        yield f"v{version} twice", one.send(topic, 0, version)
        yield f"v{version} more", one.send(topic, 1, version)
        yield f"v{version} gap", one.send(topic, 7, version)
        plain = produce(twin, version, topic, batch(producer_id=one.producer_id, producer_epoch=one.epoch, sequence=2))
        yield f"v{version} plain in between", twin.ask(plain, version)
        yield f"v{version} producers", producers(twin, topic)
        yield f"v{version} commit", one.end(commit=True)
        yield f"v{version} producers after", producers(twin, topic)
        yield f"v{version} after the end", one.send(topic, 2, version)
        yield f"v{version} log", read(twin, topic, committed=False)


def bumping(twin: Twin) -> Steps:
    """A client of version 2: every transaction has an epoch of its own, and late requests nobody to go to."""
    topic = make(twin, "txn-bump", 1)
    one = ready(twin)
    one.init()
    for number in range(3):
        yield f"{number} send", one.send(topic, 0, 12)
        yield f"{number} more", one.send(topic, 1, 12)
        old = one.epoch
        yield f"{number} end", one.end(commit=number != 1, version=5)
        yield f"{number} end again", one.end(commit=number != 1, version=5, epoch=old)
        yield f"{number} late produce", one.send(topic, 2, 12, epoch=old)
        yield f"{number} late add", one.add((topic, 0), epoch=old)
        yield f"{number} producers", producers(twin, topic)
    yield "first sequence of the next", one.send(topic, 5, 12)
    yield "committed", read(twin, topic, committed=True)
    yield "everything", read(twin, topic, committed=False)
    yield "offsets", stable_offsets(twin, topic)


def readers(twin: Twin) -> Steps:
    """Two transactions that overlap, one of them aborted."""
    topic = make(twin, "txn-readers", 1)
    one, other = ready(twin, "a"), ready(twin, "b")
    one.init()
    other.init()
    for who in (one, other):
        who.add((topic, 0))
    one.send(topic, 0)
    other.send(topic, 0)
    yield "both open", (read(twin, topic, committed=True), stable_offsets(twin, topic))
    one.send(topic, 1)
    one.end(commit=False)
    yield "one aborted", (read(twin, topic, committed=True), stable_offsets(twin, topic))
    other.end(commit=True)
    yield "both done", (read(twin, topic, committed=True), stable_offsets(twin, topic))
    for version in range(4, 13):
        yield f"fetch v{version}", read(twin, topic, committed=True, version=version)
        yield f"fetch v{version} tail", read(twin, topic, committed=True, version=version, offset=3)


def committing_offsets(twin: Twin) -> Steps:
    topic = make(twin, "txn-commit", 2)
    for version in range(6):
        group = f"txn-commit-{version}"
        offsets_ready(twin, group)
        one = ready(twin)
        one.init()

        def ask(offset: int, version: int = version, group: str = group, one: Id = one, **lies: Any) -> Any:
            parts = [TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=offset)]
            topics = [TxnOffsetCommitRequestTopic(name=lies.get("topic", topic), partitions=parts)]
            member = {key: lies[key] for key in ("generation_id", "member_id", "group_instance_id") if key in lies}
            request = TxnOffsetCommitRequest(
                transactional_id=lies.get("name", one.name),
                group_id=lies.get("group", group),
                producer_id=lies.get("producer_id", one.producer_id),
                producer_epoch=lies.get("epoch", one.epoch),
                topics=topics,
                **member,
            )
            return twin.ask(request, version)

        yield f"v{version} not added", ask(1)
        twin.ask(
            AddOffsetsToTxnRequest(
                transactional_id=one.name, producer_id=one.producer_id, producer_epoch=one.epoch, group_id=group
            ),
            3,
        )
        yield f"v{version} empty group", ask(1, group="")
        yield f"v{version} missing topic", ask(1, topic="nowhere")
        yield f"v{version} old epoch", ask(1, epoch=-1)
        yield f"v{version} stranger", ask(1, producer_id=one.producer_id + 999)
        yield f"v{version} fine", ask(3)
        if version >= 3:
            yield f"v{version} generation", ask(4, generation_id=5, member_id="x")
            yield f"v{version} member", ask(4, member_id="x")
            yield f"v{version} instance", ask(4, group_instance_id="x")
        yield f"v{version} pending", committed_offset(twin, group, topic)
        yield f"v{version} commit", one.end(commit=True)
        yield f"v{version} committed", committed_offset(twin, group, topic)
        yield f"v{version} late", ask(9)
        twin.ask(
            AddOffsetsToTxnRequest(
                transactional_id=one.name, producer_id=one.producer_id, producer_epoch=one.epoch, group_id=group
            ),
            3,
        )
        yield f"v{version} second", ask(8)
        yield f"v{version} abort", one.end(commit=False)
        yield f"v{version} after abort", committed_offset(twin, group, topic)


def markers(twin: Twin) -> Steps:
    """WriteTxnMarkers by an administrator."""
    for version in (1, 2):
        for transaction_version in (0, 2) if version == 2 else (0,):
            topic = make(twin, f"txn-markers-{version}-{transaction_version}", 2)
            one = ready(twin)
            one.init()
            one.init()
            one.add((topic, 0))
            one.send(topic, 0)

            def ask(*places: tuple[str, int], one: Id = one, **lies: Any) -> Any:
                marker = WritableTxnMarker(
                    producer_id=lies.get("producer_id", one.producer_id),
                    producer_epoch=one.epoch + lies.get("shift", 0),
                    transaction_result=lies.get("commit", False),
                    topics=[WritableTxnMarkerTopic(name=name, partition_indexes=[part]) for name, part in places],
                    coordinator_epoch=lies.get("coordinator_epoch", 3),
                    transaction_version=lies.get("transaction_version", 0),
                )
                return twin.ask_any(WriteTxnMarkersRequest(markers=[marker]), lies.get("version", 2))

            rest = {"version": version, "transaction_version": transaction_version}
            label = f"v{version} {transaction_version}"
            yield f"{label} unknown", ask(("nowhere", 0), (topic, 9), **rest)
            yield f"{label} half unknown", ask(("nowhere", 0), (topic, 1), **rest)
            yield f"{label} old epoch", ask((topic, 0), shift=-1, **rest)
            yield f"{label} same epoch", ask((topic, 0), **rest)
            yield f"{label} same again", ask((topic, 0), **rest)
            yield f"{label} next epoch", ask((topic, 0), shift=1, **rest)
            yield f"{label} next again", ask((topic, 0), shift=1, **rest)
            yield f"{label} zombie", ask((topic, 0), shift=2, coordinator_epoch=1, **rest)
            yield f"{label} nobody", ask((topic, 1), producer_id=one.producer_id + 999, commit=True, **rest)
            yield f"{label} producers", producers(twin, topic)
            yield f"{label} log", read(twin, topic, committed=False)
    yield "no markers", twin.ask(WriteTxnMarkersRequest(markers=[]), 1)


def listing(twin: Twin) -> Steps:
    topic = make(twin, "txn-list", 1)
    one, other = ready(twin, "listed"), ready(twin, "listed")
    one.init()
    other.init()
    one.add((topic, 0))

    def ask(version: int, **filters: Any) -> Any:
        answer = twin.ask(ListTransactionsRequest(**filters), version)
        if isinstance(answer, dict):
            rows = answer.pop("transaction_states")
            answer["found"] = [row["transaction_state"] for row in rows if row["transactional_id"] == one.name]
            answer["other"] = [row["transaction_state"] for row in rows if row["transactional_id"] == other.name]
        return answer

    for version in range(3):
        yield f"v{version}", ask(version)
        yield f"v{version} ongoing", ask(version, state_filters=["Ongoing"])
        yield f"v{version} strange", ask(version, state_filters=["Sleeping", "ongoing"])
        yield f"v{version} both", ask(version, state_filters=["Sleeping", "Empty"])
        yield f"v{version} producer", ask(version, producer_id_filters=[other.producer_id])
    for duration in (-1, 0, 10**9):
        yield f"duration {duration}", ask(1, duration_filter=duration)
    understood = (
        "",
        ".*",
        "listed-.*",
        "listed",
        "x.*",
        "listed-[0-9]+",
        r"(?i)LISTED-\d{1,3}",
        r"\p{Ll}+[[:punct:]](?P<n>\d)*",
    )
    for pattern in (*understood, "(", "*", "a**", "(?=listed).*", r"(l)isted\1", "[a-z&&[l]]+.*", "listed-.*+"):
        yield f"pattern {pattern}", ask(2, transactional_id_pattern=pattern)
    for ids in ([], [""], ["nobody"], ["nobody", ""]):
        yield f"describe {ids}", twin.ask(DescribeTransactionsRequest(transactional_ids=ids), 0)


def versions(twin: Twin) -> Steps:
    """Lowering and raising ``transaction.version``, and what clients of all kinds get on each level."""
    topic = make(twin, "txn-versions", 1)

    def level(wanted: int, kind: int, *, validate_only: bool = False) -> Any:
        update = FeatureUpdateKey(feature="transaction.version", max_version_level=wanted, upgrade_type=kind)
        answer = twin.ask(UpdateFeaturesRequest(feature_updates=[update], validate_only=validate_only), 2)
        time.sleep(0.5)
        return answer

    for wanted, kind in ((3, 1), (-1, 1), (1, 1), (1, 2), (0, 2), (2, 1), (0, 3)):
        yield f"may {wanted} {kind}", level(wanted, kind, validate_only=True)
    for wanted, kind in ((1, 2), (0, 2)):
        yield f"down to {wanted}", level(wanted, kind)
        for version in (3, 5):
            one = ready(twin)
            one.init()
            yield f"level {wanted} v{version} send", one.send(topic, 0, 12 if version == 5 else 9)
            one.add((topic, 0))
            yield f"level {wanted} v{version} send added", one.send(topic, 0, 12 if version == 5 else 9)
            epoch = one.epoch
            yield f"level {wanted} v{version} end", one.end(commit=True, version=version)
            yield f"level {wanted} v{version} epochs", one.epoch - epoch
            one.add((topic, 0))
            request = InitProducerIdRequest(transactional_id=one.name, transaction_timeout_ms=60_000)
            yield f"level {wanted} v{version} fence", twin.ask(request, 4)
            one.settle()
            one.init()
            yield f"level {wanted} v{version} fenced epochs", one.epoch - epoch
    yield "up", level(2, 1)
    yield "log", read(twin, topic, committed=True)


def described(one: Id) -> Any:
    answer = one.twin.ask_any(DescribeTransactionsRequest(transactional_ids=[one.name]), 0)
    for row in answer["transaction_states"]:
        row["transactional_id"] = "*"
        row["transaction_start_time_ms"] = "started" if row["transaction_start_time_ms"] > 0 else "not"
        row["producer_id"] = "own" if row["producer_id"] in (one.producer_id, one.name) else "other"
    return answer


def producers(twin: Twin, topic: str) -> Any:
    answer = twin.ask(DescribeProducersRequest(topics=[TopicRequest(name=topic, partition_indexes=[0, 1])]), 0)
    for row in answer["topics"]:
        for part in row["partitions"]:
            for one in part["active_producers"]:
                one["producer_id"] = "*"
                one["last_timestamp"] = "some time"
    return answer


def read(twin: Twin, topic: str, *, committed: bool, version: int = 11, offset: int = 0) -> Any:
    """Partition 0 from an offset on; markers carry the time they were written."""
    part = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 22)
    request = fetch(twin, version, part, topic=topic)
    request.isolation_level = int(committed)
    answer = twin.ask(request, version)
    for row in answer["responses"]:
        for one in row["partitions"]:
            for found in one["aborted_transactions"] or ():
                found["producer_id"] = "*"
            for found in one["records"] or ():
                if found["attributes"] & 32:
                    found["times"] = "some time"
    return answer


def stable_offsets(twin: Twin, topic: str) -> Any:
    out = []
    for isolation, timestamp in itertools.product((0, 1), (-1, -2)):
        part = ListOffsetsPartition(partition_index=0, timestamp=timestamp)
        request = ListOffsetsRequest(
            replica_id=-1, isolation_level=isolation, topics=[ListOffsetsTopic(name=topic, partitions=[part])]
        )
        out.append(twin.ask(request, 5))
    return out


def committed_offset(twin: Twin, group: str, topic: str) -> Any:
    wanted = OffsetFetchRequestTopics(name=topic, partition_indexes=[0])
    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=[wanted])], require_stable=True)
    stable = twin.ask(request, 8)
    request.require_stable = False
    return stable, twin.ask(request, 8)


def offsets_ready(twin: Twin, group: str) -> None:
    for _ in range(400):
        wanted = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=None)])
        found = twin.call(FindCoordinatorRequest(key=group), 3).error_code
        if found == 0 and twin.call(wanted, 8).groups[0].error_code == 0:
            return
        time.sleep(0.05)


CASES: tuple[Case, ...] = (
    init_errors,
    init_while_open,
    adding,
    adding_many,
    adding_offsets,
    ending,
    producing,
    bumping,
    readers,
    committing_offsets,
    markers,
    listing,
    versions,
)
