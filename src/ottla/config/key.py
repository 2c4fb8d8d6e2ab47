"""One configuration key: its type, default, rule and what Ottla does with it.

A table is text, two lines a key, so that it reads like the reference page it also is::

    name | type | default | importance | update mode | rule | effect
        What it does.

A line that begins with ``|`` continues the line before it. ``null`` is no default, ``""`` the empty text; ``internal``
after the effect hides a key from descriptions, as Kafka does. Rules are described in ``ottla.config.rules``.
"""

from collections.abc import Iterator
from enum import Enum, IntEnum
from typing import Final, NamedTuple

from ottla.config.rules import check_rule, java_number

Value = bool | int | float | str | tuple[str, ...] | None
"""A parsed value; lists are tuples."""


class ConfigError(Exception):
    """A key that does not exist or a value it cannot take. ``message`` says what is wrong, without its origin."""

    def __init__(self, key: str, message: str, *, origin: str = "", suggestion: str = "") -> None:
        self.key = key
        self.message = message
        self.origin = origin
        self.suggestion = suggestion
        super().__init__(key, message)

    def __str__(self) -> str:
        origin = f"{self.origin}: " if self.origin else ""
        suggestion = f". {self.suggestion}" if self.suggestion else ""
        return f"{origin}{self.message}{suggestion}"


class ConfigType(IntEnum):
    """The types of Kafka's configuration, numbered as DescribeConfigs sends them."""

    UNKNOWN = 0
    """A key only a plugin knows: kept as text and taken as a secret, because nobody can say it is none."""
    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


class UpdateMode(Enum):
    """Where a broker key may be changed while the broker runs."""

    READ_ONLY = "read-only"
    PER_BROKER = "per-broker"
    CLUSTER_WIDE = "cluster-wide"


class Effect(Enum):
    """What Ottla does with a key today."""

    ACTIVE = "active"
    """It works as in Kafka."""
    INERT = "inert"
    """Accepted and reported; there is nothing in Ottla it could tune."""
    PLANNED = "planned"
    """Accepted and reported; the feature is not there yet and its absence breaks no promise."""
    REFUSED = "refused"
    """Any value but the default is an error, because ignoring it would weaken a promise."""


class ConfigKey(NamedTuple):
    """A row of the table. ``default`` is Ottla's, ``kafka_default`` Apache Kafka's."""

    name: str
    type: ConfigType
    default: str | None
    kafka_default: str | None
    importance: str
    update_mode: UpdateMode
    rule: str
    effect: Effect
    internal: bool
    documentation: str

    @property
    def sensitive(self) -> bool:
        """Whether the value must never be shown."""
        return self.type in (ConfigType.PASSWORD, ConfigType.UNKNOWN)

    def parse(self, text: str | None) -> Value:
        """Read ``text`` as this key's type and check it. Raises ``ConfigError``, worded as Kafka words it."""
        value = parse_value(self.name, self.type, text)
        fault = check_rule(self.rule, self.name, value)
        if fault is None and self.effect is Effect.REFUSED and value != parse_value(self.name, self.type, self.default):
            fault = f"{self.name}={self.shown(text)} is not supported yet. {self.documentation}"
        if fault is not None:
            raise ConfigError(self.name, fault)
        return value

    def shown(self, text: str | None) -> str:
        """``text`` as it may appear in a message."""
        return "[hidden]" if self.sensitive else str(text)


class Row(NamedTuple):
    """One row of a table, still as text; ``read_key`` makes a ``ConfigKey`` of it."""

    name: str
    cells: str
    """What follows the name, still in one piece."""
    documentation: str


def iterate_rows(table: str) -> Iterator[Row]:
    """The rows of a table in its order."""
    text = table.strip("\n").replace("\n|", " |").replace("\n    ", "\0")
    for line in text.split("\n"):
        header, _, documentation = line.partition("\0")
        name, _, cells = header.partition(" |")
        yield Row(name, cells, documentation.replace("\0", " "))


def read_key(row: Row, override: str | None = None) -> ConfigKey:
    """The key of a row; ``override`` replaces Kafka's default with Ottla's."""
    config_type, default_text, importance, update_mode, rule, effect = (cell.strip() for cell in row.cells.split("|"))
    kafka_default = {"null": None, '""': ""}.get(default_text, default_text)
    return ConfigKey(
        name=row.name,
        type=ConfigType[config_type.upper()],
        default=kafka_default if override is None else override,
        kafka_default=kafka_default,
        importance=importance.upper(),
        update_mode=UpdateMode(update_mode),
        rule="" if rule == "any" else rule,
        effect=Effect(effect.removesuffix(" internal")),
        internal=effect.endswith(" internal"),
        documentation=row.documentation,
    )


def parse_value(name: str, config_type: ConfigType, text: str | None) -> Value:
    """``text`` as a value of ``config_type``. Raises ``ConfigError``."""
    if text is None:
        return None
    text = text.strip()
    match config_type:
        case ConfigType.BOOLEAN:
            return _parse_boolean(name, text)
        case ConfigType.INT | ConfigType.SHORT | ConfigType.LONG:
            return _parse_integer(name, config_type, text)
        case ConfigType.DOUBLE:
            try:
                return float(text)
            except ValueError:
                raise ConfigError(name, _invalid(name, text, "Not a number of type DOUBLE")) from None
        case ConfigType.LIST:
            # What comes twice counts once, as in Kafka.
            return tuple(dict.fromkeys(part.strip() for part in text.split(","))) if text else ()
        case ConfigType.STRING | ConfigType.CLASS | ConfigType.PASSWORD | ConfigType.UNKNOWN:
            return text


def render_value(config_type: ConfigType, value: Value) -> str | None:
    """A value as Kafka writes it into DescribeConfigs."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case tuple():
            return ",".join(value)
        case float() if config_type is ConfigType.DOUBLE:
            return java_number(value)
        case _:
            return str(value)


_BITS: Final = {ConfigType.SHORT: 16, ConfigType.INT: 32, ConfigType.LONG: 64}


def _parse_boolean(name: str, text: str) -> bool:
    lowered = text.lower()
    if lowered not in ("true", "false"):
        raise ConfigError(name, _invalid(name, text, "Expected value to be either true or false"))
    return lowered == "true"


def _parse_integer(name: str, config_type: ConfigType, text: str) -> int:
    bound = 1 << (_BITS[config_type] - 1)
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20) or not -bound <= int(text) < bound:
        raise ConfigError(name, _invalid(name, text, f"Not a number of type {config_type.name}"))
    return int(text)


def _invalid(name: str, text: str, reason: str) -> str:
    return f"Invalid value {text} for configuration {name}: {reason}"
