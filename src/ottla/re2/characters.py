"""Which characters a class of an expression holds: Perl's, POSIX', Unicode's, and all of them without regard to case.

A class is a test of one character. Nothing is worked out before a text is matched, so an expression full of large
classes is read as quickly as any other.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from string import ascii_letters, digits
from typing import Final

Test = Callable[[str], bool]
Range = tuple[str, str]
"""The first and the last of characters that follow each other."""

CACHED_CLASSES: Final = 256
"""A class named over and over is one test: a bracket of a thousand names is no slower than its distinct ones."""

WORD: Final = frozenset(ascii_letters + digits + "_")
PERL: Final[dict[str, Test]] = {
    "d": frozenset(digits).__contains__,
    "s": frozenset("\t\n\f\r ").__contains__,
    "w": WORD.__contains__,
}
POSIX: Final[dict[str, Test]] = {
    "alnum": lambda char: char.isascii() and char.isalnum(),
    "alpha": lambda char: char.isascii() and char.isalpha(),
    "ascii": lambda char: char.isascii(),
    "blank": lambda char: char in "\t ",
    "cntrl": lambda char: char < " " or char == "\x7f",
    "digit": lambda char: char in digits,
    "graph": lambda char: "!" <= char <= "~",
    "lower": lambda char: char.isascii() and char.islower(),
    "print": lambda char: " " <= char <= "~",
    "punct": lambda char: "!" <= char <= "~" and not char.isalnum(),
    "space": lambda char: char in "\t\n\v\f\r ",
    "upper": lambda char: char.isascii() and char.isupper(),
    "word": WORD.__contains__,
    "xdigit": lambda char: char in "0123456789abcdefABCDEF",
}
_ORBITS: Final = """
    Kk\u212a Ssſ Åå\u212b Ǆǅǆ Ǉǈǉ Ǌǋǌ Ǳǲǳ \u0345Ιι\u1fbe Ββϐ Εεϵ Θθϑϴ Κκϰ Μµμ Ππϖ Ρρϱ Σςσ Φφϕ Ωω\u2126 Ṡṡẛ ßẞ İ ı
"""
_ORBIT_OF: Final = {char: orbit for orbit in _ORBITS.split() for char in orbit}
"""Characters that equal others than the one their case changes to, or none although it does."""


def everything(_char: str) -> bool:
    return True


def all_but_newline(char: str) -> bool:
    return char != "\n"


def between(low: str, high: str) -> Test:
    return low.__eq__ if low == high else lambda char: low <= char <= high


def in_ranges(ranges: Iterable[Range]) -> Test:
    """Whether a character is in one of many ranges, in as many steps as their number has digits."""
    lows: list[str] = []
    highs: list[str] = []
    for low, high in sorted(ranges):
        if highs and low <= highs[-1]:
            highs[-1] = max(highs[-1], high)
        else:
            lows.append(low)
            highs.append(high)

    def test(char: str) -> bool:
        at = bisect_right(lows, char) - 1
        return at >= 0 and char <= highs[at]

    return between(lows[0], highs[0]) if len(lows) == 1 else test


@lru_cache(CACHED_CLASSES)
def negated(test: Test) -> Test:
    return lambda char: not test(char)


def any_of(tests: Iterable[Test]) -> Test:
    parts = tuple(dict.fromkeys(tests))
    return parts[0] if len(parts) == 1 else lambda char: any(test(char) for test in parts)


@lru_cache(CACHED_CLASSES)
def folded(test: Test) -> Test:
    """The class with the characters that differ from its own by case only."""
    return lambda char: any(test(other) for other in orbit(char))


def orbit(char: str) -> str:
    """The characters that equal this one where case does not count, itself included."""
    known = _ORBIT_OF.get(char)
    if known is not None:
        return known
    lower, upper = char.lower(), char.upper()
    if len(upper) > 1:
        # The title case is a single character where the upper case is not one.
        upper = char.title()
    return char + "".join(other for other in (lower, upper) if len(other) == 1 and other != char)


def unicode_class(name: str, *, folds: bool) -> Test | None:
    """A category (``L``, ``Nd``) or a script (``Greek``); ``None`` if there is no such."""
    if name == "Any":
        return everything
    if name.startswith("+") or name not in _tables():
        return None
    added = "+" + name
    return any_of((_table(name), _table(added))) if folds and added in _tables() else _table(name)


@cache
def _tables() -> dict[str, str]:
    from ottla.re2.tables import TABLES  # noqa: PLC0415  # few expressions ask for it

    return dict(line.split(" ", 1) for line in TABLES.replace("\n ", " ").splitlines())


@cache
def _table(name: str) -> Test:
    ranges = [_range(entry) for entry in _tables()[name].split()]
    starts = [found.start for found in ranges]

    def test(char: str) -> bool:
        at = bisect_right(starts, ord(char)) - 1
        return at >= 0 and ord(char) in ranges[at]

    return test


def _range(entry: str) -> range:
    """Of ``first-last/step``, hexadecimal."""
    bounds, _, step = entry.partition("/")
    first, _, last = bounds.partition("-")
    return range(int(first, 16), int(last or first, 16) + 1, int(step or "1", 16))
