"""Listeners: names, addresses and protocols, and what Ottla can serve of them."""

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from ottla.config.key import ConfigError


class Listener(Struct, frozen=True, kw_only=True):
    """An address with its listener's name. An empty ``host`` is every interface; port 0 is any free port."""

    name: str
    host: str
    port: int
    protocol: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name}://{host}:{self.port}"


class Voter(Struct, frozen=True, kw_only=True):
    """A member of the metadata quorum."""

    node_id: int
    host: str
    port: int


def parse_listeners(key: str, addresses: Sequence[str], protocols: Mapping[str, str]) -> tuple[Listener, ...]:
    """``NAME://HOST:PORT`` texts as listeners. Raises ``ConfigError`` for what cannot be served."""
    listeners = tuple(_parse_listener(key, address, protocols) for address in addresses)
    names = [listener.name for listener in listeners]
    if len(set(names)) != len(names):
        raise ConfigError(key, f"Each listener must have a different name, {key}: {','.join(addresses)}")
    return listeners


def parse_protocol_map(text: str) -> dict[str, str]:
    """``NAME:PROTOCOL,...`` as a mapping; names are upper case. Raises ``ConfigError``."""
    key = "listener.security.protocol.map"
    protocols = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, colon, protocol = entry.rpartition(":")
        if not colon or not name or protocol.upper() not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
            raise ConfigError(key, f"{key}: {entry!r} is not of the form NAME:PROTOCOL with one of Kafka's protocols")
        protocols[name.strip().upper()] = protocol.strip().upper()
    return protocols


def parse_voters(texts: Sequence[str]) -> tuple[Voter, ...]:
    """``ID@HOST:PORT`` texts, already checked by their rule."""
    voters = []
    for text in texts:
        node_id, _, address = text.partition("@")
        host, _, port = address.rpartition(":")
        voters.append(Voter(node_id=int(node_id), host=host.strip("[]"), port=int(port)))
    return tuple(voters)


def _parse_listener(key: str, address: str, protocols: Mapping[str, str]) -> Listener:
    match = re.fullmatch(r"([A-Za-z0-9_]+)://(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:/\[\]]*)):(-?[0-9]{1,5})", address)
    port = int(match[4]) if match else -1
    if match is None or not 0 <= port <= 65535:
        raise ConfigError(key, f"{key}: {address!r} is not of the form NAME://HOST:PORT")
    name = match[1].upper()
    protocol = protocols.get(name)
    if protocol is None:
        raise ConfigError(key, f"No security protocol defined for listener {name}")
    if protocol != "PLAINTEXT":
        raise ConfigError(
            key,
            f"{key}: listener {name} asks for {protocol}, which is not there yet; "
            "serving it without encryption or authentication would be unsafe",
        )
    return Listener(name=name, host=match[2] or match[3] or "", port=port, protocol=protocol)
