import pytest

from ottla.model import TopicPartition
from ottla.storage.checkpoints import MalformedFile, parse_properties, read_meta_properties, read_offsets, write_offsets
from ottla.storage.disk import Disk
from ottla.storage.leader_epochs import LeaderEpochCache
from ottla.storage.names import marked_directory, parse_marked_directory, parse_partition_directory, parse_segment_file


def test_offsets_come_back(tmp_path):
    path = str(tmp_path / "checkpoint")
    offsets = {TopicPartition("a.b-c", 3): 17, TopicPartition("d", 0): 0}
    write_offsets(Disk(), path, offsets)
    assert (tmp_path / "checkpoint").read_text() == "0\n2\na.b-c 3 17\nd 0 0\n"
    assert read_offsets(Disk(), path) == offsets
    assert read_offsets(Disk(), path + "-none") == {}


@pytest.mark.parametrize("text", ["1\n0\n", "0\n1\n", "0\nx\n", "0\n1\na b c\n", "0\n1\na 1\n", "\xff"])
def test_malformed_checkpoints_are_told(tmp_path, text):
    (tmp_path / "checkpoint").write_bytes(text.encode("latin-1"))
    with pytest.raises(MalformedFile):
        read_offsets(Disk(), str(tmp_path / "checkpoint"))


def test_meta_properties_of_other_brokers(tmp_path):
    (tmp_path / "meta.properties").write_text(
        "#\n#Sun Nov 22 10:00:00 UTC 2026\nnode.id=3\ndirectory.id=nJBkQqB6T6S3lwEfuLtMDw\n"
        "version=1\ncluster.id=ab\\=c\n"
    )
    properties = read_meta_properties(Disk(), str(tmp_path))
    assert (properties.node_id, properties.cluster_id) == (3, "ab=c")
    assert str(properties.directory_id) == "nJBkQqB6T6S3lwEfuLtMDw"
    (tmp_path / "meta.properties").write_text("broker.id=5\ncluster.id=x\nversion=0\n")
    assert read_meta_properties(Disk(), str(tmp_path)).node_id == 5
    (tmp_path / "meta.properties").write_text("version=2\n")
    with pytest.raises(MalformedFile):
        read_meta_properties(Disk(), str(tmp_path))
    assert parse_properties("! c\n\n a = b \n") == {"a": "b"}


def test_names():
    assert parse_segment_file("00000000000000000012.timeindex.deleted") == (12, ".timeindex.deleted")
    assert parse_segment_file("leader-epoch-checkpoint") is None
    assert parse_partition_directory("a-b-12") == TopicPartition("a-b", 12)
    for name in ("a", "-1", "a-", "a-x", "a-²"):
        assert parse_partition_directory(name) is None
    name = marked_directory(TopicPartition("t" * 249, 12), "0" * 32, "-delete")
    assert len(name) == 255
    assert parse_marked_directory(name)[1] == "-delete"
    assert parse_marked_directory("a-0") is None


@pytest.fixture
def epochs(tmp_path):
    cache = LeaderEpochCache(Disk(), str(tmp_path))
    for epoch, start in ((0, 0), (2, 10), (5, 30)):
        cache.assign(epoch, start)
    return cache


@pytest.mark.parametrize(
    ("epoch", "answer"),
    [(-1, (-1, -1)), (0, (0, 10)), (1, (0, 10)), (2, (2, 30)), (4, (2, 30)), (5, (5, 44)), (6, (-1, -1))],
)
def test_end_offset_of_an_epoch(epochs, epoch, answer):
    assert epochs.end_offset_for(epoch, 44) == answer


def test_end_offset_below_the_first_epoch(epochs):
    epochs.truncate_from_start(12)
    assert epochs.entries == ((2, 12), (5, 30))
    assert epochs.end_offset_for(1, 44) == (1, 12)


def test_assigning_drops_what_contradicts(epochs):
    epochs.assign(3, 20)
    assert epochs.entries == ((0, 0), (2, 10), (3, 20))
    epochs.assign(7, 10)
    assert epochs.entries == ((0, 0), (7, 10))
    epochs.assign(7, 15)
    assert epochs.entries == ((0, 0), (7, 10))
    assert (epochs.epoch_at(9), epochs.epoch_at(10)) == (0, 7)


def test_epochs_survive_in_their_file(epochs, tmp_path):
    assert (tmp_path / "leader-epoch-checkpoint").read_text() == "0\n3\n0 0\n2 10\n5 30\n"
    again = LeaderEpochCache(Disk(), str(tmp_path))
    again.load()
    assert again.entries == epochs.entries
    again.truncate_from_end(30)
    assert again.latest_epoch == 2
