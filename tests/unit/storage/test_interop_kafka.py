"""Apache Kafka's own tools read our directory. ``OTTLA_KAFKA_LIBS`` names the directory of its jars."""

import os
import shutil
import subprocess
from random import Random

import pytest
from msgspec.structs import replace

from ottla.model import TopicPartition, Uuid
from ottla.records.batch import iter_headers
from ottla.records.builder import BatchBuilder
from ottla.records.compression import Codec
from ottla.storage.log_store import LogStore

LIBS = os.environ.get("OTTLA_KAFKA_LIBS", "")

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not os.path.isdir(LIBS), reason="OTTLA_KAFKA_LIBS names no directory of Kafka jars"),
    pytest.mark.skipif(shutil.which("java") is None, reason="no Java runtime"),
]


def dump(*arguments):
    command = ["java", "-Xmx256m", "-cp", f"{LIBS}/*", "org.apache.kafka.tools.DumpLogSegments", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def directory(tmp_path, small, batches):
    """A partition with rolled segments, every codec, an idempotent producer, closed cleanly."""
    config = replace(small, segment_bytes=3000, index_interval_bytes=300, segment_index_bytes=4800)
    store = LogStore.open([tmp_path], cluster_id="c", node_id=1, rng=Random(1))
    store.load(lambda _: config, now_ms=0)
    log = store.create(TopicPartition("orders", 0), Uuid.random(Random(1)), config, now_ms=0)
    sequence = 0
    for number in range(60):
        builder = BatchBuilder(
            base_offset=log.log_end_offset,
            codec=Codec(number % 5),
            leader_epoch=number // 20,
            producer_id=7,
            producer_epoch=1,
            base_sequence=sequence,
        )
        for record in range(3):
            builder.append(1_700_000_000_000 + 1000 * number + record, b"key", os.urandom(40))
        sequence += 3
        batch = builder.build()
        log.append(batch, list(iter_headers(batch)), 0)
    store.close()
    return tmp_path / "orders-0"


def files(directory, suffix):
    return ",".join(sorted(str(path) for path in directory.iterdir() if path.name.endswith(suffix)))


def test_segments_and_indexes_pass_kafkas_checks(directory):
    logs = dump("--deep-iteration", "--files", files(directory, ".log"))
    assert logs.count("isvalid: true") == 60
    assert "offset: 179 " in logs
    assert directory.joinpath(f"{0:020d}.log").exists()
    for suffix in (".index", ".timeindex"):
        checked = dump("--index-sanity-check", "--files", files(directory, suffix))
        assert "passed sanity check" in checked
        verified = dump("--verify-index-only", "--files", files(directory, suffix))
        assert "mismatch" not in verified.lower(), verified
        assert "Found" not in verified, verified


def test_producer_snapshots_are_read(directory):
    output = dump("--files", files(directory, ".snapshot"))
    assert "producerId: 7 producerEpoch: 1" in output
    assert "lastSequence: 179" in output


def test_kafka_itself_rebuilds_the_same_indexes(directory, tmp_path):
    """``LogSegment.recover`` of the original, run on a copy, writes byte for byte what we wrote."""
    if shutil.which("javac") is None:
        pytest.skip("no Java compiler")
    source = tmp_path / "Recover.java"
    source.write_text(RECOVER)
    classes = tmp_path / "classes"
    subprocess.run(["javac", "-cp", f"{LIBS}/*", "-d", str(classes), str(source)], check=True, timeout=100)
    copy = tmp_path / "copy-0"
    copy.mkdir()
    for path in directory.iterdir():
        if path.name.endswith(".log"):
            shutil.copy(path, copy)
    subprocess.run(
        ["java", "-Xmx256m", "-cp", f"{classes}:{LIBS}/*", "Recover", str(copy), "300", "4800"], check=True, timeout=100
    )
    for path in directory.iterdir():
        if path.name.endswith("index"):
            assert (copy / path.name).read_bytes() == path.read_bytes(), path.name


RECOVER = """
import java.io.File;
import java.util.Properties;
import java.util.Arrays;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.storage.internals.checkpoint.LeaderEpochCheckpointFile;
import org.apache.kafka.storage.internals.epoch.LeaderEpochFileCache;
import org.apache.kafka.storage.internals.log.*;

public class Recover {
    public static void main(String[] args) throws Exception {
        File dir = new File(args[0]);
        Properties properties = new Properties();
        properties.put("index.interval.bytes", args[1]);
        properties.put("segment.index.bytes", args[2]);
        LogConfig config = new LogConfig(properties);
        TopicPartition partition = new TopicPartition("copy", 0);
        String[] names = dir.list((d, name) -> name.endsWith(".log"));
        Arrays.sort(names);
        org.apache.kafka.server.util.KafkaScheduler scheduler = new org.apache.kafka.server.util.KafkaScheduler(1);
        scheduler.startup();
        LeaderEpochFileCache epochs = new LeaderEpochFileCache(partition,
            new LeaderEpochCheckpointFile(LeaderEpochCheckpointFile.newFile(dir), new LogDirFailureChannel(1)),
            scheduler);
        for (String name : names) {
            long base = Long.parseLong(name.substring(0, 20));
            LogSegment segment = LogSegment.open(dir, base, config, Time.SYSTEM, true, 0, false, "");
            ProducerStateManager producers = new ProducerStateManager(partition, dir, 300000,
                new ProducerStateManagerConfig(86400000, false), Time.SYSTEM);
            segment.recover(producers, epochs);
            segment.close();
        }
        scheduler.shutdown();
    }
}
"""
