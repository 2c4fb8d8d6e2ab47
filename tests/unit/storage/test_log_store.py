import cProfile
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from random import Random

import pytest

from ottla.config.log import LogConfig
from ottla.model import TopicPartition, Uuid
from ottla.records.batch import iter_headers
from ottla.storage.description import describe_directories
from ottla.storage.errors import LogDirectoryError
from ottla.storage.log import Log
from ottla.storage.log_store import LogStore
from ottla.testing.crash_images import FaultyDisk
from ottla.wire.errors import ErrorCode, KafkaError

ORDERS = TopicPartition("orders", 0)
TOPIC_ID = Uuid.random(Random(1))
CALLS_TO_OPEN_ONE = 700
"""Python calls; there are about 510."""


@pytest.fixture
def open_store(tmp_path, small):
    stores = []

    def open_(*names, disk=None, node_id=1, cluster_id="c", now_ms=0, load=True):
        store = LogStore.open(
            [tmp_path / name for name in names or ("data",)],
            cluster_id=cluster_id,
            node_id=node_id,
            disk=disk,
            rng=Random(3),
        )
        stores.append(store)
        if load:
            store.load(lambda _: small, now_ms=now_ms)
        return store

    yield open_
    for store in stores:
        store.close(clean=False)


def read(path):
    with open(path) as file:
        return file.read()


def test_a_fresh_directory_is_formatted(open_store, tmp_path):
    store = open_store(node_id=7, cluster_id="q1Sh-9_ISia_zwGINzRvyQ")
    lines = read(tmp_path / "data" / "meta.properties").splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "cluster.id=q1Sh-9_ISia_zwGINzRvyQ",
        f"directory.id={store.directories[0].directory_id}",
        "node.id=7",
        "version=1",
    ]
    store.close()
    again = open_store(node_id=7, cluster_id="q1Sh-9_ISia_zwGINzRvyQ")
    assert again.directories[0].directory_id == store.directories[0].directory_id


def test_another_nodes_directory_is_refused(open_store):
    open_store().close()
    for options in ({"node_id": 2}, {"cluster_id": "other"}):
        with pytest.raises(LogDirectoryError, match="belongs to"):
            open_store(**options)
    open_store()


def test_a_directory_in_use_is_refused(open_store, tmp_path):
    open_store()
    with pytest.raises(LogDirectoryError, match=r"\.lock is locked by another process"):
        open_store()
    code = (
        "from ottla.storage.log_store import LogStore\n"
        f"LogStore.open([{str(tmp_path / 'data')!r}], cluster_id='c', node_id=1)"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert other.returncode == 1
    assert f"{tmp_path / 'data'}: in use" in other.stderr


def test_create_and_find_again(open_store, small, batches, values_in, tmp_path):
    store = open_store()
    log = store.create(ORDERS, TOPIC_ID, small, now_ms=0)
    written = [value for _ in range(20) for value in batches.append(log, 2)]
    assert read(tmp_path / "data/orders-0/partition.metadata") == f"version: 0\ntopic_id: {TOPIC_ID}"
    store.checkpoint_high_watermarks({ORDERS: 33})
    store.close(broker_epoch=44)
    assert json.loads(read(tmp_path / "data/.kafka_cleanshutdown")) == {"version": 0, "brokerEpoch": 44}
    assert read(tmp_path / "data/recovery-point-offset-checkpoint") == "0\n1\norders 0 40\n"
    assert read(tmp_path / "data/replication-offset-checkpoint") == "0\n1\norders 0 33\n"
    again = open_store()
    assert not os.path.exists(tmp_path / "data/.kafka_cleanshutdown")
    assert again.directories[0].broker_epoch == 44
    found = again.get(ORDERS)
    assert list(values_in(found).values()) == written
    assert (found.topic_id, found.recovery_point, again.high_watermark(ORDERS)) == (TOPIC_ID, 40, 33)
    assert again.create(ORDERS, TOPIC_ID, small, now_ms=0) is found
    with pytest.raises(KafkaError):
        again.create(ORDERS, Uuid.random(Random(9)), small, now_ms=0)


def test_partitions_go_where_fewest_are(open_store, small):
    store = open_store("a", "b", "c")
    for partition in range(9):
        store.create(TopicPartition("t", partition), TOPIC_ID, small, now_ms=0)
    held = [len(description.logs) for description in describe_directories(store)]
    assert held == [3, 3, 3]
    assert all(description.total_bytes > description.usable_bytes > 0 for description in describe_directories(store))


@pytest.mark.parametrize("longer", ["a", "b"])
def test_of_two_logs_of_a_partition_the_longer_one_is_used(open_store, small, batches, values_in, tmp_path, longer):
    """What a move to another directory leaves that ended between its last two renames."""
    shorter = "b" if longer == "a" else "a"
    store = open_store("a", "b")
    batches.append(store.create(ORDERS, TOPIC_ID, small, now_ms=0), 3)
    store.close()
    shutil.copytree(tmp_path / "a" / "orders-0", tmp_path / "b" / "orders-0")
    log = Log.open(tmp_path / longer / "orders-0", ORDERS, small)
    batches.append(log, 3)
    log.close()
    again = open_store("a", "b")
    assert again.get(ORDERS).log_directory == str(tmp_path / longer)
    assert again.get(ORDERS).log_end_offset == 6
    assert [entry.name[-6:] for entry in (tmp_path / shorter).iterdir() if entry.is_dir()] == ["-stray"]
    assert not again.offline_logs


def test_of_two_logs_the_one_of_the_topic_that_is_there_is_used(open_store, small, batches, tmp_path):
    """A directory was away while the topic was deleted, and a namesake made in the other one."""
    store = open_store("a", "b")
    batches.append(store.create(ORDERS, TOPIC_ID, small, now_ms=0), 9)
    store.close()
    (tmp_path / "a" / "orders-0").rename(tmp_path / "away")
    namesake = Uuid.random(Random(7))
    store = open_store("a", "b")
    directory = store.directories[1].directory_id
    batches.append(store.create(ORDERS, namesake, small, now_ms=0, directory_id=directory), 3)
    store.close()
    (tmp_path / "away").rename(tmp_path / "a" / "orders-0")
    again = open_store("a", "b", load=False)
    again.topic_id_of = {"orders": namesake}.get
    again.load(lambda _: small, now_ms=0)
    assert again.get(ORDERS).topic_id == namesake
    assert again.get(ORDERS).log_end_offset == 3
    assert any(entry.name.endswith("-stray") for entry in (tmp_path / "a").iterdir())


@pytest.mark.parametrize("threads", [1, 4])
def test_many_logs_are_recovered_by_several_threads(open_store, small, batches, values_in, tmp_path, threads):
    store = open_store()
    for index in range(20):
        batches.append(store.create(TopicPartition("t", index), TOPIC_ID, small, now_ms=0), index + 1)
    store.close(clean=False)
    damaged = tmp_path / "data" / "t-7" / f"{0:020d}.log"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    again = open_store(load=False)
    again.recovery_threads = threads
    again.load(lambda _: small, now_ms=0)
    ends = [again.get(TopicPartition("t", index)).log_end_offset for index in range(20)]
    assert ends == [index + 1 if index != 7 else 0 for index in range(20)]


def test_delete_renames_then_removes(open_store, small, batches, tmp_path):
    store = open_store()
    log = store.create(ORDERS, TOPIC_ID, small, now_ms=0)
    batches.append(log)
    store.checkpoint_recovery_points()
    region = log.read(0, 1000, upper=1, at_least_one=True)
    assert store.delete(ORDERS, now_ms=100)
    assert not store.delete(ORDERS, now_ms=100)
    assert store.get(ORDERS) is None
    assert read(tmp_path / "data/recovery-point-offset-checkpoint") == "0\n0\n"
    (name,) = (name for name in os.listdir(tmp_path / "data") if name.startswith("orders-0"))
    assert name.endswith("-delete")
    assert len(name) == len("orders-0.") + 32 + len("-delete")
    fresh = store.create(ORDERS, Uuid.random(Random(2)), small, now_ms=100)
    assert fresh.log_end_offset == 0
    assert store.purge(1099) == 0
    assert store.purge(1100) == 1
    assert not os.path.exists(tmp_path / "data" / name)
    assert len(region.pread()) == len(region)


def test_many_logs_are_deleted_with_one_checkpoint(open_store, small, batches, tmp_path):
    syncs = []
    disk = FaultyDisk(lambda number, kind, path: syncs.append(path) if kind.startswith("sync") else None)
    store = open_store("a", "b", disk=disk)
    keys = [TopicPartition("t", partition) for partition in range(40)]
    for key in keys:
        batches.append(store.create(key, TOPIC_ID, small, now_ms=0))
    syncs.clear()
    assert store.delete_all([*keys, ORDERS], now_ms=0) == 40
    assert len(syncs) <= 8
    assert not store.logs
    assert read(tmp_path / "a/recovery-point-offset-checkpoint") == "0\n0\n"
    assert store.purge(small.file_delete_delay_ms) >= 40


def test_deletion_goes_on_after_a_restart(open_store, small, tmp_path):
    store = open_store()
    store.create(ORDERS, TOPIC_ID, small, now_ms=0)
    store.delete(ORDERS, now_ms=0)
    store.close()
    again = open_store(now_ms=5)
    assert again.get(ORDERS) is None
    assert again.purge(60_005) == 1
    assert not [name for name in os.listdir(tmp_path / "data") if name.startswith("orders")]


def test_what_is_no_partition_is_left_alone(open_store, tmp_path):
    os.makedirs(tmp_path / "data")
    strange = ["lost+found", "orders-0.0123456789abcdef0123456789abcdef-stray", "__cluster_metadata-0", "x-y"]
    for name in strange:
        os.makedirs(tmp_path / "data" / name)
    store = open_store()
    assert store.logs == {}
    store.close()
    assert set(strange) <= set(os.listdir(tmp_path / "data"))


@pytest.mark.parametrize(
    "content", [b"garbage", b"version: 1\ntopic_id: x", b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA"]
)
def test_an_unreadable_topic_id_quarantines_the_partition(open_store, small, batches, tmp_path, content):
    store = open_store()
    batches.append(store.create(ORDERS, TOPIC_ID, small, now_ms=0))
    other = store.create(TopicPartition("clicks", 0), TOPIC_ID, small, now_ms=0)
    store.close()
    (tmp_path / "data/orders-0/partition.metadata").write_bytes(content)
    before = sorted(os.listdir(tmp_path / "data/orders-0"))
    for _ in range(2):
        again = open_store()
        assert again.get(ORDERS) is None
        assert "partition.metadata" in str(again.offline_logs[ORDERS])
        assert again.get(other.topic_partition) is not None
        with pytest.raises(KafkaError) as raised:
            again.create(ORDERS, TOPIC_ID, small, now_ms=0)
        assert raised.value.code is ErrorCode.KAFKA_STORAGE_ERROR
        again.close()
    assert sorted(os.listdir(tmp_path / "data/orders-0")) == before


def test_a_damaged_partition_is_offline_and_the_rest_serves(open_store, small, batches, values_in, tmp_path):
    store = open_store()
    log = store.create(ORDERS, TOPIC_ID, small, now_ms=0)
    other = store.create(TopicPartition("clicks", 0), TOPIC_ID, small, now_ms=0)
    for _ in range(5):
        batches.append(log)
        batches.append(other)
    store.close()
    os.truncate(tmp_path / "data/orders-0" / f"{0:020d}.log", 100)
    for _ in range(2):
        again = open_store()
        assert "damaged at position 0" in str(again.offline_logs[ORDERS])
        assert len(values_in(again.get(other.topic_partition))) == 5
        again.close()
        assert os.path.getsize(tmp_path / "data/orders-0" / f"{0:020d}.log") == 100
        assert "orders 0 5" in read(tmp_path / "data/recovery-point-offset-checkpoint")


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"0\n3\norders 0 30\n", b"0\n1\norders 0 many\n", b"\xff\xfe"])
@pytest.mark.parametrize("victim", [0, 1, -1])
def test_without_readable_recovery_points_damage_in_the_middle_is_not_cut(
    open_store, small, batches, values_in, tmp_path, content, victim
):
    store = open_store()
    log = store.create(ORDERS, TOPIC_ID, small, now_ms=0)
    torn = store.create(TopicPartition("torn", 0), TOPIC_ID, small, now_ms=0)
    for _ in range(30):
        batches.append(log)
        batches.append(torn)
    log.flush()
    torn.flush()
    store.close(clean=False)
    checkpoint = tmp_path / "data/recovery-point-offset-checkpoint"
    checkpoint.write_bytes(content)
    segment = log.segments[victim]
    os.truncate(torn.segments[-1].log_path, torn.segments[-1].size - 3)
    path = Path(segment.log_path)
    damaged = path.read_bytes()
    damaged = damaged[:70] + b"\xff\xff" + damaged[72:]
    path.write_bytes(damaged)
    for _ in range(3):
        again = open_store()
        assert segment.log_path in str(again.offline_logs[ORDERS])
        assert path.read_bytes() == damaged
        assert len(values_in(again.get(torn.topic_partition))) == 29
        # What is written now is readable, and must not make the next start forget.
        again.checkpoint_recovery_points()
        again.close(clean=False)


def test_a_zeroed_topic_id_counts_as_lost_where_recovery_points_are_unreadable(open_store, small, batches, tmp_path):
    store = open_store()
    batches.append(store.create(ORDERS, TOPIC_ID, small, now_ms=0))
    store.close()
    (tmp_path / "data/orders-0/partition.metadata").write_bytes(bytes(20))
    (tmp_path / "data/recovery-point-offset-checkpoint").write_bytes(b"?")
    assert ORDERS in open_store().offline_logs


def test_the_recovery_point_of_the_metadata_log_is_carried_along(open_store, small, batches, tmp_path):
    open_store().close()
    path = tmp_path / "data/recovery-point-offset-checkpoint"
    path.write_text("0\n2\n__cluster_metadata 0 77\ngone 0 5\n")
    store = open_store()
    assert path.read_text() == "0\n1\n__cluster_metadata 0 77\n"
    store.create(ORDERS, TOPIC_ID, small, now_ms=0)
    store.checkpoint_recovery_points()
    assert path.read_text() == "0\n2\norders 0 0\n__cluster_metadata 0 77\n"


def test_checkpoints_from_loop_and_thread_do_not_get_in_each_others_way(open_store, small, batches, tmp_path):
    """Deleting a partition writes the same file as the periodic checkpoint does."""
    store = open_store()
    for partition in range(40):
        store.create(TopicPartition("t", partition), TOPIC_ID, small, now_ms=0)
    failed = []
    store.on_directory_failed = lambda directory, error: failed.append(error)
    done = threading.Event()

    def checkpoint():
        while not done.is_set():
            store.checkpoint_recovery_points()
            store.checkpoint_log_starts()

    thread = threading.Thread(target=checkpoint)
    thread.start()
    try:
        for partition in range(40):
            store.delete(TopicPartition("t", partition), now_ms=0)
    finally:
        done.set()
        thread.join()
    assert not failed


def test_an_io_error_takes_one_directory_offline(open_store, small, batches, tmp_path):
    def gate(number, kind, path):
        if broken and kind == "write" and path.startswith(str(tmp_path / "a")):
            raise OSError(errno.EIO, "Input/output error")

    broken = False
    store = open_store("a", "b", disk=FaultyDisk(gate))
    logs = [store.create(TopicPartition("t", partition), TOPIC_ID, small, now_ms=0) for partition in range(4)]
    failed = []
    store.on_directory_failed = lambda directory, error: failed.append((directory.path, error.errno))
    broken = True
    in_a = [log for log in logs if log.log_directory.endswith("/a")]
    in_b = [log for log in logs if log.log_directory.endswith("/b")]
    with pytest.raises(KafkaError):
        batches.append(in_a[0])
    broken = False
    with pytest.raises(KafkaError) as raised:
        batches.append(in_a[1])
    assert raised.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    assert failed == [(str(tmp_path / "a"), errno.EIO)]
    assert list(store.offline_directories) == [str(tmp_path / "a")]
    for log in in_b:
        batches.append(log)
    assert store.create(TopicPartition("t", 9), TOPIC_ID, small, now_ms=0).log_directory == str(tmp_path / "b")
    assert [description.error is None for description in describe_directories(store)] == [False, True]
    store.close()
    assert not os.path.exists(tmp_path / "a/.kafka_cleanshutdown")
    assert os.path.exists(tmp_path / "b/.kafka_cleanshutdown")


def test_checkpointed_log_start_is_kept(open_store, small, batches, tmp_path):
    store = open_store()
    log = store.create(ORDERS, TOPIC_ID, small, now_ms=0)
    for _ in range(30):
        batches.append(log)
    log.advance_log_start(12)
    store.checkpoint_log_starts()
    assert read(tmp_path / "data/log-start-offset-checkpoint") == "0\n1\norders 0 12\n"
    store.close(clean=False)
    again = open_store()
    assert again.get(ORDERS).log_start_offset == 12
    assert again.retain(again.get(ORDERS), 0, 30) == 1


def test_truncation_lowers_the_checkpoint_first(open_store, small, batches, tmp_path):
    store = open_store()
    log = store.create(ORDERS, TOPIC_ID, small, now_ms=0)
    for _ in range(30):
        batches.append(log)
    log.flush()
    store.checkpoint_recovery_points()
    log.truncate_to(3)
    store.close(clean=False)
    assert read(tmp_path / "data/recovery-point-offset-checkpoint") == "0\n1\norders 0 3\n"
    assert open_store().get(ORDERS).log_end_offset == 3


def test_opening_a_partition_takes_few_steps_however_many_there_are(open_store, batches):
    store = open_store()
    config = LogConfig()
    for partition in range(100):
        batches.append(store.create(TopicPartition("t", partition), TOPIC_ID, config, now_ms=0))
    store.close()
    profile = cProfile.Profile()
    again = profile.runcall(open_store)
    assert len(again.logs) == 100
    calls = sum(entry.callcount for entry in profile.getstats())
    assert calls < 100 * CALLS_TO_OPEN_ONE, f"{calls / 100:.0f} calls for each"


def test_clean_points_follow_their_logs(open_store, small, batches, tmp_path):
    store = open_store()
    log = store.create(ORDERS, TOPIC_ID, small, now_ms=0)
    checkpoint = tmp_path / "data/cleaner-offset-checkpoint"
    for _ in range(30):
        batches.append(log)
    log.flush()
    assert store.clean_point(log) is None
    store.record_clean_point(log, 20)
    assert read(checkpoint) == "0\n1\norders 0 20\n"
    store.record_clean_point(log, 25, unless=lambda: True)
    assert store.clean_point(log) == 20
    log.truncate_to(25)
    assert store.clean_point(log) == 20
    log.truncate_to(12)
    assert read(checkpoint) == "0\n1\norders 0 12\n"
    store.close()
    again = open_store()
    assert again.clean_point(again.get(ORDERS)) == 12
    again.delete(ORDERS, now_ms=0)
    assert read(checkpoint) == "0\n0\n"
    assert again.clean_point(again.create(ORDERS, TOPIC_ID, small, now_ms=0)) is None


def test_the_clean_point_of_a_log_that_is_gone_is_dropped_at_the_start(open_store, small, batches, tmp_path):
    store = open_store()
    store.record_clean_point(store.create(ORDERS, TOPIC_ID, small, now_ms=0), 0)
    store.close()
    (tmp_path / "data/cleaner-offset-checkpoint").write_text("0\n2\norders 0 0\ngone 3 77\n")
    open_store()
    assert read(tmp_path / "data/cleaner-offset-checkpoint") == "0\n1\norders 0 0\n"


def test_a_future_log_does_not_keep_what_its_log_has_lost(open_store, small, batches, values_in):
    """Whatever comes next at those offsets is something else; how far both agree is known only now."""
    store = open_store("a", "b")
    log = store.create(ORDERS, TOPIC_ID, small, now_ms=0)
    there = next(directory for directory in store.directories if directory.path != log.log_directory)
    future = store.futures.create(log, there, 0, now_ms=0)
    for _ in range(3):
        batch, _ = batches.build(log.log_end_offset)
        for one in (log, future):
            one.append(batch, list(iter_headers(batch)), 0)
    future.flush()
    kept = list(values_in(log).values())[:2]
    size = log.size
    store.checkpoint_recovery_points()
    store.close(clean=False)
    with open(log.active_segment.log_path, "r+b") as file:
        file.truncate(2 * size // 3)
    store = open_store("a", "b")
    assert store.get(ORDERS).log_end_offset == 2
    assert list(values_in(store.futures.logs[ORDERS]).values()) == kept
    store.close(clean=False)
    store = open_store("a", "b")
    assert store.futures.logs[ORDERS].log_end_offset == 2


def test_a_future_log_that_was_begun_anew_is_found_after_a_kill(open_store, small, batches):
    store = open_store("a", "b")
    log = store.create(ORDERS, TOPIC_ID, small, now_ms=0)
    there = next(directory for directory in store.directories if directory.path != log.log_directory)
    future = store.futures.create(log, there, 0, now_ms=0)
    for one in (log, future):
        batches.append(one, 5)
    future.flush()
    store.checkpoint_recovery_points()
    future.truncate_fully_and_start_at(2)
    store.close(clean=False)
    store = open_store("a", "b")
    assert store.futures.logs[ORDERS].log_end_offset == 2
