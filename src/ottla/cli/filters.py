"""Which records `consume` shows: globs or regular expressions on key, value and headers."""

import fnmatch
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.client import ConsumerRecord

Matches = Callable[["ConsumerRecord"], bool]


def compile_filters(key: str | None, value: str | None, headers: Sequence[str]) -> Matches | None:
    """One test for all that is asked; ``None`` where nothing is. Raises ``ValueError`` for a wrong expression.

    A pattern is a glob for the whole of it, or behind ``~`` a regular expression that is searched for. Null matches
    nothing.
    """
    tests: list[Matches] = []
    if key is not None:
        matches_key = _pattern(key)
        tests.append(lambda record: matches_key(record.key))
    if value is not None:
        matches_value = _pattern(value)
        tests.append(lambda record: matches_value(record.value))
    tests += [_header(text) for text in headers]
    if not tests:
        return None
    return tests[0] if len(tests) == 1 else lambda record: all(test(record) for test in tests)


def _pattern(text: str) -> Callable[[bytes | None], bool]:
    try:
        if text.startswith("~"):
            search = re.compile(text[1:].encode(), re.DOTALL).search
            return lambda data: data is not None and search(data) is not None
        match = re.compile(fnmatch.translate(text).encode(), re.DOTALL).match
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    return lambda data: data is not None and match(data) is not None


def _header(text: str) -> Matches:
    name, equals, pattern = text.partition("=")
    if not equals:
        return lambda record: any(one == name for one, _ in record.headers)
    matches = _pattern(pattern)
    return lambda record: any(one == name and matches(value) for one, value in record.headers)
