"""The admin's face: everything a broker's administrative APIs can do, each part loaded when it is first used.

Any broker is asked where any will do: Kafka forwards what its controller decides. Methods for many items return what
became of each, an error being a value (``T | KafkaError``); methods for one raise. Where a group, a partition or a
transactional id is somebody's in particular, that broker is found and followed.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from ottla.client._cluster import Cluster, Recovery, RecoveryStrategy, TopicMetadata, topic_error
from ottla.model import TopicPartition, Uuid
from ottla.wire.errors import KafkaError

if TYPE_CHECKING:
    from ssl import SSLContext

    from ottla.client._admin_cluster import (
        ClusterDescription,
        FeatureDescription,
        LogDirDescription,
        QuorumDescription,
    )
    from ottla.client._admin_configs import ConfigChange, ConfigResource, ConfigValue, ResourceKind
    from ottla.client._admin_groups import GroupDescription, GroupListing
    from ottla.client._admin_security import Acl, AclFilter, QuotaEntity, ScramCredential, ScramMechanism
    from ottla.client._admin_topics import CreatedTopic, ListedOffset, NewTopic, Reassignment
    from ottla.client._admin_transactions import ProducerState, TransactionDescription, TransactionListing
    from ottla.client._offsets import OffsetAndMetadata
    from ottla.client._security import Sasl, Tls

OffsetSpec = Literal["earliest", "latest", "max_timestamp", "earliest_local", "latest_tiered"] | int
"""Where in a partition; a number is a timestamp in milliseconds."""


class Admin:
    """Manages a cluster. Use it as ``async with Admin("host:port") as admin``. Methods raise ``KafkaError``."""

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        *,
        request_timeout_ms: float = 30_000,
        metadata_recovery_strategy: RecoveryStrategy = "rebootstrap",
        metadata_recovery_rebootstrap_trigger_ms: float = 300_000,
        tls: "bool | Tls | SSLContext" = False,
        sasl: "Sasl | None" = None,
        client_id: str = "ottla-admin",
    ) -> None:
        recovery = Recovery.of(metadata_recovery_strategy, metadata_recovery_rebootstrap_trigger_ms)
        self._cluster = Cluster(bootstrap_servers, client_id=client_id, recovery=recovery, tls=tls, sasl=sasl)
        self._timeout_ms = int(request_timeout_ms)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """An admin from Kafka's own names, as ``Producer.from_config``."""
        from ottla.client._config import admin_options

        return cls(**{**admin_options(config), **options})

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Connect. ``async with`` does this."""
        await self._cluster.__aenter__()

    async def close(self) -> None:
        """Close every connection."""
        self._cluster.close()

    # ---- topics ------------------------------------------------------------------------------------------------------

    async def create_topic(
        self,
        name: str,
        *,
        partitions: int = -1,
        replication_factor: int = -1,
        config: Mapping[str, str] | None = None,
        validate_only: bool = False,
    ) -> "CreatedTopic":
        """Create a topic; -1 takes the broker's default."""
        from ottla.client._admin_ask import only
        from ottla.client._admin_topics import NewTopic

        topic = NewTopic(name, partitions, replication_factor, config or {})
        return only(await self.create_topics([topic], validate_only=validate_only), name)

    async def create_topics(
        self, topics: "Iterable[NewTopic]", *, validate_only: bool = False
    ) -> "dict[str, CreatedTopic | KafkaError]":
        """Create topics; what became of each."""
        from ottla.client._admin_topics import create_topics

        return await create_topics(self._cluster, topics, validate_only=validate_only, timeout_ms=self._timeout_ms)

    async def delete_topics(self, names: Iterable[str]) -> dict[str, KafkaError | None]:
        """Delete topics; what went wrong, by name."""
        from ottla.client._admin_topics import delete_topics

        return await delete_topics(self._cluster, names, timeout_ms=self._timeout_ms)

    async def list_topics(self, *, internal: bool = False) -> list[TopicMetadata]:
        """Every topic, by name."""
        await self._cluster.refresh(None)
        topics = [self._cluster.known_topic(name) for name in sorted(self._cluster.topic_names)]
        return [topic for topic in topics if topic is not None and (internal or not topic.internal)]

    async def describe_topics(self, names: Iterable[str]) -> list[TopicMetadata]:
        """These topics; raises ``KafkaError`` for the first that does not exist."""
        wanted = list(names)
        errors = await self._cluster.refresh(wanted)
        for name, code in errors.items():
            raise topic_error(name, code)
        topics = [self._cluster.known_topic(name) for name in wanted]
        return [topic for topic in topics if topic is not None]

    async def create_partitions(
        self,
        counts: Mapping[str, int],
        *,
        assignments: Mapping[str, Sequence[Sequence[int]]] | None = None,
        validate_only: bool = False,
    ) -> dict[str, KafkaError | None]:
        """Give topics more partitions, so many in all. ``assignments``: replicas of the new ones, by topic."""
        from ottla.client._admin_topics import create_partitions

        return await create_partitions(
            self._cluster, counts, assignments=assignments or {}, validate_only=validate_only
        )

    async def delete_records(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int | KafkaError]:
        """Delete the records before an offset (-1: all there are); the first offset then."""
        from ottla.client._admin_topics import delete_records

        return await delete_records(self._cluster, offsets)

    async def list_offsets(
        self, specs: Mapping[TopicPartition, OffsetSpec], *, read_committed: bool = False
    ) -> "dict[TopicPartition, ListedOffset | KafkaError]":
        """Look up offsets by position or time."""
        from ottla.client._admin_topics import list_offsets

        return await list_offsets(self._cluster, specs, read_committed=read_committed)

    async def offsets(self, topic: TopicMetadata) -> dict[int, tuple[int, int]]:
        """The first offset and the one after the last record, by partition."""
        from ottla.client._admin_ask import only

        places = [TopicPartition(topic.name, number) for number in topic.partitions]
        starts = await self.list_offsets(dict.fromkeys(places, "earliest"))
        ends = await self.list_offsets(dict.fromkeys(places, "latest"))
        return {place.partition: (only(starts, place).offset, only(ends, place).offset) for place in places}

    async def elect_leaders(
        self, places: Iterable[TopicPartition] | None = None, *, unclean: bool = False
    ) -> dict[TopicPartition, KafkaError | None]:
        """Let the preferred replica lead, or with ``unclean`` any; ``None``: everywhere it does not."""
        from ottla.client._admin_topics import elect_leaders

        return await elect_leaders(self._cluster, places, unclean=unclean)

    async def alter_reassignments(
        self, replicas: Mapping[TopicPartition, Sequence[int] | None]
    ) -> dict[TopicPartition, KafkaError | None]:
        """Move partitions to these replicas; ``None`` calls a move off."""
        from ottla.client._admin_topics import alter_reassignments

        return await alter_reassignments(self._cluster, replicas)

    async def list_reassignments(
        self, places: Iterable[TopicPartition] | None = None
    ) -> "dict[TopicPartition, Reassignment]":
        """The moves that are under way."""
        from ottla.client._admin_topics import list_reassignments

        return await list_reassignments(self._cluster, places)

    # ---- configurations ----------------------------------------------------------------------------------------------

    async def describe_config(self, topic: str) -> "list[ConfigValue]":
        """The configuration of a topic."""
        from ottla.client._admin_ask import only
        from ottla.client._admin_configs import ConfigResource

        resource = ConfigResource("topic", topic)
        return only(await self.describe_configs([resource]), resource)

    async def describe_configs(
        self,
        resources: "Iterable[ConfigResource]",
        *,
        names: Sequence[str] | None = None,
        documentation: bool = False,
    ) -> "dict[ConfigResource, list[ConfigValue] | KafkaError]":
        """The configurations of resources, all or those with ``names``."""
        from ottla.client._admin_configs import describe_configs

        return await describe_configs(self._cluster, resources, names=names, documentation=documentation)

    async def alter_configs(
        self,
        changes: "Mapping[ConfigResource, Mapping[str, str | ConfigChange | None]]",
        *,
        validate_only: bool = False,
    ) -> "dict[ConfigResource, KafkaError | None]":
        """Set configurations, or with ``None`` go back to the default; what is not named stays as it is."""
        from ottla.client._admin_configs import alter_configs

        return await alter_configs(self._cluster, changes, validate_only=validate_only)

    async def list_config_resources(self, kinds: "Iterable[ResourceKind]" = ()) -> "list[ConfigResource]":
        """What there is to configure, of these kinds or all."""
        from ottla.client._admin_configs import list_config_resources

        return await list_config_resources(self._cluster, kinds)

    # ---- groups ------------------------------------------------------------------------------------------------------

    async def list_groups(self, *, states: Sequence[str] = (), types: Sequence[str] = ()) -> "list[GroupListing]":
        """Every group, or those in these states (``Stable``, ``Empty`` ...) and of these types (``consumer`` ...)."""
        from ottla.client._admin_groups import list_groups

        return await list_groups(self._cluster, states=states, types=types)

    async def describe_groups(self, names: Iterable[str]) -> "dict[str, GroupDescription | KafkaError]":
        """Groups of any kind with their members."""
        from ottla.client._admin_groups import describe_groups

        return await describe_groups(self._cluster, names)

    async def delete_groups(self, names: Iterable[str]) -> dict[str, KafkaError | None]:
        """Delete groups without members."""
        from ottla.client._admin_groups import delete_groups

        return await delete_groups(self._cluster, names)

    async def delete_empty_groups(self) -> list[str]:
        """Delete every group without members; the names of those deleted."""
        names = [group.group_id for group in await self.list_groups() if group.state in ("Empty", "Dead", "")]
        return [name for name, error in (await self.delete_groups(names)).items() if error is None]

    async def group_offsets(
        self, group: str, places: Iterable[TopicPartition] | None = None, *, require_stable: bool = False
    ) -> "dict[TopicPartition, OffsetAndMetadata | KafkaError]":
        """What a group has committed, everywhere or in these partitions; a partition without an offset is left out.

        ``require_stable`` waits for open transactions that commit offsets.
        """
        from ottla.client._admin_groups import group_offsets

        return await group_offsets(self._cluster, group, places, require_stable=require_stable)

    async def alter_group_offsets(
        self, group: str, offsets: "Mapping[TopicPartition, int | OffsetAndMetadata]"
    ) -> dict[TopicPartition, KafkaError | None]:
        """Commit offsets for a group that has no members."""
        from ottla.client._admin_groups import alter_group_offsets

        return await alter_group_offsets(self._cluster, group, offsets)

    async def delete_group_offsets(
        self, group: str, places: Iterable[TopicPartition]
    ) -> dict[TopicPartition, KafkaError | None]:
        """Forget what a group has committed in partitions it is not subscribed to."""
        from ottla.client._admin_groups import delete_group_offsets

        return await delete_group_offsets(self._cluster, group, places)

    async def remove_members(
        self, group: str, *, member_ids: Iterable[str] = (), instance_ids: Iterable[str] = (), reason: str = ""
    ) -> dict[str, KafkaError | None]:
        """Take members out of a classic group, static ones by their instance id."""
        from ottla.client._admin_groups import remove_members

        why = reason or "removed by an administrator"
        return await remove_members(self._cluster, group, list(member_ids), list(instance_ids), why)

    # ---- transactions and producers ----------------------------------------------------------------------------------

    async def list_transactions(
        self,
        *,
        states: Sequence[str] = (),
        producer_ids: Sequence[int] = (),
        open_longer_than_ms: int = -1,
        pattern: str | None = None,
        all_brokers: bool = False,
    ) -> "list[TransactionListing]":
        """Transactional ids, all or those that match.

        Of the brokers that can tell; with ``all_brokers`` one that cannot is an error (``ConnectionError``,
        ``KafkaError``).
        """
        from ottla.client._admin_transactions import list_transactions

        return await list_transactions(
            self._cluster,
            states=states,
            producer_ids=producer_ids,
            duration_ms=open_longer_than_ms,
            pattern=pattern,
            all_brokers=all_brokers,
        )

    async def describe_transactions(
        self, transactional_ids: Iterable[str]
    ) -> "dict[str, TransactionDescription | KafkaError]":
        """Transactional ids with what is open of them."""
        from ottla.client._admin_transactions import describe_transactions

        return await describe_transactions(self._cluster, transactional_ids)

    async def describe_producers(
        self, places: Iterable[TopicPartition]
    ) -> "dict[TopicPartition, list[ProducerState] | KafkaError]":
        """Who has written to partitions, and which transactions are open there."""
        from ottla.client._admin_transactions import describe_producers

        return await describe_producers(self._cluster, places)

    async def abort_transaction(self, place: TopicPartition, start_offset: int) -> None:
        """End a hanging transaction, one its coordinator does not know; ``describe_producers`` shows the offset."""
        from ottla.client._admin_transactions import abort_transaction

        await abort_transaction(self._cluster, place, start_offset)

    async def fence_producers(self, transactional_ids: Iterable[str]) -> dict[str, tuple[int, int] | KafkaError]:
        """Fence the producers that use these ids and abort what they have open; the new producer ids and epochs."""
        from ottla.client._admin_transactions import fence_producers

        return await fence_producers(self._cluster, transactional_ids)

    # ---- the cluster -------------------------------------------------------------------------------------------------

    async def describe_cluster(self, *, fenced: bool = False) -> "ClusterDescription":
        """The cluster with its brokers; ``fenced``: also those that do not serve."""
        from ottla.client._admin_cluster import describe_cluster

        return await describe_cluster(self._cluster, fenced=fenced)

    async def describe_quorum(self) -> "QuorumDescription":
        """Who votes about the metadata, and how far everybody is."""
        from ottla.client._admin_cluster import describe_quorum

        return await describe_quorum(self._cluster)

    async def add_voter(self, node_id: int, directory_id: Uuid, listeners: Mapping[str, tuple[str, int]]) -> None:
        """Let a controller vote; ``listeners``: host and port by the listener's name."""
        from ottla.client._admin_cluster import add_voter

        await add_voter(self._cluster, node_id, directory_id, listeners)

    async def remove_voter(self, node_id: int, directory_id: Uuid) -> None:
        """Take a controller's vote."""
        from ottla.client._admin_cluster import remove_voter

        await remove_voter(self._cluster, node_id, directory_id)

    async def unregister_broker(self, node_id: int) -> None:
        """Forget a broker that will not come back."""
        from ottla.client._admin_cluster import unregister_broker

        await unregister_broker(self._cluster, node_id)

    async def describe_features(self) -> "dict[str, FeatureDescription]":
        """The levels of the cluster's features."""
        from ottla.client._admin_cluster import describe_features

        return await describe_features(self._cluster)

    async def update_features(
        self,
        levels: Mapping[str, int],
        *,
        kind: Literal["upgrade", "safe_downgrade", "unsafe_downgrade"] = "upgrade",
        validate_only: bool = False,
    ) -> dict[str, KafkaError | None]:
        """Raise features to these levels, or with another ``kind`` lower them."""
        from ottla.client._admin_cluster import update_features

        return await update_features(self._cluster, levels, kind=kind, validate_only=validate_only)

    async def describe_log_dirs(
        self, *, brokers: Iterable[int] | None = None, places: Iterable[TopicPartition] | None = None
    ) -> "dict[int, list[LogDirDescription] | KafkaError]":
        """The log directories of brokers with the sizes of what lies there."""
        from ottla.client._admin_cluster import describe_log_dirs

        return await describe_log_dirs(self._cluster, brokers=brokers, places=places)

    async def alter_replica_log_dirs(
        self, broker: int, paths: Mapping[TopicPartition, str]
    ) -> dict[TopicPartition, KafkaError | None]:
        """Move a broker's replicas to other log directories of it."""
        from ottla.client._admin_cluster import alter_replica_log_dirs

        return await alter_replica_log_dirs(self._cluster, broker, paths)

    # ---- who may do what ---------------------------------------------------------------------------------------------

    async def create_acls(self, acls: "Iterable[Acl]") -> "dict[Acl, KafkaError | None]":
        """Add rules."""
        from ottla.client._admin_security import create_acls

        return await create_acls(self._cluster, acls)

    async def describe_acls(self, wanted: "AclFilter | None" = None) -> "list[Acl]":
        """The rules that match, or all."""
        from ottla.client._admin_security import AclFilter, describe_acls

        return await describe_acls(self._cluster, AclFilter() if wanted is None else wanted)

    async def delete_acls(self, filters: "Sequence[AclFilter]") -> "list[list[Acl | KafkaError] | KafkaError]":
        """Delete the rules that match; those deleted, by filter."""
        from ottla.client._admin_security import delete_acls

        return await delete_acls(self._cluster, filters)

    async def describe_quotas(
        self, components: Mapping[str, str | None] | None = None, *, strict: bool = False
    ) -> "dict[QuotaEntity, dict[str, float]]":
        """Quotas by entity. ``components``: kind (``user``, ``client-id``, ``ip``) to a name, an empty one for the
        default, ``None`` for any; ``strict``: entities of just these kinds.
        """
        from ottla.client._admin_security import describe_quotas

        return await describe_quotas(self._cluster, components or {}, strict=strict)

    async def alter_quotas(
        self, changes: "Mapping[QuotaEntity, Mapping[str, float | None]]", *, validate_only: bool = False
    ) -> "dict[QuotaEntity, KafkaError | None]":
        """Set quotas, or with ``None`` remove them: ``{(("user", "alice"),): {"producer_byte_rate": 1e6}}``."""
        from ottla.client._admin_security import alter_quotas

        return await alter_quotas(self._cluster, changes, validate_only=validate_only)

    async def describe_users(
        self, names: Iterable[str] | None = None
    ) -> "dict[str, list[ScramCredential] | KafkaError]":
        """Users with SCRAM credentials, all or these."""
        from ottla.client._admin_security import describe_users

        return await describe_users(self._cluster, names)

    async def alter_users(
        self, passwords: "Mapping[tuple[str, ScramMechanism], str | None]", *, iterations: int = 8192
    ) -> dict[str, KafkaError | None]:
        """Set passwords by user and mechanism, or with ``None`` remove them. Passwords stay here: hashes are sent."""
        from ottla.client._admin_security import alter_users

        return await alter_users(self._cluster, passwords, iterations=iterations)
