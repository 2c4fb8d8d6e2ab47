"""Lines of Python, laid out as the formatter would."""

import keyword
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from messages.layout import SIZES, Atom
from messages.schema import Field

WIDTH = 120
_TAKEN = frozenset(
    {"buf", "pos", "end", "version", "n", "tags", "unknown", "items", "add", "item", "out", "w", "fields", "tagged"}
    | {"raw", "tag", "stop", "cls", "self", "message", "len", "list", "str", "bytes", "range", "tuple", "field"}
)
"""What generated functions use themselves; a field of such a name gets an underscore behind its local."""


class Source:
    """A growing module: its lines, and the names it has used from the codec and from ``struct``."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.codec_names: set[str] = set()
        self.packs: dict[str, str] = {}
        self._depth = 0

    def add(self, line: str = "") -> None:
        self.lines.append("    " * self._depth + line if line else "")
        assert len(self.lines[-1]) <= WIDTH, self.lines[-1]

    def fits(self, line: str) -> bool:
        return 4 * self._depth + len(line) <= WIDTH

    @contextmanager
    def block(self, head: str = "") -> Iterator[None]:
        if head:
            self.add(head)
        self._depth += 1
        yield
        self._depth -= 1

    def listed(self, head: str, parts: Sequence[str], tail: str) -> None:
        """``head`` + comma separated parts + ``tail``, one part a line where the line would be too long."""
        line = head + ", ".join(parts) + tail
        if self.fits(line):
            self.add(line)
            return
        with self.block(head):
            for part in parts:
                self.add(part + ",")
        self.add(tail)

    def any_of(self, tests: Sequence[str]) -> None:
        """``if a or b:``"""
        line = f"if {' or '.join(tests)}:"
        if self.fits(line):
            self.add(line)
            return
        with self.block("if ("):
            for index, test in enumerate(tests):
                self.add(f"or {test}" if index else test)
        self.add("):")

    def codec(self, name: str) -> str:
        self.codec_names.add(name)
        return name

    def pack(self, codes: Sequence[str], verb: str) -> str:
        """The name of the bound ``pack`` or ``unpack_from`` of the run with these codes."""
        text = "".join(codes)
        name = f"{'pack' if verb == 'pack' else 'unpack'}_{text.replace('?', 't')}"
        self.packs[name] = f'{name} = Struct(">{text}").{verb}'
        return name


def local(field: Field) -> str:
    name = field.python_name
    return f"{name}_" if name in _TAKEN or keyword.iskeyword(name) else name


def size_of(atoms: Sequence[Atom]) -> int:
    return sum(SIZES[atom.code] for atom in atoms)


def default_value(field: Field) -> str:
    """The default as an expression that makes a fresh value."""
    if field.default is None:
        return "None"
    if field.default is ...:
        return f"{field.type}()"
    if field.element is not None:
        return "[]"
    if field.type == "uuid":
        return "ZERO_UUID"
    return literal(field.default)


def literal(value: object) -> str:
    text = repr(value)
    return f'"{text[1:-1]}"' if isinstance(value, str) else text.replace("b''", 'b""')


def differs(field: Field, subject: str) -> str:
    """The test that ``subject`` is not the field's default."""
    if field.default is None:
        return f"{subject} is not None"
    if field.element is not None:
        return f"({subject} is None or {subject})" if field.nullable else subject
    if field.type == "bool":
        return f"not {subject}" if field.default else subject
    return f"{subject} != {default_value(field)}"


def bare(test: str) -> str:
    """A test as it stands alone behind ``if``."""
    return test[1:-1] if test.startswith("(") and test.endswith(")") else test


def annotation(field: Field) -> str:
    inner = field.element or field.type
    kind = {"string": "str", "bool": "bool", "bytes": "bytes", "uuid": "Uuid", "float64": "float"}.get(inner)
    if field.type == "records":
        return "bytes | memoryview | Region | None"
    kind = kind or (inner if field.struct else "int")
    if field.element is not None:
        kind = f"list[{kind}]"
    return f"{kind} | None" if field.nullable else kind
