"""`ottla topic`: create, list, describe, delete."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from ottla.cli.options import bootstrap_option, key_values, output_option, run_client
from ottla.cli.output import print_json, print_table, say
from ottla.client import Admin, ConfigValue, ErrorCode, KafkaError, TopicMetadata


@click.group(name="topic", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Create, list, describe and delete topics."""


@command.command()
@click.argument("name")
@click.option("-p", "--partitions", type=click.IntRange(1), help="Partitions.  [default: the broker's num.partitions]")
@click.option("-r", "--replicas", type=click.IntRange(1), help="Replicas.  [default: the broker's]")
@click.option("-c", "--config", metavar="K=V", multiple=True, callback=key_values, help="A configuration; repeatable.")
@click.option("--if-not-exists", is_flag=True, help="Be content if the topic is there already.")
@bootstrap_option
@output_option
def create(
    name: str,
    partitions: int | None,
    replicas: int | None,
    config: dict[str, str],
    *,
    if_not_exists: bool,
    bootstrap: str,
    output: str,
) -> None:
    """Create the topic NAME."""
    run_client(
        _create(
            bootstrap,
            name,
            {"partitions": partitions or -1, "replication_factor": replicas or -1, "config": config},
            if_not_exists=if_not_exists,
            output=output,
        )
    )


@command.command(name="list")
@click.option("--internal", is_flag=True, help="Show Kafka's own topics too.")
@bootstrap_option
@output_option
def list_topics(*, internal: bool, bootstrap: str, output: str) -> None:
    """List topics."""
    topics = run_client(_list(bootstrap, internal=internal))
    if output == "json":
        print_json([_summary(topic) for topic in topics])
    else:
        rows = [(topic.name, len(topic.partitions), _replicas(topic)) for topic in topics]
        print_table(("NAME", "PARTITIONS", "REPLICAS"), rows)


@command.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-a", "--all", "all_configs", is_flag=True, help="Show configurations that are defaults too.")
@bootstrap_option
@output_option
def describe(names: tuple[str, ...], *, all_configs: bool, bootstrap: str, output: str) -> None:
    """Describe topics: partitions, leaders, offsets, configurations."""
    described = run_client(_describe(bootstrap, names))
    shown = [
        (topic, offsets, [one for one in configs if all_configs or not one.is_default])
        for topic, offsets, configs in described
    ]
    if output == "json":
        print_json([_description(*one) for one in shown])
        return
    for index, one in enumerate(shown):
        if index:
            sys.stdout.write("\n")
        _print_description(*one)


@command.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@bootstrap_option
def delete(names: tuple[str, ...], *, yes: bool, bootstrap: str) -> int:
    """Delete topics with all their records. Asks first on a terminal."""
    if not yes and sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm(f"Delete {', '.join(names)} with all records?", abort=True, err=True)
    results = run_client(_delete(bootstrap, names))
    failed = {name: error for name, error in results.items() if error is not None}
    for name, error in failed.items():
        say(f"error: {name}: {error.message or error.code.description}")
    deleted = [name for name in results if name not in failed]
    if deleted:
        say(f"deleted {', '.join(deleted)}")
    return 1 if failed else 0


async def _create(bootstrap: str, name: str, options: dict[str, Any], *, if_not_exists: bool, output: str) -> None:
    async with Admin(bootstrap) as admin:
        try:
            topic = await admin.create_topic(name, **options)
        except KafkaError as error:
            if error.code is ErrorCode.TOPIC_ALREADY_EXISTS and if_not_exists:
                say(f"{name} is there already")
                return
            raise
    if output == "json":
        print_json(
            {
                "name": topic.name,
                "topic_id": str(topic.topic_id),
                "partitions": topic.partitions,
                "replication_factor": topic.replication_factor,
            }
        )
    else:
        say(f"created {topic.name}: {topic.partitions} partitions, {topic.replication_factor} replicas")


async def _list(bootstrap: str, *, internal: bool) -> list[TopicMetadata]:
    async with Admin(bootstrap) as admin:
        return await admin.list_topics(internal=internal)


async def _describe(
    bootstrap: str, names: Sequence[str]
) -> list[tuple[TopicMetadata, dict[int, tuple[int, int]], list[ConfigValue]]]:
    async with Admin(bootstrap) as admin:
        return [
            (topic, await admin.offsets(topic), await admin.describe_config(topic.name))
            for topic in await admin.describe_topics(names)
        ]


async def _delete(bootstrap: str, names: Sequence[str]) -> dict[str, KafkaError | None]:
    async with Admin(bootstrap) as admin:
        return await admin.delete_topics(names)


def _replicas(topic: TopicMetadata) -> int:
    return max((len(partition.replicas) for partition in topic.partitions.values()), default=0)


def _summary(topic: TopicMetadata) -> dict[str, Any]:
    return {
        "name": topic.name,
        "topic_id": str(topic.topic_id),
        "internal": topic.internal,
        "partitions": len(topic.partitions),
        "replication_factor": _replicas(topic),
    }


def _description(
    topic: TopicMetadata, offsets: Mapping[int, tuple[int, int]], configs: Sequence[ConfigValue]
) -> dict[str, Any]:
    return {
        **_summary(topic),
        "partitions": [
            {
                "partition": one.partition,
                "leader": one.leader,
                "leader_epoch": one.leader_epoch,
                "replicas": one.replicas,
                "isr": one.isr,
                "offline": one.offline,
                "start_offset": offsets[one.partition][0],
                "end_offset": offsets[one.partition][1],
            }
            for one in topic.partitions.values()
        ],
        "config": [{"name": one.name, "value": one.value, "default": one.is_default} for one in configs],
    }


def _print_description(
    topic: TopicMetadata, offsets: Mapping[int, tuple[int, int]], configs: Sequence[ConfigValue]
) -> None:
    sys.stdout.write(f"{topic.name}  id {topic.topic_id}\n")
    rows = [
        (
            one.partition,
            one.leader,
            ",".join(map(str, one.replicas)),
            ",".join(map(str, one.isr)),
            *offsets[one.partition],
        )
        for one in topic.partitions.values()
    ]
    print_table(("PARTITION", "LEADER", "REPLICAS", "ISR", "START", "END"), rows)
    if configs:
        print_table(("CONFIG", "VALUE"), [(one.name, "(hidden)" if one.sensitive else one.value) for one in configs])
