"""Apache Kafka's own command-line tools and Java clients, each run by plain `java -cp` as its users run them."""

from __future__ import annotations

import json
import re

import pytest

from harness.clusters import java
from harness.processes import wait_until

pytestmark = pytest.mark.usefixtures("apache_kafka")

TOOLS = "org.apache.kafka.tools."
DESCRIBE_ACLS = 29


@pytest.fixture
def run(cluster):
    """Run a tool against the cluster and return what it printed; a failing tool fails the test."""

    def call(tool, *arguments, text=None, bootstrap=True, seconds=120.0):
        name = tool if "." in tool and tool.startswith("kafka.") else TOOLS + tool
        where = ["--bootstrap-server", cluster.bootstrap] if bootstrap else []
        done = java(name, *where, *arguments, text=text, seconds=seconds)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return call


def test_topic_command_console_clients_offsets_and_deletion(run, topic):
    run("TopicCommand", "--create", "--topic", topic, "--partitions", "2", "--config", "retention.ms=7200000")
    described = run("TopicCommand", "--describe", "--topic", topic)
    assert "PartitionCount: 2" in described
    assert "retention.ms=7200000" in described
    assert len(re.findall(r"Leader: 1\s.*Isr: 1\b", described)) == 2

    lines = "".join(f"key-{n}\tvalue-{n}\n" for n in range(100))
    properties = ["--reader-property", "parse.key=true", "--command-property", "compression.type=lz4"]
    run("ConsoleProducer", "--topic", topic, *properties, text=lines)
    printed = run(
        "consumer.ConsoleConsumer",
        *("--topic", topic, "--from-beginning", "--max-messages", "100", "--timeout-ms", "60000"),
        *("--formatter-property", "print.key=true", "--formatter-property", "print.partition=true"),
    )
    got = re.findall(r"Partition:(\d)\tkey-(\d+)\tvalue-(\d+)", printed)
    assert sorted(int(key) for _, key, _ in got) == list(range(100))
    assert all(key == value for _, key, value in got)
    assert {partition for partition, _, _ in got} == {"0", "1"}

    ends = dict(re.findall(rf"{topic}:(\d):(\d+)", run("GetOffsetShell", "--topic", topic)))
    assert sum(map(int, ends.values())) == 100
    run("TopicCommand", "--alter", "--topic", topic, "--partitions", "4")
    run("TopicCommand", "--delete", "--topic", topic)
    assert topic not in run("TopicCommand", "--list").split()


def test_delete_records_moves_the_start(run, topic, tmp_path):
    run("TopicCommand", "--create", "--topic", topic, "--partitions", "1")
    run("ProducerPerformance", "--topic", topic, *load(1000, 50))
    plan = tmp_path / "offsets.json"
    wanted = [{"topic": topic, "partition": 0, "offset": 600}]
    plan.write_text(json.dumps({"partitions": wanted, "version": 1}))
    assert "low_watermark: 600" in run("DeleteRecordsCommand", "--offset-json-file", str(plan))
    assert f"{topic}:0:600" in run("GetOffsetShell", "--topic", topic, "--time", "earliest")
    assert f"{topic}:0:1000" in run("GetOffsetShell", "--topic", topic, "--time", "latest")


def test_config_command_changes_and_shows(run, topic):
    run("TopicCommand", "--create", "--topic", topic, "--partitions", "1")
    entity = ("--entity-type", "topics", "--entity-name", topic)
    command = "kafka.admin.ConfigCommand"
    run(command, "--alter", *entity, "--add-config", "segment.bytes=10485760,cleanup.policy=[compact,delete]")
    shown = run(command, "--describe", *entity)
    assert "segment.bytes=10485760" in shown
    assert "cleanup.policy=compact,delete" in shown
    run(command, "--alter", *entity, "--delete-config", "segment.bytes")
    assert "segment.bytes" not in run(command, "--describe", *entity)
    everything = run(command, "--describe", "--all", "--entity-type", "brokers", "--entity-name", "1")
    assert "log.retention.hours=168" in everything


@pytest.mark.parametrize("acks", ["1", "all"])
def test_performance_clients(run, topic, acks):
    run("TopicCommand", "--create", "--topic", topic, "--partitions", "3")
    properties = ("--command-property", f"acks={acks}", "compression.type=zstd")
    printed = run("ProducerPerformance", "--topic", topic, *load(50_000, 100), *properties)
    assert "50000 records sent" in printed
    printed = run(
        "ConsumerPerformance", *("--topic", topic, "--num-records", "50000", "--timeout", "60000", "--hide-header")
    )
    assert re.search(r", 50000, ", printed), printed


def test_verifiable_clients_and_group_tools(run, topic, unique):
    group = unique("verifiable")
    run("TopicCommand", "--create", "--topic", topic, "--partitions", "3")
    sent = _events(run("VerifiableProducer", "--topic", topic, "--max-messages", "2000", "--repeating-keys", "50"))
    assert len(sent["producer_send_success"]) == 2000
    assert not sent.get("producer_send_error")
    seen = _events(
        run("VerifiableConsumer", "--topic", topic, "--group-id", group, "--max-messages", "2000", "--verbose")
    )
    values = sorted(int(event["value"]) for event in seen["record_data"])
    assert values == list(range(2000))
    assert seen["offsets_committed"]
    assert all(event["success"] for event in seen["offsets_committed"])

    command = "consumer.group.ConsumerGroupCommand"
    assert group in run(command, "--list").split()
    described = run(command, "--describe", "--group", group)
    lags = re.findall(rf"{group}\s+{topic}\s+(\d)\s+(\d+)\s+(\d+)\s+(\d+)", described)
    assert len(lags) == 3
    assert all((committed, lag) == (end, "0") for _, committed, end, lag in lags)
    reset = run(command, "--reset-offsets", "--to-earliest", "--execute", "--group", group, "--topic", topic)
    assert len(re.findall(rf"{topic}\s+\d\s+0", reset)) == 3
    assert "successful" in run(command, "--delete", "--group", group)


def test_a_java_group_rebalances_when_a_member_joins(cluster, run, topic, unique):
    from concurrent.futures import ThreadPoolExecutor

    group = unique("pair")
    run("TopicCommand", "--create", "--topic", topic, "--partitions", "4")
    options = ("--topic", topic, "--group-id", group, "--max-messages", "4000", "--session-timeout", "6000")
    with ThreadPoolExecutor(2) as both:
        members = [both.submit(run, "VerifiableConsumer", *options) for _ in range(2)]

        def settled():
            shown = run("consumer.group.ConsumerGroupCommand", "--describe", "--group", group, "--members")
            return len(re.findall(rf"{group}\s+\S+\s+\S+\s+\S+\s+2\b", shown)) == 2

        wait_until(settled, seconds=60, what="two members with two partitions each", pause=0.5)
        run("VerifiableProducer", "--topic", topic, "--max-messages", "16000", "--acks", "-1")
        seen = [_events(member.result(120)) for member in members]
    # Each member stops after its own 4000 records, so every partition was read by somebody.
    assert all(sum(event["count"] for event in events["records_consumed"]) >= 4000 for events in seen)


def test_cluster_tools(cluster, run, topic):
    with cluster.connect() as connection:
        connection.create_topic(topic, 2)
        served = connection.api_versions()
    versions = run("BrokerApiVersionsCommand")
    for name in ("Produce(0)", "Fetch(1)", "Metadata(3)", "DescribeTopicPartitions(75)"):
        assert re.search(rf"{re.escape(name)}: \d+( to \d+)? \[usable: \d+\]", versions), name
    status = run("MetadataQuorumCommand", "describe", "--status")
    assert re.search(r"LeaderId:\s+1\b", status)
    assert re.search(r"HighWatermark:\s+\d+", status)
    assert re.search(r"^1\s.*Leader", run("MetadataQuorumCommand", "describe", "--replication"), re.MULTILINE)
    directories = run("LogDirsCommand", "--describe", "--topic-list", topic)
    described = json.loads(next(line for line in directories.splitlines() if line.startswith("{")))
    found = [row["partition"] for row in described["brokers"][0]["logDirs"][0]["partitions"]]
    assert sorted(found) == [f"{topic}-0", f"{topic}-1"]
    features = run("FeatureCommand", "describe")
    assert re.search(r"Feature: metadata.version\s.*FinalizedVersionLevel: 4\.3-IV\d", features), features
    _client_compatibility(run, topic, has_acls=DESCRIBE_ACLS in served)


def _client_compatibility(run, topic, *, has_acls):
    facts = {
        "offsets-for-times-supported": True,
        "cluster-id-supported": True,
        "expect-record-too-large-exception": False,
        "create-topics-supported": True,
        "describe-acls-supported": has_acls,
        "describe-configs-supported": True,
        "idempotent-producer-supported": True,
    }
    options = [part for name, value in facts.items() for part in (f"--{name}", str(value))]
    printed = run("ClientCompatibilityTest", "--topic", topic, "--num-cluster-nodes", "1", *options)
    assert "SUCCESS" in printed


def load(count, size):
    return ("--num-records", str(count), "--record-size", str(size), "--throughput", "-1")


def _events(printed):
    events = {}
    for line in printed.splitlines():
        if line.startswith("{"):
            event = json.loads(line)
            events.setdefault(event["name"], []).append(event)
    return events
