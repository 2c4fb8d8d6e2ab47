"""Reading settings from text: Java properties, TOML, ``key=value`` on a command line. Later sources win.

The caller reads the files; this module only knows their forms.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ottla.config.key import ConfigError


class Settings:
    """Settings gathered in order of rising precedence, each with the place it came from."""

    __slots__ = ("origins", "values")

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.origins: dict[str, str] = {}

    def add(self, values: Mapping[str, str], origin: str) -> None:
        """Add one source; its values replace those added before."""
        self.values.update(values)
        self.origins.update(dict.fromkeys(values, origin))

    def add_file(self, text: str, name: str) -> None:
        """Add a file's text: TOML if it is called ``*.toml``, else Java properties."""
        self.add(parse_toml(text, name) if name.endswith(".toml") else parse_properties(text), name)

    def add_assignments(self, assignments: Iterable[str]) -> None:
        """Add ``key=value`` arguments of a command line."""
        self.add(parse_assignments(assignments), "command line")


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """``["num.partitions=3"]`` as a mapping. Raises ``ConfigError`` where there is no ``=`` or no key."""
    values = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name.strip():
            raise ConfigError(assignment, f"{assignment!r} is not of the form key=value", origin="command line")
        values[name.strip()] = value.strip()
    return values


def parse_toml(text: str, name: str = "TOML") -> dict[str, str]:
    """A TOML document as settings: nested tables are joined with dots, arrays become lists. Raises ``ConfigError``."""
    import tomllib  # noqa: PLC0415 - a start without a file does not need it

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(name, f"not valid TOML: {error}", origin=name) from None
    values: dict[str, str] = {}
    _flatten(document, "", values, name)
    return values


def parse_properties(text: str) -> dict[str, str]:
    """A Java properties file as settings: comments, continued lines, escapes, ``=``, ``:`` or a space after the key."""
    values = {}
    for line in _logical_lines(text):
        name, value = _split_property(line)
        values[_unescape(name)] = _unescape(value)
    return values


_BLANKS: Final = " \t\f"
_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def _flatten(table: Mapping[str, Any], prefix: str, values: dict[str, str], name: str) -> None:
    for key, value in table.items():
        full = f"{prefix}{key}"
        match value:
            case dict():
                _flatten(value, f"{full}.", values, name)
            case list() if not any(isinstance(part, dict | list) for part in value):
                values[full] = ",".join(_scalar(part) for part in value)
            case bool() | int() | float() | str():
                values[full] = _scalar(value)
            case _:
                raise ConfigError(full, f"{full}: a configuration cannot hold {value!r}", origin=name)


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _logical_lines(text: str) -> Iterable[str]:
    """Lines without comments, an odd number of backslashes at the end joining the next one."""
    continued = ""
    pending = False
    for raw in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        line = raw.lstrip(_BLANKS)
        if not pending and (not line or line[0] in "#!"):
            continue
        backslashes = len(line) - len(line.rstrip("\\"))
        pending = backslashes % 2 == 1
        continued += line[:-1] if pending else line
        if not pending:
            yield continued
            continued = ""
    if continued:
        yield continued


def _split_property(line: str) -> tuple[str, str]:
    position = 0
    while position < len(line) and line[position] not in f"=:{_BLANKS}":
        position += 2 if line[position] == "\\" else 1
    rest = line[position:].lstrip(_BLANKS)
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(_BLANKS)
    return line[:position], rest


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    parts = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character != "\\" or position == len(text):
            parts.append(character)
            continue
        escaped = text[position]
        position += 1
        if escaped == "u":
            digits = text[position : position + 4]
            try:
                parts.append(chr(int(digits, 16)))
            except ValueError:
                raise ConfigError(text, f"malformed \\uXXXX escape in {text!r}") from None
            position += 4
        else:
            parts.append(_ESCAPES.get(escaped, escaped))
    return "".join(parts)
