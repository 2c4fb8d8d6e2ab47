"""What is right and wrong with a data directory that no broker uses at the moment, in words. Reads only."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ottla.cli import files
from ottla.cli.judging import NAMES_SHOWN, ok, problem, warning
from ottla.cli.rows import HealthRow
from ottla.storage import names
from ottla.storage.checkpoints import MalformedFile, parse_properties

DISK_FREE_MIN: Final = 0.05


def judge_directory(directory: Path) -> list[HealthRow]:
    """Identity, use, shutdown, checkpoints, every batch of every segment, indexes, room on the disk."""
    if names.parse_partition_directory(directory.name) is not None and not (directory / names.META_PROPERTIES).exists():
        return [_partition(directory)]
    rows = [_identity(directory), _use(directory), _shutdown(directory), _disk(directory), *_checkpoints(directory)]
    found = files.partitions(directory)
    judged = [_partition(one) for one in found]
    bad = [row for row in judged if row.severity != "ok"]
    rows += bad or [ok("logs", f"{len(found)} partitions, every batch of them whole")]
    rows += _leftovers(directory)
    return rows


def _identity(directory: Path) -> HealthRow:
    try:
        properties = parse_properties((directory / names.META_PROPERTIES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        fix = "if it is a data directory, meta.properties has to come back from a copy; if not, name another."
        return problem("identity", f"{directory} has no {names.META_PROPERTIES}: no broker has used it", fix)
    except (OSError, ValueError) as error:
        return problem("identity", f"{names.META_PROPERTIES} cannot be read: {error}")
    missing = [key for key in ("cluster.id", "node.id", "version") if key not in properties]
    if missing:
        return problem("identity", f"{names.META_PROPERTIES} lacks {', '.join(missing)}", "restore it from a copy.")
    return ok("identity", f"node {properties['node.id']} of cluster {properties['cluster.id']}")


def _use(directory: Path) -> HealthRow:
    """A lock that is held means a broker at work: what is read then may be half of something."""
    try:
        descriptor = os.open(directory / names.LOCK, os.O_RDONLY)
    except OSError:
        return ok("in use", "by nobody")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return warning("in use", "by a broker: the ends of its logs are moving", "stop it for a certain answer.")
    finally:
        os.close(descriptor)
    return ok("in use", "by nobody")


def _shutdown(directory: Path) -> HealthRow:
    if (directory / names.CLEAN_SHUTDOWN).exists():
        return ok("shutdown", "clean")
    return warning("shutdown", "not clean, or it runs: the next start checks the ends of the logs")


def _disk(directory: Path) -> HealthRow:
    usage = os.statvfs(directory)
    free = usage.f_bavail / max(usage.f_blocks, 1)
    if free < DISK_FREE_MIN:
        return problem("disk", f"{free:.1%} free", "make room: a broker whose disk is full takes its logs offline.")
    if not os.access(directory, os.W_OK):
        return problem("disk", "the directory cannot be written by this user", "correct its owner and mode.")
    return ok("disk", f"{free:.0%} free")


def _checkpoints(directory: Path) -> Iterator[HealthRow]:
    for path in sorted(directory.glob("*-offset-checkpoint")):
        try:
            rows = list(files.read_file(path, records=False))
        except (MalformedFile, ValueError) as error:
            fix = "delete it while no broker runs: it is made anew, at the price of a longer start."
            yield problem("checkpoints", f"{path.name} cannot be read: {error}", fix)
            continue
        gone = [
            f"{row.topic}-{row.partition}" for row in rows if not (directory / f"{row.topic}-{row.partition}").exists()
        ]
        if gone:
            yield warning("checkpoints", f"{path.name} names partitions that are not here: {_names(gone)}")


def _partition(directory: Path) -> HealthRow:
    flaws, expected = [], None
    segments = list(files.segments(directory))
    for index, segment in enumerate(segments):
        name = names.segment_file(segment.base_offset, names.LOG_SUFFIX)
        if segment.flaw is not None:
            last = index == len(segments) - 1
            flaws.append((f"{name}: {segment.flaw}", last))
        if expected is not None and segment.base_offset < expected:
            flaws.append((f"{name} begins before the segment before it ends", False))
        expected = None if segment.last_offset is None else segment.last_offset + 1
        flaws += [(flaw, True) for flaw in _indexes(directory, segment.base_offset, segment.size)]
    if not segments:
        return warning("logs", f"{directory.name} has no segment")
    if not flaws:
        return ok("logs", f"{directory.name}: {len(segments)} segments, every batch whole")
    text = f"{directory.name}: {'; '.join(flaw for flaw, _ in flaws[:NAMES_SHOWN])}"
    if all(mended for _, mended in flaws):
        return warning("logs", text, "the next start cuts a torn end and makes indexes anew.")
    return problem(
        "logs", text, f"restore the file from a copy or a replica; `ottla dump {directory}` shows the place."
    )


def _indexes(directory: Path, base: int, log_size: int) -> list[str]:
    flaws = []
    for suffix in (names.OFFSET_INDEX_SUFFIX, names.TIME_INDEX_SUFFIX):
        path = directory / names.segment_file(base, suffix)
        if not path.exists():
            flaws.append(f"{path.name} is missing")
            continue
        rows = list(files.read_file(path, records=False))
        offsets = [row.offset for row in rows]
        if offsets != sorted(offsets):
            flaws.append(f"{path.name} is not in order")
        if suffix == names.OFFSET_INDEX_SUFFIX and any(row.position >= max(log_size, 1) for row in rows):
            flaws.append(f"{path.name} points behind the end of its log")
    return flaws


def _leftovers(directory: Path) -> list[HealthRow]:
    marked = [one.name for one in directory.iterdir() if one.is_dir() and names.parse_marked_directory(one.name)]
    strays = [name for name in marked if name.endswith(names.STRAY_DIRECTORY_SUFFIX)]
    if strays:
        fix = "they belong to no topic the cluster knows; look at them with `ottla dump`, then remove them."
        return [warning("leftovers", f"stray partitions: {_names(strays)}", fix)]
    return []


def _names(found: list[str]) -> str:
    shown = ", ".join(found[:NAMES_SHOWN])
    return shown if len(found) <= NAMES_SHOWN else f"{shown} and {len(found) - NAMES_SHOWN} more"
