"""File and directory names of a log directory, as Kafka writes them."""

import re
from typing import Final

from ottla.model import TopicPartition

FILLER: Final = b"\x7f"
"""Behind the last batch of a segment that is written to (``fill_ahead``), where the file is longer than its batches."""
LOG_SUFFIX: Final = ".log"
OFFSET_INDEX_SUFFIX: Final = ".index"
TIME_INDEX_SUFFIX: Final = ".timeindex"
TXN_INDEX_SUFFIX: Final = ".txnindex"
SNAPSHOT_SUFFIX: Final = ".snapshot"
SEGMENT_SUFFIXES: Final = (LOG_SUFFIX, OFFSET_INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX)
INDEX_SUFFIXES: Final = (OFFSET_INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX)

DELETED_SUFFIX: Final = ".deleted"
CLEANED_SUFFIX: Final = ".cleaned"
SWAP_SUFFIX: Final = ".swap"
METADATA_SNAPSHOT_DELETED_SUFFIX: Final = ".checkpoint.deleted"

DELETE_DIRECTORY_SUFFIX: Final = "-delete"
FUTURE_DIRECTORY_SUFFIX: Final = "-future"
STRAY_DIRECTORY_SUFFIX: Final = "-stray"

PARTITION_METADATA: Final = "partition.metadata"
LEADER_EPOCH_CHECKPOINT: Final = "leader-epoch-checkpoint"
RECOVERY_POINT_CHECKPOINT: Final = "recovery-point-offset-checkpoint"
LOG_START_CHECKPOINT: Final = "log-start-offset-checkpoint"
HIGH_WATERMARK_CHECKPOINT: Final = "replication-offset-checkpoint"
CLEANER_CHECKPOINT: Final = "cleaner-offset-checkpoint"
META_PROPERTIES: Final = "meta.properties"
CLEAN_SHUTDOWN: Final = ".kafka_cleanshutdown"
LOCK: Final = ".lock"
CLUSTER_METADATA: Final = TopicPartition("__cluster_metadata", 0)

NAME_BYTES_MAX: Final = 255
"""Longest name of a directory; a long topic is cut to make room for the suffix."""

_MARKED_DIRECTORY = re.compile(r"^(?P<partition>.+)\.(?P<unique>[0-9a-f]{32})(?P<mark>-delete|-future|-stray)$")
_SEGMENT_FILE = re.compile(r"^(?P<offset>\d{20})(?P<suffix>\..+)$")


def segment_file(base_offset: int, suffix: str) -> str:
    return f"{base_offset:020d}{suffix}"


def parse_segment_file(name: str) -> tuple[int, str] | None:
    """``(base offset, suffix)`` of a file that belongs to a segment; the suffix begins at the first dot."""
    match = _SEGMENT_FILE.match(name)
    return (int(match["offset"]), match["suffix"]) if match else None


def parse_partition_directory(name: str) -> TopicPartition | None:
    """The partition whose directory is called ``name``; ``None`` where the name is not of that form."""
    topic, dash, partition = name.rpartition("-")
    if not dash or not topic or not partition.isascii() or not partition.isdigit():
        return None
    return TopicPartition(topic, int(partition))


def parse_marked_directory(name: str) -> tuple[str, str] | None:
    """``(partition directory, mark)`` of a directory to delete, a future replica or a stray one."""
    match = _MARKED_DIRECTORY.match(name)
    return (match["partition"], match["mark"]) if match else None


def marked_directory(topic_partition: TopicPartition, unique: str, mark: str) -> str:
    """``<topic>-<p>.<32 hex>-delete`` and the like; the topic is cut where the name would get too long."""
    tail = f"-{topic_partition.partition}.{unique}{mark}"
    return topic_partition.topic[: NAME_BYTES_MAX - len(tail)] + tail
