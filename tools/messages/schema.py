"""Kafka's message schemas as values.

Two sources give the same values: the JSON resources inside Kafka's jars (``extract``) and the condensed file that is
checked in next to this module (``load``). The condensed file holds facts only: names, types, versions, defaults.
"""

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).with_name("schemas.json")
NEVER = 32767
"""The version that "N+" ends at; as a flexible version it means "never"."""

_JARS = (
    "kafka-clients",
    "kafka-metadata",
    "kafka-group-coordinator",
    "kafka-transaction-coordinator",
    "kafka-share-coordinator",
    "kafka-storage",
    "kafka-raft",
)
_MESSAGE_FACTS = ("name", "type", "apiKey", "listeners", "validVersions", "flexibleVersions", "latestVersionUnstable")
_FIELD_FACTS = (
    "name",
    "type",
    "versions",
    "nullableVersions",
    "taggedVersions",
    "tag",
    "default",
    "ignorable",
    "mapKey",
    "entityType",
    "flexibleVersions",
    "zeroCopy",
)


@dataclass(frozen=True, slots=True)
class Versions:
    """A closed interval of versions; empty when ``lowest > highest``."""

    lowest: int
    highest: int

    @classmethod
    def parse(cls, text: str | None) -> "Versions":
        if text is None or text == "none":
            return cls(1, 0)
        if text.endswith("+"):
            return cls(int(text[:-1]), NEVER)
        lowest, _, highest = text.partition("-")
        return cls(int(lowest), int(highest or lowest))

    def __bool__(self) -> bool:
        return self.lowest <= self.highest

    def __contains__(self, version: int) -> bool:
        return self.lowest <= version <= self.highest

    def __and__(self, other: "Versions") -> "Versions":
        return Versions(max(self.lowest, other.lowest), min(self.highest, other.highest))

    def covers(self, other: "Versions") -> bool:
        return not other or (self.lowest <= other.lowest and other.highest <= self.highest)

    def hull(self, other: "Versions") -> "Versions":
        if not self or not other:
            return self or other
        return Versions(min(self.lowest, other.lowest), max(self.highest, other.highest))


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field. ``element`` is set for arrays and names the element's type; ``default`` is a Python value."""

    name: str
    type: str
    versions: Versions
    nullable: Versions
    tagged: Versions
    tag: int
    default: object
    ignorable: bool
    always_classic: bool
    """Keeps its length prefix of fixed size in flexible versions too."""

    @property
    def python_name(self) -> str:
        return snake(self.name)

    @property
    def element(self) -> str | None:
        return self.type[2:] if self.type.startswith("[]") else None

    @property
    def regular(self) -> Versions:
        """The versions in which the field stands in its place, not among the tagged fields."""
        if not self.tagged:
            return self.versions
        assert self.tagged.highest == self.versions.highest, self.name
        return Versions(self.versions.lowest, self.tagged.lowest - 1)

    @property
    def struct(self) -> str | None:
        """The name of the struct this field holds, alone or as an array."""
        inner = self.element or self.type
        return inner if inner[0].isupper() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StructSpec:
    name: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message; ``structs`` are the nested ones, inner before outer."""

    name: str
    kind: str
    api_key: int
    listeners: tuple[str, ...]
    valid: Versions
    flexible_from: int
    latest_unstable: bool
    body: StructSpec
    structs: dict[str, StructSpec]

    @property
    def module(self) -> str:
        return snake(self.name)


def snake(name: str) -> str:
    name = name.replace("KRaft", "Kraft")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def load(path: Path = SCHEMAS) -> list[Message]:
    return [parse_message(facts) for facts in json.loads(path.read_text())]


def extract(jars: Path) -> str:
    """The condensed schemas of the jars in a directory: one message a line, sorted by name."""
    found: dict[str, dict[str, Any]] = {}
    for text in _schema_texts(jars):
        facts = _condense(_parse_commented_json(text))
        if found.setdefault(facts["name"], facts) != facts:
            raise ValueError(f"two schemas are called {facts['name']}")
    lines = [json.dumps(found[name], separators=(", ", ": ")) for name in sorted(found)]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _schema_texts(jars: Path) -> Iterator[str]:
    for prefix in _JARS:
        paths = [path for path in jars.glob(f"{prefix}-[0-9]*.jar") if "-test" not in path.name]
        if len(paths) != 1:
            raise ValueError(f"want exactly one {prefix} jar in {jars}, found {len(paths)}")
        with zipfile.ZipFile(paths[0]) as archive:
            for name in sorted(archive.namelist()):
                if re.fullmatch(r"(common/)?(message|metadata)/\w+\.json", name):
                    yield archive.read(name).decode()


def _parse_commented_json(text: str) -> Any:
    return json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))


def _condense(schema: dict[str, Any]) -> dict[str, Any]:
    facts = {key: schema[key] for key in _MESSAGE_FACTS if key in schema}
    facts["fields"] = [_condense_field(field) for field in schema.get("fields", [])]
    if schema.get("commonStructs"):
        facts["commonStructs"] = [
            {"name": common["name"], "fields": [_condense_field(field) for field in common["fields"]]}
            for common in schema["commonStructs"]
        ]
    return facts


def _condense_field(field: dict[str, Any]) -> dict[str, Any]:
    facts = {key: field[key] for key in _FIELD_FACTS if key in field}
    if "fields" in field:
        facts["fields"] = [_condense_field(inner) for inner in field["fields"]]
    return facts


def parse_message(facts: dict[str, Any]) -> Message:
    structs: dict[str, StructSpec] = {}
    for common in facts.get("commonStructs", ()):
        _parse_struct(common["name"], common["fields"], structs)
    body = StructSpec(name=facts["name"], fields=_parse_fields(facts["fields"], structs))
    flexible = Versions.parse(facts.get("flexibleVersions"))
    return Message(
        name=facts["name"],
        kind=facts["type"],
        api_key=facts.get("apiKey", -1),
        listeners=tuple(facts.get("listeners", ())),
        valid=Versions.parse(facts["validVersions"]),
        flexible_from=flexible.lowest if flexible else NEVER,
        latest_unstable=bool(facts.get("latestVersionUnstable", False)),
        body=body,
        structs=_inner_first(body, structs),
    )


def _parse_struct(name: str, fields: list[dict[str, Any]], structs: dict[str, StructSpec]) -> None:
    if name in structs:
        raise ValueError(f"two structs of one message are called {name}")
    structs[name] = StructSpec(name=name, fields=_parse_fields(fields, structs))


def _parse_fields(fields: list[dict[str, Any]], structs: dict[str, StructSpec]) -> tuple[Field, ...]:
    for field in fields:
        if "fields" in field:
            _parse_struct(field["type"].removeprefix("[]"), field["fields"], structs)
    return tuple(_parse_field(field) for field in fields)


def _parse_field(facts: dict[str, Any]) -> Field:
    tagged = Versions.parse(facts.get("taggedVersions"))
    return Field(
        name=facts["name"],
        type=facts["type"],
        versions=Versions.parse(facts["versions"]) if "versions" in facts else tagged,
        nullable=Versions.parse(facts.get("nullableVersions")),
        tagged=tagged,
        tag=facts.get("tag", -1),
        default=_default(facts),
        ignorable=bool(facts.get("ignorable", False)),
        always_classic=facts.get("flexibleVersions") == "none",
    )


def _default(facts: dict[str, Any]) -> object:
    """The schema's default as a Python value; structs give ``...`` (a fresh instance), arrays an empty tuple.

    Kafka's own generator takes the JSON null for "no default given"; null as a default is the string "null".
    """
    kind: str = facts["type"]
    raw = facts.get("default") or ""
    if raw == "null" or (kind == "records" and "nullableVersions" in facts):
        return None
    if kind.startswith("[]"):
        return ()
    if kind[0].isupper():
        return ...
    if kind == "string":
        return raw
    return _scalar_default(kind, str(raw))


def _scalar_default(kind: str, raw: str) -> object:
    match kind:
        case "bool":
            return raw.lower() == "true"
        case "float64":
            return float(raw or 0)
        case "bytes" | "records" | "uuid":
            assert raw == "", raw
            return b""
        case _:
            return int(raw or "0", 0)


def _inner_first(body: StructSpec, structs: dict[str, StructSpec]) -> dict[str, StructSpec]:
    ordered: dict[str, StructSpec] = {}

    def visit(spec: StructSpec) -> None:
        for field in spec.fields:
            if field.struct is not None and field.struct not in ordered:
                visit(structs[field.struct])
                ordered[field.struct] = structs[field.struct]

    visit(body)
    return ordered
