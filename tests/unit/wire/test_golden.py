"""Apache Kafka's own classes wrote these frames (tools/golden/GoldenFrames.java): we read and write the same bytes."""

import base64
import json
from collections.abc import Callable
from typing import Any

from ottla.model import Uuid
from ottla.wire import decode, encode


def test_frames_come_out_as_java_wrote_them(
    message_name: str, load: Callable[[str], Any], golden: dict[str, list[Any]]
) -> None:
    cls = load(message_name)
    entries = golden[message_name]
    assert {entry.version for entry in entries} == set(range(cls.LOWEST_VERSION, cls.HIGHEST_VERSION + 1))
    for entry in entries:
        message = decode(cls, entry.frame, entry.version)
        assert encode(message, entry.version) == entry.frame, entry.version


def test_values_land_in_the_fields_java_names(
    message_name: str, load: Callable[[str], Any], golden: dict[str, list[Any]], schemas: dict[str, Any]
) -> None:
    said = [entry for entry in golden[message_name] if entry.json]
    assert said
    for entry in said:
        message = decode(load(message_name), entry.frame, entry.version)
        schema = schemas[message_name]
        check_struct(schema, schema.body, message, json.loads(entry.json))


def check_struct(schema: Any, spec: Any, ours: Any, java: dict[str, Any]) -> None:
    """Java leaves out tagged fields that hold their default."""
    fields = {field.name[0].lower() + field.name[1:]: field for field in spec.fields}
    for key, value in java.items():
        check_value(schema, fields[key], getattr(ours, fields[key].python_name), value)


def check_value(schema: Any, field: Any, ours: Any, java: Any) -> None:
    if java is None or ours is None:
        assert ours is java, field.name
    elif field.element is not None:
        assert len(ours) == len(java), field.name
        for mine, other in zip(ours, java, strict=True):
            check_item(schema, field, mine, other)
    else:
        check_item(schema, field, ours, java)


def check_item(schema: Any, field: Any, ours: Any, java: Any) -> None:
    if field.struct:
        check_struct(schema, schema.structs[field.struct], ours, java)
    elif isinstance(ours, Uuid):
        assert str(ours) == java, field.name
    elif field.type == "records":
        assert java == "", "Java's converter leaves records out"
    elif isinstance(ours, bytes):
        assert ours == base64.b64decode(java), field.name
    else:
        assert ours == java, field.name
