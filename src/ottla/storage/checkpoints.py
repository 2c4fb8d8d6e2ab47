"""The small text files beside the logs: offset checkpoints, leader epochs, topic id, directory identity, clean
shutdown.

A checkpoint is lines of text: the version 0, the number of entries, one entry a line. All are replaced as a whole.
"""

import json
import os
from collections.abc import Mapping

from msgspec import Struct

from ottla.model import TopicPartition, Uuid
from ottla.storage.disk import Disk
from ottla.storage.names import CLEAN_SHUTDOWN, META_PROPERTIES, PARTITION_METADATA


class MalformedFile(ValueError):
    """A small file that is not what Kafka writes."""


def encode_lines(entries: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in ("0", str(len(entries)), *entries)).encode()


def decode_lines(path: str, data: bytes) -> list[list[str]]:
    """The fields of each entry. Raises ``MalformedFile``."""
    try:
        lines = data.decode("utf-8").splitlines()
        version, count = int(lines[0]), int(lines[1])
    except (UnicodeDecodeError, IndexError, ValueError) as error:
        raise MalformedFile(f"{path}: no version and count") from error
    if version != 0:
        raise MalformedFile(f"{path}: unknown version {version}")
    entries = [line.split() for line in lines[2:] if line.strip()]
    if len(entries) != count:
        raise MalformedFile(f"{path}: {count} entries announced, {len(entries)} found")
    return entries


# Offset checkpoints --------------------------------------------------------------------------------------------------


def read_offsets(disk: Disk, path: str) -> dict[TopicPartition, int]:
    """An offset checkpoint; empty where there is none. Raises ``MalformedFile``."""
    try:
        data = disk.read_file(path)
    except FileNotFoundError:
        return {}
    offsets: dict[TopicPartition, int] = {}
    for fields in decode_lines(path, data):
        try:
            topic, partition, offset = fields
            offsets[TopicPartition(topic, int(partition))] = int(offset)
        except ValueError as error:
            raise MalformedFile(f"{path}: malformed entry {' '.join(fields)!r}") from error
    return offsets


def write_offsets(disk: Disk, path: str, offsets: Mapping[TopicPartition, int]) -> None:
    """Replace an offset checkpoint durably."""
    entries = [f"{topic} {partition} {offset}" for (topic, partition), offset in offsets.items()]
    disk.replace_file(path, encode_lines(entries), durable=True)


# Topic id ------------------------------------------------------------------------------------------------------------


def read_topic_id(disk: Disk, directory: str) -> Uuid | None:
    """The id in ``partition.metadata``; ``None`` where there is no such file. Raises ``MalformedFile``."""
    path = os.path.join(directory, PARTITION_METADATA)
    try:
        lines = disk.read_file(path).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return None
    fields = dict(line.split(": ", 1) for line in lines if ": " in line)
    try:
        if int(fields["version"]) != 0:
            raise MalformedFile(f"{path}: unknown version {fields['version']}")
        topic_id = Uuid.parse(fields["topic_id"].strip())
    except MalformedFile:
        raise
    except (KeyError, ValueError) as error:
        raise MalformedFile(f"{path}: no version and topic id") from error
    if topic_id == Uuid.ZERO:
        raise MalformedFile(f"{path}: the topic id is zero")
    return topic_id


def write_topic_id(disk: Disk, directory: str, topic_id: Uuid, *, durable: bool) -> None:
    data = f"version: 0\ntopic_id: {topic_id}".encode()
    disk.replace_file(os.path.join(directory, PARTITION_METADATA), data, durable=durable)


# Identity of a log directory -----------------------------------------------------------------------------------------


class MetaProperties(Struct, frozen=True, kw_only=True):
    """Whose directory it is. ``directory_id`` is absent where a broker before 3.7 formatted it."""

    cluster_id: str
    node_id: int
    directory_id: Uuid | None


def read_meta_properties(disk: Disk, directory: str) -> MetaProperties | None:
    """``meta.properties`` of version 0 or 1; ``None`` where there is none. Raises ``MalformedFile``."""
    path = os.path.join(directory, META_PROPERTIES)
    try:
        text = disk.read_file(path).decode("latin-1")
    except FileNotFoundError:
        return None
    fields = parse_properties(text)
    try:
        version = int(fields.get("version", "0"))
        if version not in {0, 1}:
            raise MalformedFile(f"{path}: unknown version {version}")
        node_id = int(fields["node.id"] if version else fields["broker.id"])
        directory_id = Uuid.parse(fields["directory.id"]) if "directory.id" in fields else None
        return MetaProperties(cluster_id=fields["cluster.id"], node_id=node_id, directory_id=directory_id)
    except MalformedFile:
        raise
    except (KeyError, ValueError) as error:
        raise MalformedFile(f"{path}: incomplete or malformed ({error})") from error


def write_meta_properties(disk: Disk, directory: str, properties: MetaProperties) -> None:
    lines = ["#", f"cluster.id={properties.cluster_id}"]
    if properties.directory_id is not None:
        lines.append(f"directory.id={properties.directory_id}")
    lines += [f"node.id={properties.node_id}", "version=1"]
    data = "".join(f"{line}\n" for line in lines).encode("latin-1")
    disk.replace_file(os.path.join(directory, META_PROPERTIES), data, durable=True)


def parse_properties(text: str) -> dict[str, str]:
    """``key=value`` lines of a Java properties file: comments skipped, backslash escapes of separators undone."""
    fields = {}
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped[0] in "#!":
            continue
        key, _, value = stripped.partition("=")
        fields[key.strip()] = value.strip().replace("\\:", ":").replace("\\=", "=").replace("\\\\", "\\")
    return fields


# Clean shutdown ------------------------------------------------------------------------------------------------------


def take_clean_shutdown(disk: Disk, directory: str) -> int | None:
    """Remove the mark of a clean shutdown, durably, and return its broker epoch (-1: unknown); ``None``: no mark.

    It is removed before the logs are opened: a crash from here on is an unclean shutdown.
    """
    path = os.path.join(directory, CLEAN_SHUTDOWN)
    try:
        data = disk.read_file(path)
    except FileNotFoundError:
        return None
    disk.unlink(path)
    disk.sync_directory(directory)
    try:
        return int(json.loads(data)["brokerEpoch"])
    except (ValueError, KeyError, TypeError):
        return -1


def write_clean_shutdown(disk: Disk, directory: str, broker_epoch: int) -> None:
    data = json.dumps({"version": 0, "brokerEpoch": broker_epoch}, separators=(",", ":")).encode()
    disk.replace_file(os.path.join(directory, CLEAN_SHUTDOWN), data, durable=True)
