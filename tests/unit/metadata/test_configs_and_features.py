"""Altering configurations and feature levels."""

from typing import Any

import pytest

from ottla.metadata.controller.configs import ConfigChange, ConfigOperation
from ottla.metadata.controller.features import FeatureUpdate, UpgradeType
from ottla.metadata.controller.topics import CreateTopics, NewTopic
from ottla.metadata.image import CLUSTER_DEFAULT, ConfigResource, ResourceType
from ottla.wire.errors import ErrorCode

TOPIC = ConfigResource(ResourceType.TOPIC, "t")


@pytest.fixture
def cluster(one: Any) -> Any:
    one.take(
        one.controller.create_topics(
            CreateTopics(topics=(NewTopic(name="t", configs=(("cleanup.policy", "compact"), ("retention.ms", "7"))),))
        )
    )
    return one


def alter(cluster: Any, resource: ConfigResource, *changes: tuple[Any, ...], **options: Any) -> Any:
    wanted = [ConfigChange(name=name, operation=operation, value=value) for name, operation, value in changes]
    ((_, problem),) = cluster.take(cluster.controller.incremental_alter_configs([(resource, wanted)], **options))
    return problem


def test_one_key_at_a_time(cluster: Any) -> None:
    operation = ConfigOperation
    assert alter(cluster, TOPIC, ("cleanup.policy", operation.APPEND, "delete,compact")) is None
    assert cluster.image.topic_config("t") == {"cleanup.policy": "compact,delete", "retention.ms": "7"}
    assert (
        alter(
            cluster, TOPIC, ("cleanup.policy", operation.SUBTRACT, "compact"), ("retention.ms", operation.DELETE, None)
        )
        is None
    )
    assert cluster.image.topic_config("t") == {"cleanup.policy": "delete"}
    start = len(cluster.log)
    assert alter(cluster, TOPIC, ("cleanup.policy", operation.SET, "delete")) is None
    assert cluster.log[start:] == [], "what does not change is not written"
    assert alter(cluster, TOPIC, ("retention.ms", operation.SET, "9"), validate_only=True) is None
    assert cluster.log[start:] == []


def test_a_list_starts_from_its_default(one: Any) -> None:
    one.take(one.controller.create_topics(CreateTopics(topics=(NewTopic(name="t"),))))
    assert alter(one, TOPIC, ("cleanup.policy", ConfigOperation.APPEND, "compact")) is None
    assert one.image.topic_config("t") == {"cleanup.policy": "delete,compact"}


def test_the_whole_configuration_at_once(cluster: Any) -> None:
    ((_, problem),) = cluster.take(cluster.controller.legacy_alter_configs([(TOPIC, {"retention.ms": "8"})]))
    assert problem is None
    assert cluster.image.topic_config("t") == {"retention.ms": "8"}


@pytest.mark.parametrize(
    ("resource", "change", "code", "words"),
    [
        (TOPIC, ("retention.ms", ConfigOperation.APPEND, "1"), ErrorCode.INVALID_CONFIG, "type is not LIST"),
        (TOPIC, ("retention.ms", ConfigOperation.SET, "-7"), ErrorCode.INVALID_CONFIG, "retention.ms"),
        (TOPIC, ("nope", ConfigOperation.SET, "1"), ErrorCode.INVALID_CONFIG, "nope"),
        (TOPIC, ("retention.ms", ConfigOperation.SET, "9" * 40000), ErrorCode.INVALID_CONFIG, "32767"),
        (
            ConfigResource(ResourceType.TOPIC, "gone"),
            ("retention.ms", ConfigOperation.SET, "1"),
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            "gone",
        ),
        (
            ConfigResource(ResourceType.TOPIC, ""),
            ("retention.ms", ConfigOperation.SET, "1"),
            ErrorCode.INVALID_REQUEST,
            "Default topic resources are not allowed.",
        ),
        (
            ConfigResource(ResourceType.BROKER, "x"),
            ("log.retention.ms", ConfigOperation.SET, "1"),
            ErrorCode.INVALID_REQUEST,
            "base 10",
        ),
        (
            ConfigResource(ResourceType.BROKER, "7"),
            ("log.retention.ms", ConfigOperation.SET, "1"),
            ErrorCode.BROKER_ID_NOT_REGISTERED,
            "7",
        ),
        (
            ConfigResource(ResourceType.GROUP, "g"),
            ("consumer.session.timeout.ms", ConfigOperation.SET, "5"),
            ErrorCode.INVALID_CONFIG,
            "must be greater than or equal to group.consumer.min.session.timeout.ms",
        ),
        (
            CLUSTER_DEFAULT,
            ("min.insync.replicas", ConfigOperation.DELETE, None),
            ErrorCode.INVALID_CONFIG,
            "cannot be removed while ELR is enabled",
        ),
        (
            ConfigResource(ResourceType.BROKER, "1"),
            ("min.insync.replicas", ConfigOperation.SET, "2"),
            ErrorCode.INVALID_CONFIG,
            "cannot be altered while ELR is enabled",
        ),
        (ConfigResource(1, "x"), ("a", ConfigOperation.SET, "b"), ErrorCode.INVALID_REQUEST, "Unknown resource type"),
        (
            ConfigResource(ResourceType.CLIENT_METRICS, "m"),
            ("interval.ms", ConfigOperation.SET, "5"),
            ErrorCode.INVALID_REQUEST,
            "interval must be between 100 and 3600000",
        ),
    ],
)
def test_refusals(cluster: Any, resource: ConfigResource, change: Any, code: ErrorCode, words: str) -> None:
    start = len(cluster.log)
    problem = alter(cluster, resource, change)
    assert problem.code is code
    assert words in problem.message
    assert cluster.log[start:] == []


def test_settings_in_force(cluster: Any) -> None:
    state = cluster.controller.state
    assert state.min_isr("t") == 1
    assert alter(cluster, CLUSTER_DEFAULT, ("min.insync.replicas", ConfigOperation.SET, "2")) is None
    assert state.min_isr("t") == 2
    assert alter(cluster, TOPIC, ("min.insync.replicas", ConfigOperation.SET, "3")) is None
    assert state.min_isr("t") == 3


def update(cluster: Any, name: str, level: int, upgrade_type: int = UpgradeType.UPGRADE) -> Any:
    updates = [FeatureUpdate(name=name, level=level, upgrade_type=upgrade_type)]
    return cluster.take(cluster.controller.update_features(updates))


def test_features_go_down_and_up(cluster: Any) -> None:
    refused = update(cluster, "group.version", 0)
    assert refused.code is ErrorCode.INVALID_UPDATE_VERSION
    assert "without setting the upgrade type" in refused.message
    assert update(cluster, "group.version", 0, UpgradeType.SAFE_DOWNGRADE) is None
    assert "group.version" not in cluster.image.features
    assert update(cluster, "group.version", 1) is None
    assert cluster.image.features["group.version"] == 1


@pytest.mark.parametrize(("name", "level"), [("group.version", 9), ("metadata.version", 99), ("nope", 1)])
def test_levels_nobody_can_run_are_refused(cluster: Any, name: str, level: int) -> None:
    assert update(cluster, name, level).code is ErrorCode.INVALID_UPDATE_VERSION
