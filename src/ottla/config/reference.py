"""The reference page of the configuration, written from the table."""

from collections.abc import Iterable

from ottla.config.definitions import broker_keys, group_keys, topic_keys
from ottla.config.key import ConfigKey, Effect
from ottla.config.tables.ottla import DIFFERENCES

_INTRODUCTION = """\
# Configuration

This page is generated from the table in `src/ottla/config` by `tools/generate_config_docs.py`.

Ottla takes Apache Kafka's names, types and defaults (version 4.3.1); its own keys begin with `ottla.`. Settings come,
the later winning, from a file (`ottla start --config FILE`: a Java `server.properties`, or TOML where it ends in
`.toml`; nested tables are joined with dots) and from `-c KEY=VALUE`. An unknown key or a value that does not fit is an
error that names the place it came from.

Status of a key:

- **active**: works as in Kafka.
- **inert**: accepted and reported; Ottla has nothing it could tune.
- **planned**: accepted and reported; the feature is not there yet, and its absence breaks no promise.
- **refused**: any value but the default is an error, because ignoring it would be unsafe.

"Changed" tells where a broker key may be changed while the broker runs: nowhere (read-only), for one broker
(per-broker), or also for all of them (cluster-wide).
"""


def markdown() -> str:
    """The whole page."""
    parts = [
        _INTRODUCTION,
        "\n## Defaults that differ from Apache Kafka's\n\n",
        _differences(),
        "\n## Ottla's own keys\n\n",
        _table(key for key in broker_keys() if key.name.startswith("ottla.")),
        "\n## Topic keys\n\n",
        _table(topic_keys()),
        "\n## Broker keys\n\n",
        _table(key for key in broker_keys() if not key.name.startswith("ottla.")),
        "\n## Group keys\n\n",
        _table(group_keys()),
    ]
    return "".join(parts)


def _differences() -> str:
    kafka = {key.name: key.kafka_default for key in broker_keys()}
    rows = [
        f"| `{one.name}` | {_value(kafka[one.name])} | {_value(one.default)} | {one.reason} |\n" for one in DIFFERENCES
    ]
    return "| key | Kafka | Ottla | why |\n|---|---|---|---|\n" + "".join(rows)


def _table(keys: Iterable[ConfigKey]) -> str:
    rows = [
        f"| `{key.name}` | {key.type.name.lower()} | {_value(key.default)} | {key.update_mode.value} | "
        f"{_effect(key.effect)} | {_escape(key.documentation)}{_allowed(key.rule)} |\n"
        for key in keys
        if not key.internal
    ]
    return "| key | type | default | changed | status | meaning |\n|---|---|---|---|---|---|\n" + "".join(rows)


def _effect(effect: Effect) -> str:
    return effect.value


def _value(text: str | None) -> str:
    if text is None:
        return "-"
    return f"`{text}`" if text else '`""`'


def _allowed(rule: str) -> str:
    kind, _, words = rule.partition(" ")
    if ".." in kind:
        low, _, high = kind.partition("..")
        return f" {low} to {high}." if high else f" At least {low}."
    match kind:
        case "one" | "nocase":
            return f" One of {words.replace(' ', ', ')}."
        case "any-of" | "some-of":
            return f" Of {words.replace(' ', ', ')}."
        case _:
            return ""


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")
