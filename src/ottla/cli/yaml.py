"""YAML 1.2 for what commands print: block style, plain strings only where nothing else could be meant."""

import json
import re
from typing import Any, Final

_PLAIN: Final = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*\Z")
_NOT_TEXT: Final = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))


def to_yaml(value: Any) -> str:
    """A document of builtins."""
    if isinstance(value, dict | list) and value:
        return "\n".join(_lines(value)) + "\n"
    return _scalar(value) + "\n"


def _lines(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in _entry(f"{_scalar(str(key))}:", item)]
    return [line for item in value for line in _item(item)]


def _entry(head: str, item: Any) -> list[str]:
    if isinstance(item, dict | list) and item:
        return [head, *(f"  {line}" for line in _lines(item))]
    return [f"{head} {_scalar(item)}"]


def _item(item: Any) -> list[str]:
    if isinstance(item, dict | list) and item:
        first, *rest = _lines(item)
        return [f"- {first}", *(f"  {line}" for line in rest)]
    return [f"- {_scalar(item)}"]


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = _PLAIN.match(value) is not None and value.lower() not in _NOT_TEXT
        return value if plain else json.dumps(value)
    return json.dumps(value)
