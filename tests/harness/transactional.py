"""A transactional producer with every request under control, as a client of transaction version 2 makes them (KIP-890).

No AddPartitionsToTxn: brokers add partitions themselves. Every EndTxn brings the epoch of the next transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from harness import wire
from harness.raw import NONE, ProtocolFailure, RawConnection, build_batch, retry
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.end_txn_request import EndTxnRequest
from ottla.wire.messages.find_coordinator_request import FindCoordinatorRequest
from ottla.wire.messages.init_producer_id_request import InitProducerIdRequest
from ottla.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.messages.txn_offset_commit_request import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)

GROUP, TRANSACTION = 0, 1
RETRY_SECONDS = 30.0
TIMEOUT_MS = 15_000
Place = tuple[str, int]


class TransactionalProducer:
    """One transactional id. A lost connection is replaced and the same request sent again, as clients do."""

    def __init__(self, connect: Callable[[], RawConnection], transactional_id: str) -> None:
        self.transactional_id = transactional_id
        self.identity = (-1, -1)
        self._connect = connect
        self._connection: RawConnection | None = None
        self._sequences: dict[Place, int] = {}

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def init(self, *groups: str) -> None:
        """Find the coordinators, and take over the transactional id."""
        for key, kind in [(self.transactional_id, TRANSACTION), *((group, GROUP) for group in groups)]:
            self._ask(FindCoordinatorRequest(key=key, key_type=kind), 3, lambda answer: answer.error_code)
        request = InitProducerIdRequest(transactional_id=self.transactional_id, transaction_timeout_ms=TIMEOUT_MS)
        self._begin(self._ask(request, 5, lambda answer: answer.error_code))

    def produce(self, place: Place, records: Sequence[bytes]) -> int:
        """Append one batch; its base offset."""
        producer_id, epoch = self.identity
        sequence = self._sequences.get(place, 0)
        batch = build_batch(records, producer_id=producer_id, epoch=epoch, sequence=sequence, transactional=True)
        topic = TopicProduceData(name=place[0], partition_data=[PartitionProduceData(index=place[1], records=batch)])
        request = ProduceRequest(
            transactional_id=self.transactional_id, acks=-1, timeout_ms=TIMEOUT_MS, topic_data=[topic]
        )
        answer = self._ask(request, 12, lambda answer: answer.responses[0].partition_responses[0].error_code)
        self._sequences[place] = sequence + len(records)
        return int(answer.responses[0].partition_responses[0].base_offset)

    def commit_offset(self, group: str, place: Place, offset: int) -> None:
        """Have the group's offset move when the transaction commits."""
        producer_id, epoch = self.identity
        row = TxnOffsetCommitRequestPartition(partition_index=place[1], committed_offset=offset)
        request = TxnOffsetCommitRequest(
            transactional_id=self.transactional_id,
            group_id=group,
            producer_id=producer_id,
            producer_epoch=epoch,
            topics=[TxnOffsetCommitRequestTopic(name=place[0], partitions=[row])],
        )
        self._ask(request, 5, lambda answer: answer.topics[0].partitions[0].error_code)

    def end(self, *, commit: bool) -> None:
        """Commit or abort, and go on under the next epoch."""
        producer_id, epoch = self.identity
        request = EndTxnRequest(
            transactional_id=self.transactional_id,
            producer_id=producer_id,
            producer_epoch=epoch,
            committed=commit,
        )
        self._begin(self._ask(request, 5, lambda answer: answer.error_code))

    def _begin(self, answer: Any) -> None:
        self.identity = answer.producer_id, answer.producer_epoch
        self._sequences.clear()

    def _ask(self, request: Any, version: int, code_of: Callable[[Any], int]) -> Any:
        """The answer to a request that succeeded. Raises `ProtocolFailure` with any other final answer."""

        def ask() -> Any:
            answer = self._call(request, version)
            code = code_of(answer)
            if code != NONE:
                raise ProtocolFailure(f"{type(request).__name__} {ErrorCode(code).name}", code)
            return answer

        return retry(ask, seconds=RETRY_SECONDS)

    def _call(self, request: Any, version: int) -> Any:
        deadline = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                return wire.call(self._connection, request, version)
            except (OSError, ProtocolFailure):
                self.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
