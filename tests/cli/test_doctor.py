"""Planted faults: what is wrong with a cluster is found, named, and comes with what to do about it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import conftest
from harness.clusters import make_node

if TYPE_CHECKING:
    from cli.conftest import Ottla

HALF_AN_HOUR_MS = 1_800_000


def findings(ottla: Ottla, check: str, *, code: int = 0) -> list[dict[str, Any]]:
    """What the doctor finds under a name, everything in order left out."""
    rows = [row for row in ottla.json("doctor", code=code)["checks"] if row["severity"] != "ok"]
    assert all(row["fix"] for row in rows), rows
    return [row for row in rows if row["check"] == check]


def test_more_replicas_asked_for_than_there_are(ottla: Ottla) -> None:
    topic = ottla.topic("-c", "min.insync.replicas=2")
    (found,) = findings(ottla, "writing")
    assert f"{topic}-0" in found["finding"]
    assert "min.insync.replicas" in found["fix"]
    ottla("topic", "alter", topic, "-c", "min.insync.replicas=1")
    assert findings(ottla, "writing") == []


def test_times_that_cannot_be(ottla: Ottla) -> None:
    ahead, seconds = ottla.topic(), ottla.topic()
    now_ms = time.time_ns() // 1_000_000
    ottla("produce", ahead, "--timestamp", str(now_ms + HALF_AN_HOUR_MS), stdin=b"x\n")
    ottla("produce", seconds, "--timestamp", str(now_ms // 1000), stdin=b"x\n")
    found = {word: row for row in findings(ottla, "times") for word in ("future", "2001") if word in row["finding"]}
    assert f"{ahead}-0" in found["future"]["finding"]
    assert "message.timestamp.after.max.ms" in found["future"]["fix"]
    assert found["2001"]["severity"] == "warning"
    ottla("topic", "delete", ahead, seconds, "--yes")


def test_groups_left_alone(ottla: Ottla, unique: Callable[[str], str]) -> None:
    topic, group, by_hand = ottla.topic(), unique("alone"), unique("by-hand")
    ottla("produce", topic, stdin=b"a\nb\nc\nd\n")
    ottla("consume", topic, "-g", group, "-n", "1")
    for name in (group, by_hand):
        ottla("group", "seek", name, "--to", "1", "--topic", topic, "--yes")

    def finding(text: str) -> list[str]:
        return [row["finding"] for row in findings(ottla, "groups") if text in row["finding"]]

    assert f"{group} (lag 3)" in finding("without members")[0]
    assert by_hand not in finding("without members")[0]
    assert finding("gone before they were read") == []
    ottla("topic", "trim", topic, "-o", "2", "--yes")
    assert group in finding("gone before they were read")[0]
    ottla("group", "seek", group, "--to", "end", "--yes")
    assert group not in "".join(finding(""))


def test_a_directory_that_is_gone(cluster_kind: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    node = make_node(cluster_kind, first, config={"log.dirs": f"{first},{second}"})
    node.start()
    try:
        ottla = conftest.Ottla(node.bootstrap, tmp_path)
        ottla("topic", "create", "spread", "-p", "6")
        assert findings(ottla, "partitions") == findings(ottla, "log directories") == []
        node.stop()
        lost = sorted(path.name for path in second.glob("spread-*"))
        assert lost
        second.rename(tmp_path / "away")
        second.write_text("in the way of the directory")
        node.start()
        (partitions,) = findings(ottla, "partitions", code=1)
        assert f"{len(lost)} without a leader: {lost[0]}" in partitions["finding"]
        (directory,) = findings(ottla, "log directories", code=1)
        assert (str(second) in directory["finding"], directory["severity"]) == (True, "error")
        assert b"FAIL  partitions" in ottla("cluster", "health", code=1).stdout
    finally:
        node.stop()
