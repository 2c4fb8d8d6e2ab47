"""Topics that the broker itself asks the controller for: those clients mention first, and the internal ones."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from ottla.broker.internal_topics import InternalTopic, consumer_offsets, transaction_state
from ottla.broker.raft_driver import Command
from ottla.config.broker import GroupsConfig, TransactionsConfig
from ottla.metadata.controller.topics import CreateTopics, NewTopic, TopicCreation
from ottla.metadata.image import ClusterImage
from ottla.model.internal_topics import CONSUMER_OFFSETS, TRANSACTION_STATE
from ottla.wire.errors import ErrorCode, KafkaError


class TopicCreator(Struct, frozen=True, kw_only=True):
    """``submit`` puts a command before the active controller."""

    submit: Callable[[Command], Awaitable[Any]]
    image: Callable[[], ClusterImage]
    groups: GroupsConfig
    transactions: TransactionsConfig

    async def create(self, name: str, partitions: int, replication_factor: int, configs: Mapping[str, str]) -> None:
        """Create one topic; it is in the image when this returns. Raises ``KafkaError``."""
        topic = NewTopic(
            name=name, partitions=partitions, replication_factor=replication_factor, configs=tuple(configs.items())
        )
        (creation,) = await self._create((topic,))
        if creation.problem is not None:
            raise KafkaError(creation.problem.code, creation.problem.message)

    async def create_missing(self, names: Sequence[str]) -> dict[str, ErrorCode]:
        """Create the topics a client named, with default settings; what went wrong with which.

        One that somebody else created meanwhile is no error.
        """
        topics = tuple(self._default_topic(name) for name in dict.fromkeys(names))
        try:
            creations = await self._create(topics)
        except KafkaError as error:
            return dict.fromkeys(names, error.code)
        return {
            creation.name: creation.problem.code
            for creation in creations
            if creation.problem is not None and creation.problem.code is not ErrorCode.TOPIC_ALREADY_EXISTS
        }

    def _default_topic(self, name: str) -> NewTopic:
        brokers = sum(1 for _ in self.image().active_brokers())
        if name == CONSUMER_OFFSETS:
            return _new_topic(consumer_offsets(self.groups, brokers))
        if name == TRANSACTION_STATE:
            return _new_topic(transaction_state(self.transactions, brokers))
        return NewTopic(name=name)

    async def _create(self, topics: tuple[NewTopic, ...]) -> list[TopicCreation]:
        command = CreateTopics(topics=topics, describe_configs=False)
        creations: list[TopicCreation] = await self.submit(lambda controller, _: controller.create_topics(command))
        return creations


def _new_topic(topic: InternalTopic) -> NewTopic:
    return NewTopic(
        name=topic.name,
        partitions=topic.partitions,
        replication_factor=topic.replication_factor,
        configs=tuple(topic.configs.items()),
    )
