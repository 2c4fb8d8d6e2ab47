"""One producer's transactions (KIP-98, KIP-360, KIP-447, KIP-890), on brokers of transaction version 1 and 2.

With version 2 a partition joins a transaction by being written to, and every end of a transaction begins a new epoch;
with version 1 the coordinator is told of partitions and groups beforehand. Which of the two is spoken is asked anew for
each transaction: a cluster may be upgraded in between.

The states: ``ready`` -> ``open`` -> ``ending`` -> ``ready``; an error makes it ``failed`` (abort, then go on) or
``dead`` (fenced, not authorized: close the producer).
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol, assert_never

from ottla.client._accumulator import NO_PRODUCER, Accumulator
from ottla.client._cluster import Cluster
from ottla.client._coordinator import CoordinatorKind, CoordinatorLink
from ottla.client._errors import TransactionAbortedError, error_of
from ottla.client._offsets import OffsetAndMetadata
from ottla.client._sender import Sender
from ottla.model import TopicPartition
from ottla.net.peer import Peer
from ottla.wire.apis import ApiKey
from ottla.wire.codec import Message
from ottla.wire.errors import ErrorCode, KafkaError

V1_PRODUCE: Final = 11
V1_END_TXN: Final = 4
V1_OFFSET_COMMIT: Final = 4
CLIENT_ADD_PARTITIONS: Final = 3
"""Versions above are spoken between brokers."""
FEATURE: Final = "transaction.version"
FENCED: Final = frozenset({ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_PRODUCER_EPOCH})
AGAIN: Final = frozenset({ErrorCode.CONCURRENT_TRANSACTIONS, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION})

State = Literal["ready", "open", "ending", "failed", "dead"]


class GroupMetadata(Protocol):
    """What a consumer says about its membership: offsets sent for it are refused once it is fenced."""

    @property
    def group_id(self) -> str: ...
    @property
    def generation_id(self) -> int: ...
    @property
    def member_id(self) -> str: ...
    @property
    def group_instance_id(self) -> str | None: ...


class Transactions:
    """The transactions of one ``transactional_id``."""

    def __init__(
        self,
        cluster: Cluster,
        accumulator: Accumulator,
        *,
        transactional_id: str,
        timeout_ms: int,
        block_seconds: float,
    ) -> None:
        self.transactional_id = transactional_id
        self.producer = NO_PRODUCER
        self.state: State = "ready"
        self._cluster = cluster
        self._accumulator = accumulator
        self._timeout_ms = timeout_ms
        self._block_seconds = block_seconds
        self._sender: Sender | None = None
        self._link = CoordinatorLink(cluster, CoordinatorKind.TRANSACTION, transactional_id)
        self._v2 = False
        self._error: KafkaError | None = None
        self._joined: set[TopicPartition] = set()
        self._joining: set[TopicPartition] = set()
        self._touched = False
        """Whether the coordinator may know of the open transaction."""

    def attach(self, sender: Sender) -> None:
        self._sender = sender

    async def init(self) -> None:
        """Take over the transactional id: older producers are fenced, what they left open is aborted."""
        await self._init_producer(NO_PRODUCER)

    def begin(self) -> None:
        """Open a transaction; nothing is sent for that. Raises ``KafkaError`` if the producer is dead."""
        self._check("ready")
        self._v2 = self._speaks_v2()
        self.state = "open"
        self._touched = False

    def check_open(self) -> None:
        """Raises ``RuntimeError`` or what has gone wrong unless records may be sent."""
        if self.state != "open":
            self._check("open")

    async def commit(self) -> None:
        """Make everything since ``begin`` visible, offsets included. Raises ``KafkaError``; then abort."""
        self._check("open")
        await self._settle_all()
        self._check("open")
        await self._end(committed=True)

    async def abort(self) -> None:
        """Undo everything since ``begin``. Raises ``KafkaError`` if the producer is dead."""
        if self.state == "dead":
            assert self._error is not None
            raise self._error
        if self.state not in ("open", "failed"):
            self._check("open")
        failed = self.state == "failed"
        self.state = "failed"
        self._drop_waiting()
        await self._settle_all()
        await self._end(committed=False, renew=failed)

    async def send_offsets(
        self, offsets: Mapping[TopicPartition, int | OffsetAndMetadata], group: str | GroupMetadata
    ) -> None:
        """Commit a group's offsets with the transaction."""
        self._check("open")
        group_id = group if isinstance(group, str) else group.group_id
        try:
            if not self._v2:
                await self._add_group(group_id)
            self._touched = True
            link = CoordinatorLink(self._cluster, CoordinatorKind.GROUP, group_id)
            response = await link.ask(
                ApiKey.TXN_OFFSET_COMMIT,
                lambda peer: self._offset_commit(peer, offsets, group),
                _first_offset_error,
                seconds=self._block_seconds,
                again=AGAIN,
            )
            self._refuse(_first_offset_error(response), f"offsets of group {group_id!r}")
        except KafkaError as error:
            self.fail(error)
            raise

    def may_send(self, place: TopicPartition) -> bool:
        """Whether a batch for ``place`` may go now; with version 1 the coordinator is told first."""
        if self.state in ("failed", "dead"):
            return False
        if self._v2 or place in self._joined:
            self._touched = True
            return True
        if not self._joining:
            assert self._sender is not None
            self._sender.spawn(self._join_partitions(), "transaction partitions")
        self._joining.add(place)
        return False

    def produce_version(self, newest: int) -> int:
        return newest if self._v2 else min(newest, V1_PRODUCE)

    def fail(self, error: KafkaError) -> None:
        """Something of the transaction went wrong: nothing more is sent, the caller has to abort."""
        if self.state in ("ready", "dead") or isinstance(error, TransactionAbortedError):
            return
        if self._error is None:
            self._error = error
        if self.state != "failed":
            self.state = "failed"
            asyncio.get_running_loop().call_soon(self._drop_waiting)

    def explain(self, error: KafkaError) -> KafkaError:
        """Say of a fenced producer how that comes about."""
        if error.code not in FENCED:
            return error
        return error_of(
            error.code,
            f"another producer with transactional_id={self.transactional_id!r} has started since, or the transaction "
            f"was open longer than transaction_timeout_ms={self._timeout_ms} and the coordinator has ended it. This "
            f"producer can send nothing more: close it.",
        )

    def _check(self, wanted: State) -> None:
        if self.state == wanted:
            return
        match self.state:
            case "failed" | "dead":
                assert self._error is not None
                raise self._error
            case "open":
                raise RuntimeError("the transaction before is still open: commit or abort it")
            case "ready":
                raise RuntimeError("no transaction is open: use `async with producer.transaction():`")
            case "ending":
                raise RuntimeError("the transaction is just being ended")
            case _ as never:
                assert_never(never)

    def _drop_waiting(self) -> None:
        if self._sender is not None:
            why = f": {self._error}" if self._error is not None else ""
            self._sender.give_up_all_waiting(
                TransactionAbortedError(ErrorCode.TRANSACTION_ABORTABLE, f"the transaction is aborted{why}")
            )

    async def _settle_all(self) -> None:
        assert self._sender is not None
        self._accumulator.flushing += 1
        try:
            self._sender.mark_all()
            for batch in list(self._accumulator.open.values()):
                await batch.wait()
        finally:
            self._accumulator.flushing -= 1

    async def _end(self, *, committed: bool, renew: bool = False) -> None:
        if not self._touched and not renew:
            self._ready()
            return
        self.state = "ending"
        try:
            response = await self._link.ask(
                ApiKey.END_TXN,
                lambda peer: self._end_request(peer, committed=committed),
                lambda answer: answer.error_code,
                seconds=self._block_seconds,
            )
            self._refuse(response.error_code, "commit" if committed else "abort")
            if self._v2 and response.producer_id >= 0:
                self.producer = response.producer_id, response.producer_epoch
                self._accumulator.restart_sequences()
            elif renew:
                await self._init_producer(self.producer)
        except KafkaError as error:
            self._broken(error, committed=committed)
        except BaseException:
            # Not known whether it ended: only an abort, or the same again, can tell.
            self.state, self._error = "failed", self._error or _unknown_end()
            raise
        self._ready()

    def _broken(self, error: KafkaError, *, committed: bool) -> None:
        """Raise what an end, or a new epoch, was refused with."""
        retry = error.abortable or error.retriable
        self._error = self.explain(error)
        self.state = "failed" if retry and (committed or error.retriable) else "dead"
        raise self._error from None

    def _ready(self) -> None:
        self.state, self._error, self._touched = "ready", None, False
        self._joined.clear()
        self._joining.clear()

    async def _init_producer(self, producer: tuple[int, int]) -> None:
        """A producer id, or with one the next epoch of it."""
        from ottla.wire.messages.init_producer_id_request import InitProducerIdRequest  # noqa: PLC0415 - loaded on demand

        request = InitProducerIdRequest(
            transactional_id=self.transactional_id,
            transaction_timeout_ms=self._timeout_ms,
            producer_id=producer[0],
            producer_epoch=producer[1],
        )
        link = self._link
        response = await link.ask(
            ApiKey.INIT_PRODUCER_ID, request, lambda answer: answer.error_code, seconds=self._block_seconds
        )
        self._refuse(response.error_code, f"transactional_id={self.transactional_id!r}")
        self.producer = response.producer_id, response.producer_epoch
        self._accumulator.restart_sequences()
        self._v2 = self._speaks_v2()

    def _speaks_v2(self) -> bool:
        """What the connected brokers say; the coordinator is one of them."""
        peers = [peer for node_id in self._cluster.brokers if (peer := self._cluster.connected(node_id)) is not None]
        return bool(peers) and all(
            peer.features.get(FEATURE, 0) >= 2 and peer.version_of(ApiKey.END_TXN) > V1_END_TXN for peer in peers
        )

    def _end_request(self, peer: Peer, *, committed: bool) -> tuple[Message, int]:
        from ottla.wire.messages.end_txn_request import EndTxnRequest  # noqa: PLC0415 - loaded on demand

        version = peer.version_of(ApiKey.END_TXN)
        producer_id, epoch = self.producer
        request = EndTxnRequest(
            transactional_id=self.transactional_id, producer_id=producer_id, producer_epoch=epoch, committed=committed
        )
        return request, version if self._v2 else min(version, V1_END_TXN)

    async def _join_partitions(self) -> None:
        """Tell the coordinator (version 1) which partitions will be written to."""
        assert self._sender is not None
        while self._joining and self.state in ("open", "ending"):
            places = set(self._joining)
            try:
                response = await self._link.ask(
                    ApiKey.ADD_PARTITIONS_TO_TXN,
                    lambda peer, places=places: self._add_request(peer, places),  # type: ignore[misc]  # a default binds
                    _first_partition_error,
                    seconds=self._block_seconds,
                    again=AGAIN,
                )
                self._refuse(_first_partition_error(response), "partitions of the transaction")
            except KafkaError as error:
                self._joining.clear()
                self.fail(self.explain(error))
                return
            self._touched = True
            self._joined |= places
            self._joining -= places
        self._sender.mark_all()

    def _add_request(self, peer: Peer, places: set[TopicPartition]) -> tuple[Message, int]:
        from ottla.wire.messages.add_partitions_to_txn_request import (  # noqa: PLC0415 - loaded on demand
            AddPartitionsToTxnRequest,
            AddPartitionsToTxnTopic,
        )

        names = sorted({place.topic for place in places})
        topics = [
            AddPartitionsToTxnTopic(
                name=name, partitions=sorted(place.partition for place in places if place.topic == name)
            )
            for name in names
        ]
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self.transactional_id,
            v3_and_below_producer_id=self.producer[0],
            v3_and_below_producer_epoch=self.producer[1],
            v3_and_below_topics=topics,
        )
        return request, min(peer.version_of(ApiKey.ADD_PARTITIONS_TO_TXN), CLIENT_ADD_PARTITIONS)

    async def _add_group(self, group_id: str) -> None:
        from ottla.wire.messages.add_offsets_to_txn_request import AddOffsetsToTxnRequest  # noqa: PLC0415 - as above

        request = AddOffsetsToTxnRequest(
            transactional_id=self.transactional_id,
            producer_id=self.producer[0],
            producer_epoch=self.producer[1],
            group_id=group_id,
        )
        response = await self._link.ask(
            ApiKey.ADD_OFFSETS_TO_TXN, request, lambda answer: answer.error_code, seconds=self._block_seconds
        )
        self._refuse(response.error_code, f"group {group_id!r} in the transaction")

    def _offset_commit(
        self, peer: Peer, offsets: Mapping[TopicPartition, int | OffsetAndMetadata], group: str | GroupMetadata
    ) -> tuple[Message, int]:
        from ottla.wire.messages.txn_offset_commit_request import (  # noqa: PLC0415 - loaded on demand
            TxnOffsetCommitRequest,
            TxnOffsetCommitRequestPartition,
            TxnOffsetCommitRequestTopic,
        )

        topics: dict[str, TxnOffsetCommitRequestTopic] = {}
        for place, offset in offsets.items():
            given = OffsetAndMetadata(offset) if isinstance(offset, int) else offset
            topic = topics.setdefault(place.topic, TxnOffsetCommitRequestTopic(name=place.topic, partitions=[]))
            topic.partitions.append(
                TxnOffsetCommitRequestPartition(
                    partition_index=place.partition,
                    committed_offset=given.offset,
                    committed_leader_epoch=given.leader_epoch,
                    committed_metadata=given.metadata,
                )
            )
        request = TxnOffsetCommitRequest(
            transactional_id=self.transactional_id,
            group_id=group if isinstance(group, str) else group.group_id,
            producer_id=self.producer[0],
            producer_epoch=self.producer[1],
            topics=list(topics.values()),
        )
        if not isinstance(group, str):
            request.generation_id, request.member_id = group.generation_id, group.member_id
            request.group_instance_id = group.group_instance_id
        version = peer.version_of(ApiKey.TXN_OFFSET_COMMIT)
        return request, version if self._v2 else min(version, V1_OFFSET_COMMIT)

    def _refuse(self, code: int, subject: str) -> None:
        if code != ErrorCode.NONE:
            raise self.explain(error_of(code, f"{subject}: {ErrorCode.of(code).description}"))


def _first_offset_error(response: Any) -> int:
    return next((one.error_code for topic in response.topics for one in topic.partitions if one.error_code), 0)


def _first_partition_error(response: Any) -> int:
    codes = [
        one.partition_error_code
        for topic in response.results_by_topic_v3_and_below
        for one in topic.results_by_partition
        if one.partition_error_code
    ]
    # OPERATION_NOT_ATTEMPTED only says that another partition was refused.
    return next((code for code in codes if code != ErrorCode.OPERATION_NOT_ATTEMPTED), codes[0] if codes else 0)


def _unknown_end() -> KafkaError:
    return error_of(ErrorCode.TRANSACTION_ABORTABLE, "it is not known whether the transaction ended: abort it")
