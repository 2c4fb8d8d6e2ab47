"""What is right and wrong with a data directory that no broker uses at the moment, in words. Reads only."""

import fcntl
import mmap
import os
import stat
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Final

from ottla.cli import files
from ottla.cli.judging import NAMES_SHOWN, ok, problem, shown_names, warning
from ottla.cli.output import Progress
from ottla.cli.rows import CheckpointRow, HealthRow, IndexRow
from ottla.records.batch import BATCH_OVERHEAD, MAGIC, read_header
from ottla.storage import names
from ottla.storage.checkpoints import MalformedFile, parse_properties
from ottla.storage.recovery import finds_good_batch
from ottla.transactions.producer_state import CorruptSnapshot

DISK_FREE_MIN: Final = 0.05
QUORUM_STATE: Final = "quorum-state"
FORMAT_VERSION: Final = "1"
ENTRIES_LOOKED_AT: Final = 1000
"""Of an index: spread over it, the last one among them."""
ANEW: Final = "the next start cuts a torn end, and makes broken or missing indexes and the like anew."


def judge_directory(directory: Path) -> list[HealthRow]:
    """Identity, use, shutdown, room, rights, checkpoints, every batch of every segment, what lies beside the logs."""
    if names.parse_partition_directory(directory.name) is not None and not (directory / names.META_PROPERTIES).exists():
        return [*_rights(directory), _partition(directory)]
    rows = [_identity(directory), _use(directory), _shutdown(directory), *_disk(directory), *_rights(directory)]
    found = files.partitions(directory)
    judged = list(_judged(found))
    bad = [row for row in judged if row.severity != "ok"]
    rows += bad or [ok("logs", f"{len(found)} partitions, every batch of them whole")]
    rows += [*_checkpoints(directory), *_quorum_state(directory), *_leftovers(directory)]
    return rows


def _judged(partitions: list[Path]) -> Iterator[HealthRow]:
    sizes = [sum(log.stat().st_size for log in one.glob(f"*{names.LOG_SUFFIX}")) for one in partitions]
    progress = Progress("checked", unit="partitions", total=sum(sizes))
    for one, size in zip(partitions, sizes, strict=True):
        yield _partition(one)
        progress.add(1, size, size)
    progress.end()


def _identity(directory: Path) -> HealthRow:
    try:
        properties = parse_properties((directory / names.META_PROPERTIES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        fix = "if it is a data directory, meta.properties has to come back from a copy; if not, name another."
        return problem("identity", f"{directory} has no {names.META_PROPERTIES}: no broker has used it", fix)
    except (OSError, ValueError) as error:
        return problem("identity", f"{names.META_PROPERTIES} cannot be read: {error}", "restore it from a copy.")
    missing = [key for key in ("cluster.id", "node.id", "version") if key not in properties]
    if missing:
        return problem("identity", f"{names.META_PROPERTIES} lacks {', '.join(missing)}", "restore it from a copy.")
    if properties["version"] != FORMAT_VERSION:
        fix = "it was written by another generation of Kafka: open it with that one, and migrate from there."
        return problem("identity", f"{names.META_PROPERTIES} is of version {properties['version']}", fix)
    return ok("identity", f"node {properties['node.id']} of cluster {properties['cluster.id']}")


def _use(directory: Path) -> HealthRow:
    """A lock that is held means a broker at work: what is read then may be half of something."""
    try:
        descriptor = os.open(directory / names.LOCK, os.O_RDONLY)
    except OSError:
        return ok("in use", "by nobody")
    try:
        # Ottla takes both kinds of lock, a Java broker the second.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return warning("in use", "by a broker: the ends of its logs are moving", "stop it for a certain answer.")
    finally:
        os.close(descriptor)
    return ok("in use", "by nobody")


def _shutdown(directory: Path) -> HealthRow:
    if (directory / names.CLEAN_SHUTDOWN).exists():
        return ok("shutdown", "clean")
    fix = "nothing by hand: the next start checks the ends of the logs, and takes longer for it."
    return warning("shutdown", "not clean, or a broker is at work", fix)


def _disk(directory: Path) -> Iterator[HealthRow]:
    usage = os.statvfs(directory)
    free = usage.f_bavail / max(usage.f_blocks, 1)
    if free < DISK_FREE_MIN:
        yield problem("disk", f"{free:.1%} free", "make room: a broker whose disk is full takes its logs offline.")
    else:
        yield ok("disk", f"{free:.0%} free")
    # Some file systems have no fixed number of inodes, and say 0.
    if usage.f_files and usage.f_favail / usage.f_files < DISK_FREE_MIN:
        fix = "remove small files, or move to a file system with more inodes: every segment is four files."
        yield problem("disk", f"{usage.f_favail:,} inodes free", fix)


def _rights(directory: Path) -> Iterator[HealthRow]:
    """Whether the directory's owner, whom a broker runs as, may read and write everything in it."""
    owner = directory.stat().st_uid
    seen, foreign, closed = 0, [], []
    for path in (directory, *directory.rglob("*")):
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue  # a broker at work has removed it
        seen += 1
        name = str(path.relative_to(directory)) if path != directory else str(directory)
        if found.st_uid != owner:
            foreign.append(name)
        wanted = stat.S_IRWXU if stat.S_ISDIR(found.st_mode) else stat.S_IRUSR | stat.S_IWUSR
        if found.st_mode & wanted != wanted:
            closed.append(name)
    if foreign:
        fix = f"`chown -R {owner} {directory}`: a start under another user left them behind."
        yield problem("rights", f"{len(foreign)} of another user than the directory: {shown_names(foreign)}", fix)
    if closed:
        fix = f"`chmod -R u+rwX {directory}`."
        yield problem("rights", f"{len(closed)} that their owner may not read and write: {shown_names(closed)}", fix)
    if not os.access(directory, os.R_OK | os.W_OK):
        fix = f"start the broker as user {owner}, or correct owner and mode."
        yield problem("rights", "the directory cannot be read and written by this user", fix)
    if not foreign and not closed:
        yield ok("rights", f"{seen} files and directories, all of user {owner}")


def _checkpoints(directory: Path) -> Iterator[HealthRow]:
    for path in sorted(directory.glob("*-offset-checkpoint")):
        try:
            rows = list(files.read_file(path, records=False))
        except OSError as error:
            fix = "correct owner and mode."
            yield problem("checkpoints", f"{path.name} cannot be read: {error.strerror or error}", fix)
            continue
        except (MalformedFile, ValueError) as error:
            fix = "delete it while no broker runs: it is made anew, at the price of a longer start."
            yield problem("checkpoints", f"{path.name} cannot be read: {error}", fix)
            continue
        gone = [
            f"{row.topic}-{row.partition}" for row in rows if not (directory / f"{row.topic}-{row.partition}").exists()
        ]
        if gone:
            fix = "if they were not moved or deleted on purpose, bring their directories back before a broker starts."
            yield warning("checkpoints", f"{path.name} names partitions that are not here: {shown_names(gone)}", fix)
        if path.name == names.RECOVERY_POINT_CHECKPOINT:
            yield from _lost_ends(directory, rows)


def _lost_ends(directory: Path, rows: list[CheckpointRow]) -> Iterator[HealthRow]:
    """Logs that end before what was known to be on disk."""
    short = []
    for row in rows:
        path = directory / f"{row.topic}-{row.partition}"
        try:
            end = _end(path) if path.is_dir() else None
        except OSError:
            continue  # among the logs it is told that this one cannot be read
        if end is not None and end < row.offset:
            short.append(f"{path.name} (ends at {end:,}, {row.offset:,} was safe)")
    if short:
        fix = "restore their last segments from a copy or a replica: a start would take them for the whole."
        yield problem("checkpoints", f"records are missing at the end of: {shown_names(short)}", fix)


def _quorum_state(directory: Path) -> Iterator[HealthRow]:
    path = directory / str(names.CLUSTER_METADATA) / QUORUM_STATE
    try:
        if path.exists():
            list(files.read_file(path, records=False))
    except (OSError, ValueError) as error:
        fix = "restore it from a copy; with one voter it may be deleted: the node elects itself anew."
        yield problem("quorum", f"{QUORUM_STATE} cannot be read: {error}", fix)


def _partition(directory: Path) -> HealthRow:
    try:
        return _partition_read(directory)
    except OSError as error:
        fix = "correct owner and mode; if that is not it, look at the disk: `dmesg`."
        return problem("logs", f"{directory.name} cannot be read: {error.strerror or error}", fix)


def _partition_read(directory: Path) -> HealthRow:
    flaws, expected = [], None
    segments = list(files.segments(directory))
    for index, segment in enumerate(segments):
        name = names.segment_file(segment.base_offset, names.LOG_SUFFIX)
        if segment.flaw is not None:
            torn = index == len(segments) - 1 and _is_torn(directory / name)
            flaws.append((f"{name}: {segment.flaw}", torn))
        if expected is not None and segment.base_offset < expected:
            flaws.append((f"{name} begins before the segment before it ends", False))
        expected = None if segment.last_offset is None else segment.last_offset + 1
        flaws += [(flaw, True) for flaw in _indexes(directory, segment.base_offset, segment.size)]
    if not segments:
        fix = "if there is a copy of its files, bring them back; a start makes an empty log of it."
        return warning("logs", f"{directory.name} has no segment", fix)
    flaws += [(flaw, True) for flaw in _beside(directory)]
    if not flaws:
        return ok("logs", f"{directory.name}: {len(segments)} segments, every batch whole")
    text = f"{directory.name}: {'; '.join(flaw for flaw, _ in flaws[:NAMES_SHOWN])}"
    if all(mended for _, mended in flaws):
        return warning("logs", text, ANEW)
    return problem(
        "logs", text, f"restore the file from a copy or a replica; `ottla dump {directory}` shows the place."
    )


def _is_torn(log: Path) -> bool:
    """Whether nothing whole comes behind what is damaged: a write that a crash has cut short, and a start cuts off."""
    position, offset = 0, int(log.stem)
    for row in takewhile(lambda row: row.flaw is None, files.read_batches(log)):
        position, offset = row.position + row.size, row.last_offset + 1
    with log.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return not finds_good_batch(content, position, offset)


def _indexes(directory: Path, base: int, log_size: int) -> list[str]:
    flaws = []
    log = directory / names.segment_file(base, names.LOG_SUFFIX)
    for suffix, entry in ((names.OFFSET_INDEX_SUFFIX, 8), (names.TIME_INDEX_SUFFIX, 12)):
        path = directory / names.segment_file(base, suffix)
        if not path.exists():
            flaws.append(f"{path.name} is missing")
            continue
        if path.stat().st_size % entry:
            flaws.append(f"{path.name} is no whole number of entries")
        rows = list(files.read_file(path, records=False))
        offsets = [row.offset for row in rows]
        if offsets != sorted(offsets):
            flaws.append(f"{path.name} is not in order")
        elif suffix == names.OFFSET_INDEX_SUFFIX and any(row.position >= max(log_size, 1) for row in rows):
            flaws.append(f"{path.name} points behind the end of its log")
        elif suffix == names.OFFSET_INDEX_SUFFIX and not _points_at_batches(log, base, rows):
            flaws.append(f"{path.name} points where no batch begins")
    return flaws


def _points_at_batches(log: Path, base: int, rows: list[IndexRow]) -> bool:
    """Whether the entries of an index are where its log has those offsets."""
    step = max(1, len(rows) // ENTRIES_LOOKED_AT)
    with log.open("rb") as file:
        for row in rows[::-step]:
            file.seek(row.position)
            start = file.read(BATCH_OVERHEAD)
            if len(start) < BATCH_OVERHEAD:
                return False
            header = read_header(memoryview(start), 0)
            # An entry may be of batches appended at once: it has the last offset, and the first position.
            if header.magic != MAGIC or not base <= header.base_offset <= row.offset:
                return False
    return True


def _beside(directory: Path) -> Iterator[str]:
    """What lies beside the segments and cannot be read."""
    for path in sorted(directory.iterdir()):
        suffix = "".join(path.suffixes)
        kinds = (names.SNAPSHOT_SUFFIX, names.TXN_INDEX_SUFFIX)
        if path.name != names.LEADER_EPOCH_CHECKPOINT and suffix not in kinds:
            continue
        try:
            list(files.read_file(path, records=False))
        except (ValueError, LookupError, CorruptSnapshot) as error:
            yield f"{path.name}: {error}"


def _end(directory: Path) -> int | None:
    """The offset behind the last batch that is whole."""
    last = max(directory.glob(f"*{names.LOG_SUFFIX}"), default=None)
    if last is None:
        return None
    whole = [row for row in files.read_batches(last) if row.flaw is None]
    return whole[-1].last_offset + 1 if whole else int(last.name.removesuffix(names.LOG_SUFFIX))


def _leftovers(directory: Path) -> list[HealthRow]:
    marked = [one.name for one in directory.iterdir() if one.is_dir() and names.parse_marked_directory(one.name)]
    strays = [name for name in marked if name.endswith(names.STRAY_DIRECTORY_SUFFIX)]
    if strays:
        fix = "they belong to no topic the cluster knows; look at them with `ottla dump`, then remove them."
        return [warning("leftovers", f"stray partitions: {shown_names(strays)}", fix)]
    return []
