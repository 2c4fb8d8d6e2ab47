"""The cluster that a command speaks to: settings under Kafka's names, and clients made of them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct

if TYPE_CHECKING:
    from ottla.client import Admin, Consumer, Producer
    from ottla.client._cluster import Cluster

DEFAULT_BOOTSTRAP: Final = "127.0.0.1:9092"
CLIENT_ID: Final = "ottla-cli"

Kind = Literal["producer", "consumer", "admin"]


class Connection(Struct, frozen=True, kw_only=True):
    """Settings of a client under Kafka's names; ``bootstrap.servers`` is among them."""

    config: Mapping[str, str]

    @property
    def bootstrap(self) -> str:
        return self.config["bootstrap.servers"]

    def check(self) -> None:
        """Raises ``ValueError`` for what no client would take."""
        from ottla.client import parse_bootstrap

        parse_bootstrap(self.bootstrap)
        if len(self.config) > 1:
            self._options("admin")

    def cluster(self) -> "Cluster":
        """Connections and metadata alone."""
        from ottla.client._cluster import Cluster

        options = self._options("admin")
        options.pop("request_timeout_ms", None)
        return Cluster(options.pop("bootstrap_servers"), **options)

    def admin(self) -> "Admin":
        from ottla.client import Admin

        return Admin(**self._options("admin"))

    def consumer(self, **arguments: Any) -> "Consumer":
        """A consumer; what the command line says of it wins over settings."""
        from ottla.client import Consumer

        return Consumer(**(self._options("consumer") | arguments))

    def producer(self, **arguments: Any) -> "Producer":
        """A producer; what the command line says of it wins over settings."""
        from ottla.client import Producer

        return Producer(**(self._options("producer") | arguments))

    def _options(self, kind: Kind) -> dict[str, Any]:
        if len(self.config) == 1:
            # The usual case pays for no table of names.
            return {"bootstrap_servers": self.bootstrap, "client_id": CLIENT_ID}
        from ottla.client import _config

        makers = {
            "producer": _config.producer_options,
            "consumer": _config.consumer_options,
            "admin": _config.admin_options,
        }
        return {"client_id": CLIENT_ID} | makers[kind](_config.applicable(self.config, kind))
