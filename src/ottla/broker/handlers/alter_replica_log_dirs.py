"""AlterReplicaLogDirs (34), versions 1-2: replicas of this broker are to lie in another of its log directories.

Answered as soon as the move has begun; DescribeLogDirs shows how far it is. A replica that is not here is
REPLICA_NOT_AVAILABLE, and goes to that directory should it come. The directory a replica lies in already gives up its
move. Of a replica that comes twice the last place counts.
"""

from collections.abc import Callable

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.model import TopicPartition
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.alter_replica_log_dirs_request import AlterReplicaLogDirsRequest
from ottla.wire.messages.alter_replica_log_dirs_response import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)


class AlterReplicaLogDirsHandler(Struct, frozen=True, kw_only=True):
    """``alter`` begins one move and raises ``KafkaError``."""

    alter: Callable[[TopicPartition, str], None]

    def handle(self, context: RequestContext, request: AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse:
        targets = {
            TopicPartition(topic.name, index): directory.path
            for directory in request.dirs
            for topic in directory.topics
            for index in topic.partitions
        }
        results: dict[str, list[AlterReplicaLogDirPartitionResult]] = {}
        for key, path in targets.items():
            results.setdefault(key.topic, []).append(
                AlterReplicaLogDirPartitionResult(partition_index=key.partition, error_code=int(self._alter(key, path)))
            )
        return AlterReplicaLogDirsResponse(
            results=[
                AlterReplicaLogDirTopicResult(topic_name=name, partitions=partitions)
                for name, partitions in results.items()
            ]
        )

    def _alter(self, key: TopicPartition, path: str) -> ErrorCode:
        try:
            self.alter(key, path)
        except KafkaError as error:
            return error.code
        return ErrorCode.NONE
