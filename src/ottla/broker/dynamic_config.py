"""The configuration of a running broker: what it was started with, under what the metadata says since (KIP-226).

Owns ``current``. Parts that take changes at run time subscribe, and are told on the loop, before the answer to whoever
made the change. Settings the metadata holds but this release cannot use are reported and passed over: a broker must
start whatever was written, so that it can be corrected.
"""

from collections.abc import Callable

from ottla.config.broker import BrokerConfig
from ottla.config.describe import ConfigLayers
from ottla.config.dynamic import in_force
from ottla.config.key import ConfigError
from ottla.metadata.delta import ImageDelta
from ottla.metadata.image import CLUSTER_DEFAULT, ClusterImage, ConfigResource, ResourceType
from ottla.runtime.telemetry import get_logger

log = get_logger(__name__)


class DynamicConfig:
    """Make one with what the broker was started with, and let it follow the image."""

    def __init__(self, static: BrokerConfig) -> None:
        self.current = static
        self._static = static
        self._own = ConfigResource(ResourceType.BROKER, str(static.node_id))
        self._subscribers: list[Callable[[BrokerConfig], None]] = []

    def subscribe(self, change: Callable[[BrokerConfig], None]) -> None:
        """Call ``change`` with the configuration now, and with every one to come."""
        self._subscribers.append(change)
        change(self.current)

    def on_image(self, delta: ImageDelta, image: ClusterImage) -> None:
        if CLUSTER_DEFAULT not in delta.changed_configs and self._own not in delta.changed_configs:
            return
        found = self._parsed(image)
        if found != self.current:
            self.current = found
            for change in self._subscribers:
                change(found)

    def _parsed(self, image: ClusterImage) -> BrokerConfig:
        cluster, broker = dict(image.config(CLUSTER_DEFAULT)), dict(image.config(self._own))
        while cluster or broker:
            layers = ConfigLayers(static=self._static.properties, cluster=cluster, broker=broker)
            try:
                return BrokerConfig.parse(in_force(layers))
            except ConfigError as error:
                log.error("a dynamic setting cannot be used", key=error.key, reason=error.message)
                if broker.pop(error.key, None) is None and cluster.pop(error.key, None) is None:
                    # Not one that is dynamic, but what others make of it.
                    return self.current
        return self._static
