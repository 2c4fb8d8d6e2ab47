"""What ``-o help`` prints: the shape of a command's JSON, read from the struct it shows."""

from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

_NAMES: Final = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null", Any: "any"}


def describe(shape: Any) -> str:
    """A type as indented JSON with the names of types for values."""
    return _of(shape, "")


def _of(shape: Any, indent: str) -> str:
    origin, arguments = get_origin(shape), get_args(shape)
    if origin in (Union, UnionType):
        return " | ".join(_of(one, indent) for one in arguments)
    if origin is Literal:
        return " | ".join(f'"{one}"' for one in arguments)
    if origin in (list, tuple):
        return f"[{_of(arguments[0], indent)}, ...]"
    if origin is dict:
        return f"{{string: {_of(arguments[1], indent)}, ...}}"
    if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
        inner = indent + "  "
        hints = get_type_hints(shape)
        fields = [f'{inner}"{name}": {_of(hints[name], inner)}' for name in shape.__struct_fields__]
        return "{\n" + ",\n".join(fields) + f"\n{indent}}}"
    return _NAMES.get(shape, "string")
