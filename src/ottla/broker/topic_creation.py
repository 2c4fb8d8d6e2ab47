"""Topics that the broker itself asks the controller for: those clients mention first, and the internal ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ottla.broker.raft_driver import RaftDriver
from ottla.metadata.controller.topics import CreateTopics, NewTopic
from ottla.metadata.controller.topics import TopicCreation as Outcome
from ottla.wire.errors import ErrorCode, KafkaError


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicCreation:
    """What it created is in the image, and its partitions are open, when the caller hears of it."""

    driver: RaftDriver

    async def create(self, name: str, partitions: int, replication_factor: int, configs: Mapping[str, str]) -> None:
        """Create one topic. Raises ``KafkaError``."""
        topic = NewTopic(
            name=name, partitions=partitions, replication_factor=replication_factor, configs=tuple(configs.items())
        )
        (outcome,) = await self._create((topic,))
        if outcome.problem is not None:
            raise KafkaError(outcome.problem.code, outcome.problem.message)

    async def create_missing(self, names: Sequence[str]) -> dict[str, ErrorCode]:
        """Create the topics a client named, with default settings; what went wrong with which.

        One that somebody else created meanwhile is no error.
        """
        topics = tuple(NewTopic(name=name) for name in dict.fromkeys(names))
        try:
            outcomes = await self._create(topics)
        except KafkaError as error:
            return dict.fromkeys(names, error.code)
        return {
            outcome.name: outcome.problem.code
            for outcome in outcomes
            if outcome.problem is not None and outcome.problem.code is not ErrorCode.TOPIC_ALREADY_EXISTS
        }

    async def _create(self, topics: tuple[NewTopic, ...]) -> list[Outcome]:
        command = CreateTopics(topics=topics, describe_configs=False)
        outcomes: list[Outcome] = await self.driver.submit(lambda controller, _: controller.create_topics(command))
        return outcomes
