"""DescribeProducers (61), version 0: who writes to a partition, and with which sequence."""

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.partitions import Partitions
from ottla.wire.errors import KafkaError
from ottla.wire.messages.describe_producers_request import DescribeProducersRequest
from ottla.wire.messages.describe_producers_response import (
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)


class DescribeProducersHandler(Struct, frozen=True, kw_only=True):
    """Reads partitions; changes nothing."""

    partitions: Partitions

    def handle(self, context: RequestContext, request: DescribeProducersRequest) -> DescribeProducersResponse:
        return DescribeProducersResponse(
            topics=[
                TopicResponse(
                    name=topic.name,
                    partitions=[self._partition(topic.name, index) for index in topic.partition_indexes],
                )
                for topic in request.topics
            ]
        )

    def _partition(self, topic: str, index: int) -> PartitionResponse:
        answer = PartitionResponse(partition_index=index, error_code=0)
        try:
            partition = self.partitions.get(topic, index)
            partition.require_leader()
        except KafkaError as error:
            answer.error_code = int(error.code)
            answer.error_message = error.message
            return answer
        answer.active_producers = [
            ProducerState(
                producer_id=producer.producer_id,
                producer_epoch=producer.producer_epoch,
                last_sequence=producer.last_sequence,
                last_timestamp=producer.last_timestamp,
                coordinator_epoch=producer.coordinator_epoch,
                current_txn_start_offset=(
                    -1 if producer.transaction_first_offset is None else producer.transaction_first_offset
                ),
            )
            for producer in partition.log.producers.producers
        ]
        return answer
