r"""Regular expressions for ListTransactions, matched against whole transactional ids without backtracking.

Kafka compiles them as Java does and may take exponential time over one id. Here an expression becomes a set of states
that all move on with each character, so the cost is states times characters, and both are bounded. What cannot be
matched that way (back references, looking around, possessive quantifiers) is refused, and so is what Java refuses.

Understood: literals, ``.``, ``\d \D \s \S \w \W``, ``\t \n \r \f \xhh \uhhhh``, quoted punctuation,
``\Q...\E``, classes with ranges and negation, groups (named ones too), ``|``, ``* + ? {n} {n,} {n,m}`` greedy or
reluctant, ``^ $ \A \z`` at the ends of what is matched, and ``(?i)`` in front of all.
"""

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

PATTERN_LENGTH_MAX: Final = 1_024
NESTING_MAX: Final = 64
STATES_MAX: Final = 4_096

_Test = Callable[[str], bool]
_DIGITS: Final = frozenset("0123456789")
_SPACES: Final = frozenset(" \t\n\x0b\f\r")
_WORDS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_LINE_ENDS: Final = frozenset("\n\r\x85\u2028\u2029")
_SETS: Final = {"d": _DIGITS, "s": _SPACES, "w": _WORDS}
_CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "a": "\a", "e": "\x1b"}
_QUANTIFIERS: Final = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class InvalidPattern(ValueError):
    """An expression that is none, or one that is not understood."""


class _State(Struct):
    """``test`` leads to ``next``; without it all of ``also`` is reached for nothing. ``at`` asks for an end."""

    test: _Test | None = None
    next: int = -1
    also: tuple[int, ...] = ()
    at: str = ""


_Piece = Callable[[int], int]
"""Given the state to go on with, adds its own states and returns the first of them."""


class Pattern:
    """A compiled expression. Raises ``InvalidPattern``."""

    __slots__ = ("_end", "_start", "_states")

    def __init__(self, text: str) -> None:
        if len(text) > PATTERN_LENGTH_MAX:
            raise InvalidPattern(f"an expression has at most {PATTERN_LENGTH_MAX} characters")
        self._states: list[_State] = []
        piece = _Parser(text, self._states).parse()
        self._end = 0
        self._states.append(_State())
        self._start = piece(self._end)

    def matches(self, text: str) -> bool:
        """Whether the expression covers ``text`` from its first character to its last."""
        states = self._states
        current = self._reach((self._start,), first=True, last=not text)
        for position, char in enumerate(text, 1):
            moved = {state.next: None for state in map(states.__getitem__, current) if state.test and state.test(char)}
            if not moved:
                return False
            current = self._reach(moved, first=False, last=position == len(text))
        return self._end in current

    def _reach(self, begin: Iterable[int], *, first: bool, last: bool) -> dict[int, None]:
        """Everything that can be reached from here without another character."""
        found: dict[int, None] = {}
        left = list(begin)
        while left:
            index = left.pop()
            if index in found:
                continue
            found[index] = None
            state = self._states[index]
            if state.at and not (first if state.at == "start" else last):
                continue
            left += state.also
        return found


class _Parser:
    """Recursive descent over one expression."""

    def __init__(self, text: str, states: list[_State]) -> None:
        self._text = text
        self._states = states
        self._at = 0
        self._depth = 0
        self._fold = text.startswith("(?i)")
        if self._fold:
            self._at = 4

    def parse(self) -> _Piece:
        piece = self._choice()
        if self._at < len(self._text):
            raise self._error("unmatched closing parenthesis")
        return piece

    # -- grammar

    def _choice(self) -> _Piece:
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        if len(branches) == 1:
            return branches[0]
        return lambda go_on: self._add(_State(also=tuple(branch(go_on) for branch in branches)))

    def _sequence(self) -> _Piece:
        pieces = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            pieces.append(self._quantified())

        def build(go_on: int) -> int:
            for piece in reversed(pieces):
                go_on = piece(go_on)
            return go_on

        return build

    def _quantified(self) -> _Piece:
        piece = self._atom()
        while True:
            bounds = self._bounds()
            if bounds is None:
                return piece
            if self._take("+"):
                raise self._error("possessive quantifiers are not understood")
            self._take("?")  # reluctant: the same, where the whole text has to match
            piece = self._repeated(piece, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        char = self._text[self._at : self._at + 1]
        if char in _QUANTIFIERS:
            self._at += 1
            return _QUANTIFIERS[char]
        if char != "{":
            return None
        closing = self._text.find("}", self._at)
        low, comma, high = self._text[self._at + 1 : closing].partition(",")
        numbers = [part for part in (low, high) if part or part is low]
        if closing < 0 or not all(part.isascii() and part.isdigit() and len(part) < 6 for part in numbers):
            raise self._error("illegal repetition")
        self._at = closing + 1
        least = int(low)
        most = least if not comma else int(high) if high else None
        if most is not None and most < least:
            raise self._error("illegal repetition range")
        return least, most

    def _repeated(self, piece: _Piece, least: int, most: int | None) -> _Piece:
        def build(go_on: int) -> int:
            if most is None:
                loop = self._add(_State())
                self._states[loop].also = (piece(loop), go_on)
                go_on = loop
            else:
                end = go_on
                for _ in range(most - least):
                    go_on = self._add(_State(also=(piece(go_on), end)))
            for _ in range(least):
                go_on = piece(go_on)
            return go_on

        return build

    def _atom(self) -> _Piece:
        char = self._text[self._at]
        self._at += 1
        match char:
            case "(":
                return self._group()
            case "[":
                return self._one(self._class())
            case ".":
                return self._one(lambda one: one not in _LINE_ENDS)
            case "^" | "$":
                return self._end_of_text("start" if char == "^" else "last")
            case "\\":
                return self._escaped()
            case "*" | "+" | "?" | "{":
                raise self._error(f"dangling meta character '{char}'")
            case _:
                return self._literal(char)

    def _group(self) -> _Piece:
        if self._take("?"):
            if self._take("<"):
                name, bracket, _ = self._text[self._at :].partition(">")
                if not bracket or not name.isalnum() or not name[0].isalpha():
                    raise self._error("looking behind is not understood")
                self._at += len(name) + 1
            elif not self._take(":"):
                raise self._error("looking around and flags within an expression are not understood")
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise self._error(f"more than {NESTING_MAX} groups within each other")
        piece = self._choice()
        self._depth -= 1
        if not self._take(")"):
            raise self._error("unclosed group")
        return piece

    def _escaped(self) -> _Piece:
        char = self._text[self._at : self._at + 1]
        if char == "Q":
            quoted, _, _ = self._text[self._at + 1 :].partition("\\E")
            self._at = min(len(self._text), self._at + 1 + len(quoted) + 2)
            pieces = [self._literal(one) for one in quoted]

            def build(go_on: int) -> int:
                for piece in reversed(pieces):
                    go_on = piece(go_on)
                return go_on

            return build
        if char in ("A", "z", "Z"):
            self._at += 1
            return self._end_of_text("start" if char == "A" else "last")
        return self._one(self._escape())

    def _escape(self) -> _Test:
        """What stands behind a backslash, inside a class or outside."""
        char = self._text[self._at : self._at + 1]
        self._at += 1
        if not char:
            raise self._error("unexpected internal error: a backslash with nothing behind it")
        if char.lower() in _SETS:
            members = _SETS[char.lower()]
            return members.__contains__ if char.islower() else lambda one: one not in members
        if char in _CONTROLS:
            return self._same(_CONTROLS[char])
        if char in "xu":
            return self._same(self._code(2 if char == "x" else 4))
        if char.isascii() and char.isalnum():
            raise self._error(f"illegal or unsupported escape sequence '\\{char}'")
        return self._same(char)

    def _code(self, length: int) -> str:
        digits = self._text[self._at : self._at + length]
        self._at += length
        try:
            if len(digits) < length or not digits.isalnum():
                raise ValueError
            return chr(int(digits, 16))
        except ValueError:
            raise self._error("illegal character code") from None

    def _class(self) -> _Test:
        negated = self._take("^")
        tests: list[_Test] = []
        # A bracket that closes nothing yet stands for itself.
        while not tests or not self._take("]"):
            if self._at >= len(self._text):
                raise self._error("unclosed character class")
            tests.append(self._class_member())
        if negated:
            return lambda one: not any(test(one) for test in tests)
        return lambda one: any(test(one) for test in tests)

    def _class_member(self) -> _Test:
        low = self._text[self._at]
        self._at += 1
        if low == "[" or self._text.startswith("&&", self._at - 1):
            raise self._error("classes within classes are not understood")
        if low == "\\":
            return self._escape()
        if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
            high = self._text[self._at + 1 : self._at + 2]
            self._at += 2
            if not high or high in "[\\" or high < low:
                raise self._error("illegal character range")
            if self._fold:
                return lambda one: low <= one.lower() <= high or low <= one.upper() <= high
            return lambda one: low <= one <= high
        return self._same(low)

    # -- states

    def _add(self, state: _State) -> int:
        if len(self._states) >= STATES_MAX:
            raise InvalidPattern("the expression is too large")
        self._states.append(state)
        return len(self._states) - 1

    def _one(self, test: _Test) -> _Piece:
        return lambda go_on: self._add(_State(test=test, next=go_on))

    def _literal(self, char: str) -> _Piece:
        return self._one(self._same(char))

    def _same(self, char: str) -> _Test:
        if self._fold:
            folded = char.lower()
            return lambda one: one.lower() == folded
        return char.__eq__

    def _end_of_text(self, at: str) -> _Piece:
        return lambda go_on: self._add(_State(also=(go_on,), at=at))

    def _take(self, text: str) -> bool:
        if self._text.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _error(self, reason: str) -> InvalidPattern:
        return InvalidPattern(f"{reason} near index {self._at}")
