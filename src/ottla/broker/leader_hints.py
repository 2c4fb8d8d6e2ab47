"""Who leads a partition, for the answers that send a client on to its leader (KIP-951)."""

from collections.abc import Callable, Iterable

from msgspec import Struct

from ottla.metadata.image import ClusterImage
from ottla.model import Uuid
from ottla.wire.errors import ErrorCode

LEADER_ERRORS = frozenset((ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH))


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where a broker listens, for clients of one listener."""

    node_id: int
    host: str
    port: int
    rack: str | None


class LeaderHints(Struct, frozen=True, kw_only=True):
    """Reads the current image; -1 stands for "nobody known"."""

    image: Callable[[], ClusterImage]

    def leader(self, topic: str, topic_id: Uuid, partition: int) -> tuple[int, int]:
        """Leader id and leader epoch of a partition named by id, or by name where the id is zero."""
        image = self.image()
        known = image.topics.get(topic) if topic_id == Uuid.ZERO else image.topics_by_id.get(topic_id)
        if known is None or not 0 <= partition < len(known.partitions):
            return -1, -1
        found = known.partitions[partition]
        return found.leader, found.leader_epoch

    def endpoints(self, node_ids: Iterable[int], listener_name: str) -> list[Endpoint]:
        brokers = self.image().brokers
        found = []
        for node_id in node_ids:
            broker = brokers.get(node_id)
            endpoint = broker.endpoint(listener_name) if broker is not None else None
            if broker is not None and endpoint is not None:
                found.append(Endpoint(node_id=node_id, host=endpoint.host, port=endpoint.port, rack=broker.rack))
        return found
