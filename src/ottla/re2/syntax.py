"""The syntax of RE2, read into a program: Perl's without what takes backtracking.

What RE2 refuses is refused in its words. Bounds beyond RE2's: ``REGEX_LENGTH_MAX`` characters, ``NESTING_MAX`` groups
within each other, and what ``matcher`` says of states.
"""

from functools import lru_cache
from string import digits
from typing import Final

from ottla.re2.characters import (
    PERL,
    POSIX,
    WORD,
    Range,
    Test,
    all_but_newline,
    any_of,
    between,
    everything,
    folded,
    in_ranges,
    negated,
    unicode_class,
)
from ottla.re2.matcher import Assertion, Matcher, Node, Program

REGEX_LENGTH_MAX: Final = 4_096
NESTING_MAX: Final = 100
REPEAT_MAX: Final = 1_000
CACHED_MATCHERS: Final = 64

_ESCAPES: Final = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class InvalidRegex(ValueError):
    """Not an expression, or beyond a bound; says why in RE2's words."""


@lru_cache(CACHED_MATCHERS)
def compile_regex(regex: str) -> Matcher:
    """A test for whole texts. Raises ``InvalidRegex``."""
    if len(regex) > REGEX_LENGTH_MAX:
        raise InvalidRegex(f"longer than {REGEX_LENGTH_MAX} characters")
    node = _Parser(regex).parse()
    try:
        return Matcher(Program(node))
    except OverflowError as error:
        raise InvalidRegex(str(error)) from error


class _Parser:
    """One expression, read from the left."""

    __slots__ = ("_at", "_depth", "_flags", "_names", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._flags: frozenset[str] = frozenset()
        """``i``: case does not count; ``m``: anchors hold at lines too; ``s``: a dot is a newline too."""
        self._names: dict[str, None] = {}

    def parse(self) -> Node:
        node = self._alternatives()
        if self._at < len(self._text):
            raise InvalidRegex("unexpected )")
        return node

    def _alternatives(self) -> Node:
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else Node.any_of(branches)

    def _sequence(self) -> Node:
        items: list[Node] = []
        after_repeat = False
        while self._at < len(self._text) and self._peek() not in "|)":
            bounds = self._repetition()
            if bounds is None:
                # A brace that stands for itself may not be repeated: in re2j it has been an operator for a moment.
                after_repeat = self._peek() == "{"
                items += self._item()
                continue
            if after_repeat:
                raise InvalidRegex("invalid nested repetition operator")
            if not items:
                raise InvalidRegex("missing argument to repetition operator")
            items[-1] = Node.repeated(items[-1], *bounds)
            after_repeat = True
        return items[0] if len(items) == 1 else Node.sequence(items)

    # -- repetition

    def _repetition(self) -> tuple[int, int | None] | None:
        """Bounds of the operator that stands here, if one does. Lazy and greedy match the same names."""
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self._peek())
        if simple is not None:
            self._at += 1
            self._take("?")
            return simple
        if self._peek() != "{":
            return None
        start = self._at
        bounds = self._counts()
        if bounds is None:
            self._at = start
            return None
        self._take("?")
        return bounds

    def _counts(self) -> tuple[int, int | None] | None:
        """``{n}``, ``{n,}`` or ``{n,m}``; anything else is a literal brace."""
        self._at += 1
        lowest = self._number()
        if lowest is None:
            return None
        highest: int | None = lowest
        if self._take(","):
            highest = None
            if self._peek() != "}":
                highest = self._number()
                if highest is None:
                    return None
        if not self._take("}"):
            return None
        if lowest > REPEAT_MAX or (highest is not None and not lowest <= highest <= REPEAT_MAX):
            raise InvalidRegex("invalid repeat count")
        return lowest, highest

    def _number(self) -> int | None:
        start = self._at
        while self._peek() and self._peek() in digits:
            self._at += 1
        text = self._text[start : self._at]
        if not text or (len(text) > 1 and text[0] == "0"):
            return None
        return int(text[:9])

    # -- items

    def _item(self) -> list[Node]:
        char = self._peek()
        match char:
            case "(":
                return self._group()
            case "[":
                return [self._bracket()]
            case "^":
                self._at += 1
                return [Node.asserted(Assertion.LINE_BEGIN if "m" in self._flags else Assertion.BEGIN)]
            case "$":
                self._at += 1
                return [Node.asserted(Assertion.LINE_END if "m" in self._flags else Assertion.END)]
            case ".":
                self._at += 1
                return [Node.one_of(everything if "s" in self._flags else all_but_newline)]
            case "\\":
                return self._escaped()
        self._at += 1
        return [self._literal(char)]

    def _literal(self, char: str) -> Node:
        return Node.one_of(self._folded(between(char, char)))

    def _folded(self, test: Test) -> Test:
        return folded(test) if "i" in self._flags else test

    def _group(self) -> list[Node]:
        flags = self._flags
        self._at += 1
        if self._take("?") and not self._group_head():
            return []
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise InvalidRegex(f"more than {NESTING_MAX} groups within each other")
        node = self._alternatives()
        if not self._take(")"):
            raise InvalidRegex("missing closing )")
        self._depth -= 1
        self._flags = flags
        return [node]

    def _group_head(self) -> bool:
        """What stands behind ``(?``; False where that was all: flags for the rest of the group around it."""
        for prefix in ("P<", "<"):
            if self._text.startswith(prefix, self._at):
                self._capture_name(self._at + len(prefix))
                return True
        flags, sign, saw = self._flags, True, False
        while self._at < len(self._text):
            char = self._peek()
            self._at += 1
            if char in "imsU":
                flags = flags | {char} if sign else flags - {char}
                saw = True
            elif char == "-" and sign:
                sign = saw = False
            elif char in ":)" and (sign or saw):
                self._flags = flags
                return char == ":"
            else:
                break
        raise InvalidRegex("invalid or unsupported Perl syntax")

    def _capture_name(self, start: int) -> None:
        end = self._text.find(">", start)
        name = self._text[start : max(end, start)]
        if end < 0 or not name or not all(char in WORD for char in name):
            raise InvalidRegex("invalid named capture")
        if name in self._names:
            raise InvalidRegex("duplicate capture group name")
        self._names[name] = None
        self._at = end + 1

    def _escaped(self) -> list[Node]:
        following = self._text[self._at + 1 : self._at + 2]
        assertion = {
            "A": Assertion.BEGIN,
            "z": Assertion.END,
            "b": Assertion.WORD_EDGE,
            "B": Assertion.NO_WORD_EDGE,
        }.get(following)
        if assertion is not None:
            self._at += 2
            return [Node.asserted(assertion)]
        if following == "Q":
            return self._quoted()
        named = self._class_escape()
        if named is not None:
            return [Node.one_of(named)]
        return [self._literal(self._escape())]

    def _quoted(self) -> list[Node]:
        start = self._at + 2
        end = self._text.find("\\E", start)
        text = self._text[start:] if end < 0 else self._text[start:end]
        self._at = len(self._text) if end < 0 else end + 2
        return [self._literal(char) for char in text]

    def _escape(self) -> str:
        """One escaped character."""
        self._at += 1
        if self._at >= len(self._text):
            raise InvalidRegex("trailing backslash at end of expression")
        char = self._peek()
        self._at += 1
        if char in _ESCAPES:
            return _ESCAPES[char]
        if char == "x":
            return self._hexadecimal()
        if char in "01234567":
            octal = char
            while len(octal) < 3 and self._peek() and self._peek() in "01234567":
                octal += self._peek()
                self._at += 1
            if char == "0" or len(octal) > 1:
                return chr(int(octal, 8))
        if char.isascii() and char.isalnum():
            raise InvalidRegex("invalid escape sequence")
        return char

    def _hexadecimal(self) -> str:
        if self._take("{"):
            end = self._text.find("}", self._at)
            text = self._text[self._at : max(end, self._at)]
            self._at = end + 1
        else:
            text = self._text[self._at : self._at + 2]
            self._at += 2
            text = text if len(text) == 2 else ""
        if not text or not all(char in "0123456789abcdefABCDEF" for char in text) or int(text, 16) > 0x10FFFF:
            raise InvalidRegex("invalid escape sequence")
        return chr(int(text, 16))

    # -- classes

    def _class_escape(self) -> Test | None:
        """``\\d``, ``\\W``, ``\\pL``, ``\\P{Greek}`` and the like, if one stands here."""
        letter = self._text[self._at + 1 : self._at + 2]
        if letter.lower() in PERL:
            self._at += 2
            return _signed(self._folded(PERL[letter.lower()]), negative=letter.isupper())
        if letter in ("p", "P"):
            self._at += 2
            return self._unicode_class(negative=letter == "P")
        return None

    def _unicode_class(self, *, negative: bool) -> Test:
        name = self._peek()
        self._at += 1
        if name == "{":
            end = self._text.find("}", self._at)
            name = self._text[self._at : max(end, self._at)]
            self._at = end + 1
        if name.startswith("^"):
            name, negative = name[1:], not negative
        members = unicode_class(name, folds="i" in self._flags)
        if members is None:
            raise InvalidRegex("invalid character class range")
        return _signed(members, negative=negative)

    def _bracket(self) -> Node:
        self._at += 1
        negative = self._take("^")
        ranges: list[Range] = []
        named: list[Test] = []
        while not (ranges or named) or self._peek() != "]":
            item = self._class_item()
            if isinstance(item, tuple):
                ranges.append(item)
            else:
                named.append(item)
        self._at += 1
        members = [self._folded(in_ranges(ranges)), *named] if ranges else named
        return Node.one_of(_signed(any_of(members), negative=negative))

    def _class_item(self) -> Test | Range:
        if self._text.startswith("[:", self._at):
            end = self._text.find(":]", self._at)
            if end >= 0:
                name = self._text[self._at + 2 : end]
                self._at = end + 2
                return self._posix_class(name)
        if self._peek() == "\\":
            named = self._class_escape()
            if named is not None:
                return named
        low = high = self._class_char()
        if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
            self._at += 1
            high = self._class_char()
            if high < low:
                raise InvalidRegex("invalid character class range")
        return low, high

    def _posix_class(self, name: str) -> Test:
        members = POSIX.get(name.removeprefix("^"))
        if members is None:
            raise InvalidRegex("invalid character class range")
        return _signed(self._folded(members), negative=name.startswith("^"))

    def _class_char(self) -> str:
        if self._at >= len(self._text):
            raise InvalidRegex("missing closing ]")
        if self._peek() == "\\":
            return self._escape()
        self._at += 1
        return self._text[self._at - 1]

    # -- text

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, char: str) -> bool:
        found = self._peek() == char
        self._at += found
        return found


def _signed(members: Test, *, negative: bool) -> Test:
    return negated(members) if negative else members
