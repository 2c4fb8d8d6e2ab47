"""The words every package shares: identifiers and the contract of replicated machines. Imports nothing of Ottla."""

from ottla.model.ids import TopicIdPartition, TopicPartition, Uuid
from ottla.model.machine import Decision, ReplicatedMachine, Reply

__all__ = ["Decision", "ReplicatedMachine", "Reply", "TopicIdPartition", "TopicPartition", "Uuid"]
