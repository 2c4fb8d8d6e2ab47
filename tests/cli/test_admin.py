"""Topics, groups, configurations, the cluster, transactions: what is printed and what is changed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cli.conftest import Ottla


def test_topic_life(ottla: Ottla) -> None:
    topic = ottla.topic("-p", "2", "-c", "retention.ms=60000")
    assert b"dry run" in ottla("topic", "add-partitions", topic, "-n", "1", "--dry-run").stderr
    ottla("topic", "add-partitions", topic, "-n", "1")
    assert b"3 -> 5" in ottla("topic", "add-partitions", topic, "--to", "5").stderr
    assert b"INVALID_PARTITIONS" in ottla("topic", "add-partitions", topic, "--to", "2", code=1).stderr
    shown = ottla("topic", "alter", topic, "-c", "retention.ms=70000", "-c", "max.message.bytes=2000").stdout.decode()
    assert ["retention.ms", "60000", "70000"] in [line.split() for line in shown.splitlines()]
    ottla("topic", "alter", topic, "-d", "retention.ms")
    (described,) = ottla.json("topic", "describe", topic)
    assert len(described["partitions"]) == 5
    names = {one["name"]: one["value"] for one in described["config"]}
    assert (names["max.message.bytes"], "retention.ms" in names) == ("2000", False)
    ottla("topic", "alter", topic, code=2)
    (row,) = ottla.json("topic", "list", f"?{topic[1:]}")
    assert row["name"] == topic
    assert topic.encode() in ottla("topic", "list", "-o", "wide").stdout
    ottla("topic", "delete", topic, "--yes")
    assert ottla.json("topic", "list", topic) == []


def test_trim_shows_asks_and_deletes(ottla: Ottla) -> None:
    topic = ottla.topic("-p", "2")
    ottla("produce", topic, "-p", "0", stdin=b"a\nb\nc\nd\n")
    rows = ottla.json("offsets", topic)
    assert [(row["start"], row["end"]) for row in rows] == [(0, 4), (0, 0)]
    assert b"nothing was deleted" in ottla("topic", "trim", topic, "-o", "2", "--dry-run").stderr
    assert b"pass --yes" in ottla("topic", "trim", topic, "-o", "2", code=2).stderr
    assert ottla.json("offsets", topic)[0]["start"] == 0
    ottla("topic", "trim", topic, "-o", "-1", "-y")
    assert [(row["start"], row["end"]) for row in ottla.json("offsets", topic)] == [(3, 4), (0, 0)]
    ottla("topic", "trim", topic, "-o", "end", "-p", "7", code=2)


def test_offsets_at(ottla: Ottla) -> None:
    topic = ottla.topic()
    lines = [json.dumps({"value": str(number), "timestamp": 1_000_000 + number}) for number in range(5)]
    ottla("produce", topic, "-f", "json", stdin="\n".join(lines).encode())
    assert ottla.json("offsets", topic, "--at", "@1000003")[0]["offset"] == 3
    assert ottla.json("offsets", topic, "--at", "@-1h")[0]["offset"] == 5
    assert ottla.json("offsets", topic, "--at", "-2")[0]["offset"] == 3
    assert b"is not start" in ottla("offsets", topic, "--at", "yesterday", code=2).stderr


def test_config_of_a_topic(ottla: Ottla) -> None:
    topic = ottla.topic()
    ottla("config", "set", "topic", topic, "retention.ms=1234567")
    assert ottla("config", "get", "topic", topic, "retention.ms").stdout == b"1234567\n"
    entries = {entry["name"]: entry for entry in ottla.json("config", "describe", "topic", topic)}
    assert (entries["retention.ms"]["source"], entries["retention.ms"]["type"]) == ("topic", "long")
    assert len(ottla.json("config", "describe", "topic", topic, "-a")) > 20
    assert topic in [row["name"] for row in ottla.json("config", "list", "topic")]
    ottla("config", "unset", "topic", topic, "retention.ms")
    assert "retention.ms" not in [entry["name"] for entry in ottla.json("config", "describe", "topic", topic)]
    assert b"INVALID_CONFIG" in ottla("config", "set", "topic", topic, "retention.ms=soon", code=1).stderr
    assert b"has no configuration" in ottla("config", "get", "topic", topic, "nix", code=1).stderr
    assert b"does not exist" in ottla("config", "describe", "topic", "never-was", code=1).stderr


def test_config_of_a_broker_and_a_group(ottla: Ottla, unique: Callable[[str], str]) -> None:
    (broker,) = ottla.json("cluster", "brokers")
    name = str(broker["node_id"])
    ottla("config", "set", "broker", name, "log.cleaner.threads=1")
    entries = {entry["name"]: entry for entry in ottla.json("config", "describe", "broker", name, "-a")}
    assert entries["log.cleaner.threads"]["value"] == "1"
    ottla("config", "unset", "broker", name, "log.cleaner.threads")
    ottla("config", "set", "broker", "default", "log.retention.ms=86400000")
    ottla("config", "unset", "broker", "default", "log.retention.ms")
    group = unique("group")
    ottla("config", "set", "group", group, "consumer.session.timeout.ms=50000")
    assert ottla("config", "get", "group", group, "consumer.session.timeout.ms").stdout == b"50000\n"
    assert {"kind": "group", "name": group} in ottla.json("config", "list", "group")


def test_cluster(ottla: Ottla) -> None:
    topic = ottla.topic("-p", "3")
    info = ottla.json("cluster", "info")
    assert info["cluster_id"]
    assert info["partitions"] >= 3
    (broker,) = info["brokers"]
    assert f"{broker['host']}:{broker['port']}" == ottla.bootstrap
    quorum = ottla.json("cluster", "quorum")
    assert quorum["leader"] == broker["node_id"]
    assert quorum["replicas"][0]["role"] == "leader"
    ottla("produce", topic, stdin=b"x\n" * 100)
    (directory,) = ottla.json("cluster", "logdirs")
    assert (directory["error"], directory["partitions"] >= 3) == (None, True)
    assert "metadata.version" in [row["feature"] for row in ottla.json("cluster", "features")]
    assert {"api": "Fetch", "key": 1}.items() <= {row["key"]: row for row in ottla.json("cluster", "apis")}[1].items()
    health = ottla.json("cluster", "health")
    assert health["healthy"], health
    assert ottla("cluster", "health").stdout.endswith(b"healthy\n")
    for command in ("info", "quorum", "logdirs", "features", "apis", "brokers"):
        assert ottla("cluster", command, "-o", "wide").stdout


@pytest.mark.parametrize("form", ["table", "wide", "json", "ndjson", "yaml", "help"])
def test_every_format(ottla: Ottla, form: str) -> None:
    topic = ottla.topic()
    for command in (("topic", "list"), ("topic", "describe", topic), ("cluster", "info"), ("group", "list")):
        assert b"\x1b" not in ottla(*command, "-o", form).stdout


def test_groups(ottla: Ottla, unique: Callable[[str], str]) -> None:
    topic, group, other = ottla.topic("-p", "2"), unique("group"), unique("group")
    ottla("produce", topic, "-p", "0", stdin=b"a\nb\nc\n")
    ottla("produce", topic, "-p", "1", stdin=b"d\n")
    assert b"GROUP_ID_NOT_FOUND" in ottla("group", "describe", group, code=1).stderr
    rows = ottla.json("group", "seek", group, "--to", "end", "--topic", topic, "--yes")
    assert [(row["partition"], row["before"], row["after"]) for row in rows] == [(0, None, 3), (1, None, 1)]
    (described,) = ottla.json("group", "describe", group)
    assert (described["state"], described["lag"]) == ("Empty", 0)
    assert b"nothing was changed" in ottla("group", "seek", group, "--to", "start", "--dry-run").stderr
    assert b"--yes" in ottla("group", "seek", group, "--to", "start", code=2).stderr
    ottla("group", "seek", group, "--to", "-1", "--topic", f"{topic}:0", "--yes")
    (described,) = ottla.json("group", "describe", group)
    assert [(one["committed"], one["lag"]) for one in described["partitions"]] == [(2, 1), (1, 0)]
    assert described["lag"] == 1
    ottla("group", "seek", other, "--to-group", group, "--yes")
    assert ottla.json("group", "describe", other)[0]["lag"] == 1
    rows = ottla.json("group", "seek", other, "--to-file", "-", "--yes", stdin=f"{topic} 0 1\n{topic} 1 99\n".encode())
    assert [(row["after"], row["change"]) for row in rows] == [(1, -1), (1, 0)]
    saved = ottla("group", "describe", group, "-o", "ndjson").stdout
    ottla("group", "seek", other, "--to-file", "-", "--yes", stdin=saved)
    assert ottla.json("group", "describe", other)[0]["lag"] == 1
    assert {group, other} <= {row["group"] for row in ottla.json("group", "list")}
    assert b"COMMITTED" in ottla("group", "describe", group).stdout
    ottla("group", "delete-offsets", other, "--topic", f"{topic}:1", "--yes")
    assert [one["partition"] for one in ottla.json("group", "describe", other)[0]["partitions"]] == [0]
    assert b"pass --yes" in ottla("group", "delete", other, code=2).stderr
    ottla("group", "delete", group, other, "--yes")
    assert not {group, other} & {row["group"] for row in ottla.json("group", "list")}


def test_transactions(ottla: Ottla, unique: Callable[[str], str]) -> None:
    topic, name = ottla.topic(), unique("txn")
    program = f"""
import asyncio, sys
from ottla.client import Producer
async def main():
    async with Producer({ottla.bootstrap!r}, transactional_id={name!r}) as producer:
        async with producer.transaction():
            await producer.send({topic!r}, b"x")
            print("open", flush=True)
            sys.stdin.readline()
asyncio.run(main())
"""
    import sys

    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        assert {row["transactional_id"]: row["state"] for row in ottla.json("txn", "list")}[name] == "Ongoing"
        found = ottla.json("txn", "describe", name)
        assert (found["state"], found["partitions"]) == ("Ongoing", [f"{topic}-0"])
        (row,) = ottla.json("txn", "producers", topic)
        assert (row["open_since_offset"], row["producer_id"]) == (0, found["producer_id"])
        assert ottla.json("txn", "find-hanging", "--topic", topic, "--older-than", "0s") == []
        assert b"no hanging" in ottla("txn", "abort", topic, "0", "--start-offset", "0", "-y", code=1).stderr
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.wait(30) == 0
    assert ottla.json("txn", "producers", topic)[0]["open_since_offset"] is None
    assert b"TRANSACTIONAL_ID_NOT_FOUND" in ottla("txn", "describe", "never-was", code=1).stderr
