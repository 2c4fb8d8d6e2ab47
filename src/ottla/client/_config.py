"""Kafka's own names for a client's settings, Java's and librdkafka's, as the arguments of our classes.

One table: a name, the argument it becomes, how its text is read. Names that mean something only to another
implementation (buffers of sockets, logs, metrics) are accepted where leaving them out changes nothing a program could
observe. A name nobody knows is refused with the nearest one that exists.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

from ottla.client._errors import ConfigError
from ottla.client._security import OAuthBearer, Plain, Sasl, ScramSha256, ScramSha512, Tls

Read = Callable[[Any], Any]


class _Key(NamedTuple):
    """``argument`` of ``None``: accepted, without effect."""

    argument: str | None
    read: Read


def _text(value: Any) -> str:
    return str(value)


def _whole(value: Any) -> int:
    return int(value)


def _number(value: Any) -> float:
    return float(value)


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise ValueError(f"{value!r} is neither true nor false")


def _names(value: Any) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else list(value)


def _acks(value: Any) -> Any:
    text = str(value).strip().lower()
    if text in ("all", "-1"):
        return "all"
    if text in ("0", "1"):
        return int(text)
    raise ValueError(f"{value!r} is not all, 0 or 1")


def _offset_reset(value: Any) -> str:
    known = {"smallest": "earliest", "beginning": "earliest", "largest": "latest", "end": "latest", "error": "none"}
    text = str(value).strip().lower()
    return known.get(text, text)


def _callable(value: Any) -> Any:
    if callable(value):
        return value
    raise ValueError("a callable is needed; classes are named in Java only")


def _partitioner(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    java = {
        "RoundRobinPartitioner": "round_robin",
        "DefaultPartitioner": "default",
        "UniformStickyPartitioner": "sticky",
    }
    return java.get(value.rpartition(".")[2], value)


def _assignors(value: Any) -> list[Any]:
    """Names, or Java's classes by their last part."""
    java = {
        "RangeAssignor": "range",
        "RoundRobinAssignor": "roundrobin",
        "StickyAssignor": "sticky",
        "CooperativeStickyAssignor": "cooperative-sticky",
    }
    return [java.get(str(name).rpartition(".")[2], name) for name in _names(value)]


def _keys(argument: str | None, read: Read, *names: str) -> dict[str, _Key]:
    return {name: _Key(argument, read) for name in names}


_IGNORED: Final = (
    *("send.buffer.bytes", "receive.buffer.bytes", "socket.send.buffer.bytes", "socket.receive.buffer.bytes"),
    *("socket.keepalive.enable", "socket.nagle.disable", "connections.max.idle.ms", "client.dns.lookup"),
    *("log.connection.close", "log_level", "log.queue", "log.thread.name", "debug", "statistics.interval.ms"),
    *("metrics.num.samples", "metrics.recording.level", "metrics.sample.window.ms", "metric.reporters"),
    *("auto.include.jmx.reporter", "enable.metrics.push", "api.version.request", "broker.version.fallback"),
    *("api.version.fallback.ms", "topic.metadata.refresh.interval.ms", "topic.metadata.refresh.sparse"),
    *("metadata.max.idle.ms",),
    *(
        "reconnect.backoff.ms",
        "reconnect.backoff.max.ms",
        "message.copy.max.bytes",
        "queue.buffering.backpressure.threshold",
    ),
)

_COMMON: Final[dict[str, _Key]] = {
    **_keys("bootstrap_servers", _names, "bootstrap.servers", "metadata.broker.list"),
    **_keys("client_id", _text, "client.id"),
    **_keys("request_timeout_ms", _number, "request.timeout.ms", "socket.timeout.ms"),
    **_keys("metadata_recovery_strategy", lambda value: str(value).lower(), "metadata.recovery.strategy"),
    **_keys("metadata_recovery_rebootstrap_trigger_ms", _number, "metadata.recovery.rebootstrap.trigger.ms"),
    **dict.fromkeys(_IGNORED, _Key(None, _text)),
}
_METADATA_AGE: Final = _keys("metadata_max_age_ms", _number, "metadata.max.age.ms")
_SECURITY: Final = frozenset(
    {
        "security.protocol",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.username",
        "sasl.password",
        "sasl.jaas.config",
        "sasl.oauthbearer.token",
        "oauth_cb",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.endpoint.identification.algorithm",
        "enable.ssl.certificate.verification",
        "ssl.truststore.type",
        "ssl.truststore.location",
        "ssl.truststore.certificates",
        "ssl.keystore.type",
        "ssl.keystore.location",
        "ssl.keystore.key",
        "ssl.keystore.certificate.chain",
    }
)

_PRODUCER: Final[dict[str, _Key]] = {
    **_COMMON,
    **_METADATA_AGE,
    **_keys("acks", _acks, "acks", "request.required.acks"),
    **_keys("compression", _text, "compression.type", "compression.codec"),
    **_keys(
        "compression_level",
        lambda value: None if int(value) == -1 else int(value),
        "compression.level",
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.zstd.level",
    ),
    **_keys("linger_ms", _number, "linger.ms", "queue.buffering.max.ms"),
    **_keys("batch_size", _whole, "batch.size"),
    **_keys("buffer_memory", _whole, "buffer.memory"),
    **_keys("buffer_memory", lambda value: int(value) * 1024, "queue.buffering.max.kbytes"),
    **_keys(None, _whole, "queue.buffering.max.messages", "batch.num.messages", "sticky.partitioning.linger.ms"),
    **_keys("max_block_ms", _number, "max.block.ms"),
    **_keys("max_request_size", _whole, "max.request.size", "message.max.bytes"),
    **_keys(
        "max_in_flight",
        _whole,
        "max.in.flight.requests.per.connection",
        "max.in.flight",
    ),
    **_keys("idempotent", _flag, "enable.idempotence"),
    **_keys("delivery_timeout_ms", _number, "delivery.timeout.ms", "message.timeout.ms"),
    **_keys(None, _whole, "retries", "message.send.max.retries"),
    **_keys("retry_backoff_ms", _number, "retry.backoff.ms"),
    **_keys("retry_backoff_max_ms", _number, "retry.backoff.max.ms"),
    **_keys("partitioner", _partitioner, "partitioner", "partitioner.class"),
    **_keys("adaptive_partitioning", _flag, "partitioner.adaptive.partitioning.enable"),
    **_keys(None, _number, "partitioner.availability.timeout.ms"),
    **_keys("transactional_id", _text, "transactional.id"),
    **_keys("transaction_timeout_ms", _whole, "transaction.timeout.ms"),
    **_keys("key_serializer", _callable, "key.serializer"),
    **_keys("value_serializer", _callable, "value.serializer"),
    **_keys("interceptors", list, "interceptor.classes"),
    **_keys("create_topics", _flag, "allow.auto.create.topics"),
}

_CONSUMER: Final[dict[str, _Key]] = {
    **_COMMON,
    **_METADATA_AGE,
    **_keys("group", _text, "group.id"),
    **_keys("group_protocol", lambda value: str(value).lower(), "group.protocol"),
    **_keys("group_instance_id", _text, "group.instance.id"),
    **_keys("group_remote_assignor", _text, "group.remote.assignor"),
    **_keys("auto_offset_reset", _offset_reset, "auto.offset.reset"),
    **_keys("enable_auto_commit", _flag, "enable.auto.commit"),
    **_keys("auto_commit_interval_ms", _number, "auto.commit.interval.ms"),
    **_keys("session_timeout_ms", _number, "session.timeout.ms"),
    **_keys("heartbeat_interval_ms", _number, "heartbeat.interval.ms"),
    **_keys("max_poll_interval_ms", _number, "max.poll.interval.ms"),
    **_keys("max_poll_records", _whole, "max.poll.records"),
    **_keys("isolation_level", _text, "isolation.level"),
    **_keys("fetch_min_bytes", _whole, "fetch.min.bytes"),
    **_keys("fetch_max_bytes", _whole, "fetch.max.bytes"),
    **_keys("fetch_max_wait_ms", _whole, "fetch.max.wait.ms", "fetch.wait.max.ms"),
    **_keys("max_partition_fetch_bytes", _whole, "max.partition.fetch.bytes", "fetch.message.max.bytes"),
    **_keys("prefetch_bytes", lambda value: int(value) * 1024, "queued.max.messages.kbytes"),
    **_keys(None, _whole, "queued.min.messages"),
    **_keys("assignors", _assignors, "partition.assignment.strategy"),
    **_keys("check_crcs", _flag, "check.crcs"),
    **_keys("client_rack", _text, "client.rack"),
    **_keys("key_deserializer", _callable, "key.deserializer"),
    **_keys("value_deserializer", _callable, "value.deserializer"),
    **_keys("interceptors", list, "interceptor.classes"),
    **_keys("exclude_internal_topics", _flag, "exclude.internal.topics"),
    **_keys("default_api_timeout_ms", _number, "default.api.timeout.ms"),
    **_keys(None, _flag, "allow.auto.create.topics", "enable.partition.eof", "enable.auto.offset.store"),
    **_keys(None, _number, "retry.backoff.ms", "retry.backoff.max.ms"),
}

_ADMIN: Final[dict[str, _Key]] = {
    **_COMMON,
    **_keys(None, _number, "retry.backoff.ms", "retry.backoff.max.ms", "metadata.max.age.ms", "retries"),
    **_keys(None, _number, "default.api.timeout.ms"),
}


def producer_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``Producer``. Raises ``ConfigError``."""
    if _flag_of(config, "partitioner.ignore.keys"):
        config = {**config, "partitioner": "sticky"}
    options = _options(config, _PRODUCER | {"partitioner.ignore.keys": _Key(None, _flag)}, "producer")
    # Java's default for a caller that asks for less than all: no idempotence.
    if "idempotent" not in options and options.get("acks", "all") != "all":
        options["idempotent"] = False
    return options


def consumer_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``Consumer``. Raises ``ConfigError``."""
    return _options(config, _CONSUMER, "consumer")


def admin_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``Admin``. Raises ``ConfigError``."""
    return _options(config, _ADMIN, "admin")


def applicable(config: Mapping[str, Any], kind: Literal["producer", "consumer", "admin"]) -> dict[str, Any]:
    """What of a configuration for several kinds of client concerns one of them. A name that none knows is kept, so
    that it is refused.
    """
    table = {"producer": _PRODUCER, "consumer": _CONSUMER, "admin": _ADMIN}[kind]
    others = (_PRODUCER.keys() | _CONSUMER.keys() | _ADMIN.keys()) - table.keys()
    return {name: value for name, value in config.items() if name not in others}


def _options(config: Mapping[str, Any], table: Mapping[str, _Key], kind: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in config.items():
        if name in _SECURITY:
            continue
        key = table.get(name)
        if key is None:
            raise ConfigError(_unknown(name, table, kind))
        try:
            read = key.read(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{name}={value!r}: {error}") from None
        if key.argument is not None:
            options[key.argument] = read
    if "bootstrap_servers" not in options:
        raise ConfigError("bootstrap.servers is missing")
    return options | _security_options(config)


def _unknown(name: str, table: Mapping[str, _Key], kind: str) -> str:
    if name in (_PRODUCER.keys() | _CONSUMER.keys() | _ADMIN.keys()):
        return f"{name} means nothing to a {kind}"
    near = difflib.get_close_matches(name, [*table, *_SECURITY], 1, 0.6)
    return f"nobody knows {name}" + (f"; did you mean {near[0]}?" if near else "")


def _flag_of(config: Mapping[str, Any], name: str) -> bool:
    return name in config and _flag(config[name])


def _security_options(config: Mapping[str, Any]) -> dict[str, Any]:
    protocol = str(config.get("security.protocol", "PLAINTEXT")).upper()
    if protocol not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
        raise ConfigError(f"security.protocol={protocol}: there are PLAINTEXT, SSL, SASL_PLAINTEXT and SASL_SSL")
    options: dict[str, Any] = {}
    if protocol.endswith("SSL"):
        options["tls"] = _tls(config)
    if protocol.startswith("SASL"):
        options["sasl"] = _sasl(config)
    return options


def _tls(config: Mapping[str, Any]) -> Tls:
    for name in ("ssl.truststore.type", "ssl.keystore.type"):
        if str(config.get(name, "PEM")).upper() != "PEM":
            raise ConfigError(f"{name}={config[name]}: only PEM is read; `keytool` and `openssl` convert to it")
    chain = "\n".join(
        str(config[name]) for name in ("ssl.keystore.key", "ssl.keystore.certificate.chain") if name in config
    )
    # Java's PEM keystore holds key and certificates in one file.
    certificate = config.get("ssl.certificate.location") or config.get("ssl.keystore.location")
    return Tls(
        ca_file=config.get("ssl.ca.location") or config.get("ssl.truststore.location"),
        ca_data=config.get("ssl.ca.pem") or config.get("ssl.truststore.certificates"),
        cert_file=certificate,
        key_file=config.get("ssl.key.location"),
        key_password=config.get("ssl.key.password"),
        cert_chain_and_key=chain or None,
        check_hostname=str(config.get("ssl.endpoint.identification.algorithm", "https")).lower() == "https",
        verify=_flag(config.get("enable.ssl.certificate.verification", True)),
    )


def _sasl(config: Mapping[str, Any]) -> Sasl:
    mechanism = str(config.get("sasl.mechanism") or config.get("sasl.mechanisms") or "").upper()
    if mechanism == "OAUTHBEARER":
        token = config.get("sasl.oauthbearer.token")
        given = config.get("oauth_cb")
        if token is not None:
            return OAuthBearer(lambda: str(token))
        if callable(given):
            return OAuthBearer(lambda: _bearer_of(given("")))
        raise ConfigError("OAUTHBEARER needs sasl.oauthbearer.token, or oauth_cb, a callable that returns a token")
    kinds: dict[str, Callable[[str, str], Sasl]] = {
        "PLAIN": Plain,
        "SCRAM-SHA-256": ScramSha256,
        "SCRAM-SHA-512": ScramSha512,
    }
    kind = kinds.get(mechanism)
    if kind is None:
        raise ConfigError(f"sasl.mechanism={mechanism or None}: there are {', '.join(kinds)} and OAUTHBEARER")
    username, password = _credentials(config)
    return kind(username, password)


def _bearer_of(answer: Any) -> str:
    """confluent-kafka's callback returns the token with its expiry."""
    return str(answer[0] if isinstance(answer, tuple) else answer)


def _credentials(config: Mapping[str, Any]) -> tuple[str, str]:
    if "sasl.username" in config and "sasl.password" in config:
        return str(config["sasl.username"]), str(config["sasl.password"])
    jaas = dict(re.findall(r'(username|password)\s*=\s*"((?:[^"\\]|\\.)*)"', str(config.get("sasl.jaas.config", ""))))
    if len(jaas) == 2:
        return tuple(re.sub(r"\\(.)", r"\1", jaas[name]) for name in ("username", "password"))  # type: ignore[return-value]
    raise ConfigError("sasl.username and sasl.password are missing, or username and password in sasl.jaas.config")
