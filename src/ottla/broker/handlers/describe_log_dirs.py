"""DescribeLogDirs (35), versions 1-5: which directory holds how much of which partition.

``topics`` null means all. Sizes are those of the logs, total and usable bytes those of the file system. A directory
that failed answers KAFKA_STORAGE_ERROR and lists nothing.
"""

from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.partition import Partition
from ottla.broker.partitions import Partitions
from ottla.model import TopicPartition
from ottla.storage.description import LogDirectoryDescription
from ottla.storage.log import Log
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.describe_log_dirs_request import DescribeLogDirsRequest
from ottla.wire.messages.describe_log_dirs_response import (
    DescribeLogDirsPartition,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)


class DescribeLogDirsHandler(Struct, frozen=True, kw_only=True):
    """``describe_dirs`` asks the file systems, off the loop."""

    partitions: Partitions
    describe_dirs: Callable[[], Awaitable[list[LogDirectoryDescription]]]
    futures: Callable[[], Mapping[TopicPartition, Log]]
    """Replicas on their way to another directory: listed where they go, with what they still lack."""

    async def handle(self, context: RequestContext, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse:
        directories = await self.describe_dirs()
        wanted = None
        if request.topics is not None:
            wanted = {(topic.topic, index) for topic in request.topics for index in topic.partitions}
        chosen = [part for part in self.partitions if wanted is None or part.topic_partition in wanted]
        futures = self.futures()
        return DescribeLogDirsResponse(results=[result_of(directory, chosen, futures) for directory in directories])


def result_of(
    directory: LogDirectoryDescription, partitions: list[Partition], futures: Mapping[TopicPartition, Log]
) -> DescribeLogDirsResult:
    if directory.error is not None:
        return DescribeLogDirsResult(error_code=int(ErrorCode.KAFKA_STORAGE_ERROR), log_dir=directory.path, topics=[])
    topics: dict[str, list[DescribeLogDirsPartition]] = {}
    for partition in partitions:
        current, future = partition.log, futures.get(partition.topic_partition)
        listed = topics.setdefault(partition.topic_partition.topic, [])
        if current.log_directory == directory.path:
            listed.append(_row(current, max(0, partition.high_watermark - current.log_end_offset), is_future=False))
        if future is not None and future.log_directory == directory.path:
            listed.append(_row(future, max(0, current.log_end_offset - future.log_end_offset), is_future=True))
    return DescribeLogDirsResult(
        error_code=0,
        log_dir=directory.path,
        topics=[DescribeLogDirsTopic(name=name, partitions=rows) for name, rows in sorted(topics.items()) if rows],
        total_bytes=directory.total_bytes,
        usable_bytes=directory.usable_bytes,
        is_cordoned=directory.cordoned,
    )


def _row(log: Log, lag: int, *, is_future: bool) -> DescribeLogDirsPartition:
    return DescribeLogDirsPartition(
        partition_index=log.topic_partition.partition,
        partition_size=log.size,
        offset_lag=lag,
        is_future_key=is_future,
    )
