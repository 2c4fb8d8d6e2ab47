"""A fresh node's first files: whose directory it is (``meta.properties``) and what the first leader writes
(``bootstrap.checkpoint``).

A directory that has been formatted, by this node or by Apache Kafka, is only read. The cluster id is the directory's.
"""

import os
from collections.abc import Sequence
from random import Random
from typing import Final

from msgspec import Struct

from ottla.broker.metadata_log import read_snapshot_file, write_snapshot_file
from ottla.metadata.features import FRESH_LEVELS
from ottla.metadata.record import MetadataRecord
from ottla.model import Uuid
from ottla.storage.checkpoints import MetaProperties, read_meta_properties, write_meta_properties
from ottla.storage.disk import Disk
from ottla.storage.log_directory import new_directory_id
from ottla.storage.names import CLUSTER_METADATA
from ottla.wire.messages.feature_level_record import FeatureLevelRecord

BOOTSTRAP_CHECKPOINT: Final = "bootstrap.checkpoint"


class NodeIdentity(Struct, frozen=True, kw_only=True):
    """``fresh``: the directory was formatted just now. ``bootstrap`` is empty once the metadata log has begun."""

    cluster_id: str
    node_id: int
    directory_id: Uuid
    bootstrap: tuple[MetadataRecord, ...]
    fresh: bool


class FormatError(Exception):
    """The directory cannot be this node's; the message says why and names the file."""


def open_or_format(
    metadata_dir: str, *, node_id: int, cluster_id: str | None = None, disk: Disk, rng: Random, now_ms: int
) -> NodeIdentity:
    """Read the identity of the metadata directory, or give it one. Blocking.

    ``cluster_id`` is demanded of a formatted directory and given to a fresh one, which otherwise gets a random id.
    Raises ``FormatError``, ``MalformedFile``, ``OSError``.
    """
    directory = os.path.abspath(metadata_dir)
    found = read_meta_properties(disk, directory)
    if found is not None and found.directory_id is not None:
        _check(directory, found, node_id, cluster_id)
        bootstrap = _read_bootstrap(disk, directory)
        return NodeIdentity(
            cluster_id=found.cluster_id,
            node_id=found.node_id,
            directory_id=found.directory_id,
            bootstrap=bootstrap,
            fresh=False,
        )
    return _format(directory, node_id, cluster_id if found is None else found.cluster_id, disk, rng, now_ms=now_ms)


def fresh_bootstrap() -> tuple[MetadataRecord, ...]:
    """The feature levels a new cluster begins with."""
    return tuple(MetadataRecord(FeatureLevelRecord(name=name, feature_level=level), 0) for name, level in FRESH_LEVELS)


def write_bootstrap(disk: Disk, directory: str, records: Sequence[MetadataRecord], now_ms: int) -> None:
    """Durable when it returns. Blocking."""
    path = os.path.join(directory, BOOTSTRAP_CHECKPOINT)
    write_snapshot_file(disk, path, records, epoch=0, contained_ms=0, now_ms=now_ms)


def _format(
    directory: str, node_id: int, cluster_id: str | None, disk: Disk, rng: Random, *, now_ms: int
) -> NodeIdentity:
    # meta.properties comes last: a directory that has it has everything.
    disk.make_directories(directory)
    bootstrap = fresh_bootstrap()
    if not disk.is_directory(os.path.join(directory, str(CLUSTER_METADATA))):
        write_bootstrap(disk, directory, bootstrap, now_ms)
    properties = MetaProperties(
        cluster_id=cluster_id or str(Uuid.random(rng)), node_id=node_id, directory_id=new_directory_id(rng)
    )
    write_meta_properties(disk, directory, properties)
    assert properties.directory_id is not None
    return NodeIdentity(
        cluster_id=properties.cluster_id,
        node_id=node_id,
        directory_id=properties.directory_id,
        bootstrap=bootstrap,
        fresh=True,
    )


def _read_bootstrap(disk: Disk, directory: str) -> tuple[MetadataRecord, ...]:
    try:
        _, records = read_snapshot_file(disk, os.path.join(directory, BOOTSTRAP_CHECKPOINT))
    except FileNotFoundError:
        # Only the first leader of an empty log needs it; that one must not guess what was meant.
        return ()
    return tuple(records)


def _check(directory: str, found: MetaProperties, node_id: int, cluster_id: str | None) -> None:
    if found.node_id != node_id:
        raise FormatError(f"{directory}: belongs to node {found.node_id}, but this is node {node_id} (node.id)")
    if cluster_id is not None and found.cluster_id != cluster_id:
        raise FormatError(f"{directory}: belongs to cluster {found.cluster_id}, not {cluster_id}")
