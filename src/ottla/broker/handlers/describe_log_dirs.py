"""DescribeLogDirs (35), versions 1-5: which directory holds how much of which partition.

``topics`` null means all. Sizes are those of the logs, total and usable bytes those of the file system. A directory
that failed answers KAFKA_STORAGE_ERROR and lists nothing.
"""

from collections.abc import Awaitable, Callable

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.partition import Partition
from ottla.broker.partitions import Partitions
from ottla.storage.log_store import LogDirectoryDescription
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

    async def handle(self, context: RequestContext, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse:
        directories = await self.describe_dirs()
        wanted = None
        if request.topics is not None:
            wanted = {(topic.topic, index) for topic in request.topics for index in topic.partitions}
        chosen = [part for part in self.partitions if wanted is None or part.topic_partition in wanted]
        return DescribeLogDirsResponse(results=[result_of(directory, chosen) for directory in directories])


def result_of(directory: LogDirectoryDescription, partitions: list[Partition]) -> DescribeLogDirsResult:
    if directory.error is not None:
        return DescribeLogDirsResult(error_code=int(ErrorCode.KAFKA_STORAGE_ERROR), log_dir=directory.path, topics=[])
    topics: dict[str, list[DescribeLogDirsPartition]] = {}
    for partition in partitions:
        if partition.log.log_directory != directory.path:
            continue
        topics.setdefault(partition.topic_partition.topic, []).append(
            DescribeLogDirsPartition(
                partition_index=partition.topic_partition.partition,
                partition_size=partition.log.size,
                offset_lag=max(0, partition.high_watermark - partition.log.log_end_offset),
                is_future_key=False,
            )
        )
    return DescribeLogDirsResult(
        error_code=0,
        log_dir=directory.path,
        topics=[DescribeLogDirsTopic(name=name, partitions=parts) for name, parts in sorted(topics.items())],
        total_bytes=directory.total_bytes,
        usable_bytes=directory.usable_bytes,
    )
