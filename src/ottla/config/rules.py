"""What a value may be, beyond its type. A rule is a word or two in the table; faults are worded as Kafka words them.

``1..`` or ``0..1``: a range. ``or -1 1..``: a range and one odd value. ``one a b``: one of the words.
``nocase A B``: the same without regard to case. ``any-of a b``: a list of these words, maybe empty. ``some-of a b``:
not empty. ``some``: any list that is not empty. ``text``: not the empty string. ``addresses``, ``voters``,
``replicas``, ``share-reset``: forms of their own.
"""

import re
from collections.abc import Callable
from typing import Final

Checked = bool | int | float | str | tuple[str, ...] | None


def check_rule(rule: str, name: str, value: Checked) -> str | None:
    """The sentence that says why ``value`` is not allowed for ``name``, or ``None``. No value is always allowed."""
    if value is None:
        return None
    if isinstance(value, tuple):
        fault = _check_list(rule, name, value)
        if fault is not None:
            return fault
    if not rule or rule == "some":
        return None
    kind, _, words = rule.partition(" ")
    if ".." in kind:
        assert isinstance(value, int | float), rule
        return _check_range(rule, name, value)
    return _RULES[kind](name, value, tuple(words.split()))


def java_number(value: float) -> str:
    """A number as Java prints it: 0.5, 1.0E20."""
    text = repr(value)
    if "e" not in text:
        return text
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}E{int(exponent)}"


def check_throttled_replicas(name: str, value: Checked) -> str | None:
    """A list of PARTITION:BROKER, or ``*``."""
    assert isinstance(value, tuple)
    if value in ((), ("*",)) or all(re.fullmatch(r"[0-9]+:[0-9]+", part) for part in value):
        return None
    return (
        f"Invalid value {_shown(value)} for configuration {name}: {name} must be the literal '*' or a list of replicas "
        "in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."
    )


def _check_list(rule: str, name: str, value: tuple[str, ...]) -> str | None:
    if not value and rule.startswith("some"):
        words = rule.removeprefix("some-of ").split()
        allowed = "any non-empty value" if rule == "some" else f"[{', '.join(words)}]"
        return f"Configuration '{name}' must not be empty. Valid values include: {allowed}"
    if rule not in ("voters", "addresses") and "" in value:
        return f"Configuration '{name}' values must not be empty."
    return None


def _check_range(rule: str, name: str, value: float) -> str | None:
    low, _, high = rule.partition("..")
    if low and value < float(low):
        return f"Invalid value {java_number(value)} for configuration {name}: Value must be at least {low}"
    if high and value > float(high):
        return f"Invalid value {java_number(value)} for configuration {name}: Value must be no more than {high}"
    return None


def _check_one(name: str, value: Checked, words: tuple[str, ...]) -> str | None:
    if value in words:
        return None
    return f"Invalid value {value} for configuration {name}: String must be one of: {', '.join(words)}"


def _check_one_without_case(name: str, value: Checked, words: tuple[str, ...]) -> str | None:
    if str(value).upper() in words:
        return None
    return (
        f"Invalid value {value} for configuration {name}: String must be one of (case insensitive): {', '.join(words)}"
    )


def _check_each(name: str, value: Checked, words: tuple[str, ...]) -> str | None:
    assert isinstance(value, tuple)
    return next((fault for part in value if (fault := _check_one(name, part, words))), None)


def _check_text(name: str, value: Checked, _words: tuple[str, ...]) -> str | None:
    return None if value else f"Invalid value {value} for configuration {name}: String must be non-empty"


def _check_number_or(name: str, value: Checked, words: tuple[str, ...]) -> str | None:
    """``or -1 1..9``: one odd value besides a range."""
    odd, bounds = words
    assert isinstance(value, int)
    if value == int(odd) or _check_range(bounds, name, value) is None:
        return None
    low, _, high = bounds.partition("..")
    allowed = f"between {low} and {high}" if high else f"at least {low}"
    return f"Invalid value {value} for configuration {name}: Value must be {allowed} or equal to {odd}"


def _check_addresses(name: str, value: Checked, _words: tuple[str, ...]) -> str | None:
    assert isinstance(value, tuple)
    for part in value:
        if not re.fullmatch(r"[^\s:@]+:[0-9]{1,5}|\[[0-9A-Fa-f:]+\]:[0-9]{1,5}", part):
            return (
                f"Failed to parse host name from {part} for the configuration {name}. "
                'Each entry should be in the form "{host}:{port}"'
            )
    return None


def _check_voters(name: str, value: Checked, _words: tuple[str, ...]) -> str | None:
    assert isinstance(value, tuple)
    if all(re.fullmatch(r"[0-9]+@([^\s:@]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}", part) for part in value):
        return None
    return f"Invalid configuration value for {name}. Each entry should be in the form `{{id}}@{{host}}:{{port}}`."


def _check_share_reset(name: str, value: Checked, _words: tuple[str, ...]) -> str | None:
    duration = r"by_duration:P(?=.)([0-9]+D)?(T(?=.)([0-9]+H)?([0-9]+M)?([0-9]+(\.[0-9]{1,9})?S)?)?"
    if value in ("latest", "earliest") or re.fullmatch(duration, str(value), re.IGNORECASE):
        return None
    return (
        f"Invalid value {value} for configuration {name}: Invalid value `{value}` for configuration {name}. The value "
        "must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'."
    )


def _shown(value: tuple[str, ...]) -> str:
    return f"[{', '.join(value)}]"


_RULES: Final[dict[str, Callable[[str, Checked, tuple[str, ...]], str | None]]] = {
    "one": _check_one,
    "nocase": _check_one_without_case,
    "any-of": _check_each,
    "some-of": _check_each,
    "text": _check_text,
    "or": _check_number_or,
    "addresses": _check_addresses,
    "voters": _check_voters,
    "replicas": lambda name, value, _words: check_throttled_replicas(name, value),
    "share-reset": _check_share_reset,
}
