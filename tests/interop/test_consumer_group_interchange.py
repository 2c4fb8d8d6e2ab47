"""Consumer groups in a directory that changes hands: every kind of record, read by the other broker and gone on with.

The groups are left in the states that differ most: settled, half way through a revocation, with a static member away,
with a regular expression, with classic members. The metadata hash is among what must be the same: a broker that hashed
the topics differently would move every group to a new epoch with the first heartbeat.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from harness.clusters import java, make_node
from harness.differential.consumer_groups import _beat, _described, _join, _owned, _sync, _until
from harness.differential.groups import _commit, _fetch_offsets, ready
from harness.differential.topics import learn, make
from harness.twins import Twin
from ottla.groups.records import CONSUMER_GROUP_RECORDS, decode_record, encode_record
from ottla.records.batch import iter_headers
from ottla.records.reader import read_body, records_of

CONFIG = {
    "offsets.topic.num.partitions": "2",
    "group.initial.rebalance.delay.ms": "0",
    "group.consumer.assignment.interval.ms": "0",
    "broker.rack": "rack-1",
    "node.id": "1",
}
TOPIC = "interchange"
WIDE = "interchange-wide"
GROUPS = ("settled", "revoking", "away", "matching", "mixed", "left")


@pytest.mark.usefixtures("apache_kafka")
@pytest.mark.parametrize("path", [("ottla", "apache"), ("apache", "ottla")], ids="-then-".join)
def test_groups_change_hands(path: tuple[str, str], tmp_path: Path, cluster_kind: str) -> None:
    if cluster_kind == "apache":
        path = ("apache", "apache")
    data = tmp_path / "data"
    first = make_node(path[0], data, config=CONFIG)
    first.start()
    try:
        twin = Twin(first, set())
        classic = fill(twin)
        before = _described(twin, *GROUPS)
        twin.close()
    finally:
        first.stop()
    read_by_the_dump_tool(data)
    same_bytes(data)

    second = make_node(path[1], data, config=CONFIG)
    second.start()
    try:
        twin = Twin(second, set())
        ready(twin)
        for name in (TOPIC, WIDE, "match-1", "match-2"):
            learn(twin, name)
        assert _described(twin, *GROUPS) == before
        go_on(twin, classic)
        twin.close()
    finally:
        second.stop()
    read_by_the_dump_tool(data)
    same_bytes(data)


def fill(twin: Twin) -> tuple[str, int]:
    """Leave every group where the test wants it; returns the classic member and its generation."""
    ready(twin)
    make(twin, TOPIC, 4)
    make(twin, WIDE, 120)
    make(twin, "match-1", 1)
    make(twin, "match-2", 2)
    time.sleep(0.5)
    names = {"subscribed_topic_names": [TOPIC, WIDE], "rack_id": "rack-1", "server_assignor": "range"}
    twin.call(_beat("settled", "a", **names), 1)
    for group in ("revoking", "mixed"):
        twin.call(_beat(group, "a", subscribed_topic_names=[TOPIC]), 1)
    twin.call(_beat("revoking", "b", subscribed_topic_names=[TOPIC]), 1)
    twin.call(_beat("revoking", "a", 2, topic_partitions=_owned(twin, TOPIC, 0, 1, 2, 3)), 1)
    twin.call(_commit(9, "revoking", TOPIC, twin, member_id="a", generation_id_or_member_epoch=2), 9)
    twin.call(_beat("away", "a", instance_id="i", subscribed_topic_names=[WIDE]), 1)
    twin.call(_beat("away", "a", -2, instance_id="i"), 1)
    joined = twin.call(_beat("matching", "a", subscribed_topic_regex="match-[0-9]"), 1)
    assert _until(twin, lambda epoch: _beat("matching", "a", epoch), joined.member_epoch, "match-1") != "never"
    member = twin.call(_join(twin, "mixed", TOPIC), 9).member_id
    generation = twin.call(_join(twin, "mixed", TOPIC, member=member, session_timeout_ms=600_000), 9).generation_id
    twin.call(_sync("mixed", member, generation), 5)
    twin.call(_beat("left", "a", subscribed_topic_names=[TOPIC]), 1)
    twin.call(_beat("left", "a", -1), 1)
    twin.call(_commit(9, "left", TOPIC, twin), 9)
    return member, generation


def go_on(twin: Twin, classic: tuple[str, int]) -> None:
    """What each group does next, on the broker that did not begin it."""

    def beat(*arguments: Any, **rest: Any) -> Any:
        answer = twin.call(_beat(*arguments, **rest), 1)
        assert answer.error_code == 0, answer
        return answer

    assert beat("settled", "a", 2).member_epoch == 2, "the topics hash alike"
    assert beat("matching", "a", 2).member_epoch == 2
    assert beat("revoking", "a", 2, topic_partitions=_owned(twin, TOPIC, 0, 1)).member_epoch == 3
    gained = beat("revoking", "b", 3, topic_partitions=[])
    assert partitions(twin, gained, TOPIC) == [2, 3]
    fetched = twin.call(_fetch_offsets(9, "revoking", TOPIC, (0,), twin), 9)
    assert fetched.groups[0].topics[0].partitions[0].committed_offset == 5
    back = beat("away", "b", instance_id="i", subscribed_topic_names=[WIDE])
    assert back.member_epoch == 2
    assert len(partitions(twin, back, WIDE)) == 120
    member, generation = classic
    answer = twin.ask(_sync("mixed", member, generation), 5)
    assert answer["error_code"] == 0, answer
    assert beat("mixed", "a", -1).member_epoch == -1
    assert twin.call(_beat("mixed", "a", 2), 1).error_code == 69, "the group is classic now"
    assert beat("left", "z", subscribed_topic_names=[TOPIC]).member_epoch == 4


def partitions(twin: Twin, answer: Any, topic: str) -> list[int]:
    rows = [row for row in answer.assignment.topic_partitions if row.topic_id == twin.ids[topic]]
    return sorted(partition for row in rows for partition in row.partitions)


def same_bytes(data: Path) -> None:
    """Every record in the log is, read and written by Ottla, the same again."""
    seen = set()
    for path in sorted(data.glob("__consumer_offsets-*/*.log")):
        view = memoryview(path.read_bytes())
        for position, header in iter_headers(view, partial_tail=True):
            if header.is_control:
                continue
            for stored in records_of(header, read_body(view, header, position=position)):
                record = decode_record(stored.key, stored.value)
                assert record is not None, stored.key
                key, value = encode_record(record)
                assert (key, value) == (stored.key, stored.value), record
                if record.value is not None:
                    seen.add(type(record))
    missing = {kind.__name__ for kind in CONSUMER_GROUP_RECORDS} - {kind.__name__ for kind in seen}
    assert missing == {"ConsumerGroupPartitionMetadata"}, "the obsolete kind has tombstones only"


def read_by_the_dump_tool(data: Path) -> None:
    logs = [path for path in data.glob("__consumer_offsets-*/*.log") if path.stat().st_size]
    names = ",".join(map(str, logs))
    done = java("org.apache.kafka.tools.DumpLogSegments", "--offsets-decoder", "--files", names, seconds=180)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-3000:]
    for kind in ("3", "5", "6", "7", "8", "16"):
        assert f'"type":"{kind}"' in text, f"no record of type {kind}"
    assert "Could not decode" not in text
    assert "Exception" not in text
