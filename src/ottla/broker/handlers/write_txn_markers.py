"""WriteTxnMarkers (27), versions 1-2: how transactions ended, for partitions that this broker leads.

Sent by transaction coordinators, and by administrators who end a hanging transaction. v2 says which transaction version
the coordinator's client speaks: with 2 the marker's epoch must be above that of the transaction. A partition that is
not here is UNKNOWN_TOPIC_OR_PARTITION; what else stands against a marker is told in the partition log's own words.
"""

import asyncio

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.machine_driver import ProducerMarker
from ottla.broker.transaction_markers import LocalMarkers
from ottla.model import TopicPartition
from ottla.records.control import EndTransaction
from ottla.wire.messages.write_txn_markers_request import WritableTxnMarker, WriteTxnMarkersRequest
from ottla.wire.messages.write_txn_markers_response import (
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersResponse,
)


class WriteTxnMarkersHandler(Struct, frozen=True, kw_only=True):
    """Touches the partitions of this broker through the same code as its own coordinator."""

    markers: LocalMarkers

    async def handle(self, _context: RequestContext, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse:
        results = await asyncio.gather(*(self._write(wanted) for wanted in request.markers))
        return WriteTxnMarkersResponse(markers=list(results))

    async def _write(self, wanted: WritableTxnMarker) -> WritableTxnMarkerResult:
        marker = ProducerMarker(
            producer_id=wanted.producer_id,
            producer_epoch=wanted.producer_epoch,
            end=EndTransaction(committed=wanted.transaction_result, coordinator_epoch=wanted.coordinator_epoch),
            transaction_version=wanted.transaction_version,
        )
        keys = [TopicPartition(topic.name, index) for topic in wanted.topics for index in topic.partition_indexes]
        errors = await self.markers.write(marker, tuple(dict.fromkeys(keys)))
        return WritableTxnMarkerResult(
            producer_id=wanted.producer_id,
            topics=[
                WritableTxnMarkerTopicResult(
                    name=topic.name,
                    partitions=[
                        WritableTxnMarkerPartitionResult(
                            partition_index=index, error_code=int(errors[TopicPartition(topic.name, index)])
                        )
                        for index in topic.partition_indexes
                    ],
                )
                for topic in wanted.topics
            ],
        )
