"""A regular expression as a machine: states that are followed all at once, remembered as they are met.

Thompson's construction: every step of the expression is a state, a name is matched by the set of states it can be in.
Sets are made into numbered ones when they first occur, so that a further name costs a dictionary look-up a character.
Where anchors and word boundaries hold depends on the neighbours: a set remembers what lies before it, and what follows
is part of its transitions.
"""

from enum import Enum
from string import ascii_letters, digits
from typing import Final

ALPHABET: Final = frozenset(ascii_letters + digits + "._-")
"""What names of topics are made of."""
STATES_MAX: Final = 2_500
CACHED_SETS_MAX: Final = 1_000
"""Sets that are remembered; with more they are all forgotten, and met again."""

_WORD: Final = frozenset(ascii_letters + digits + "_")
_END: Final = ""
"""Stands for what follows the last character."""


class Assertion(Enum):
    BEGIN = "begin"
    END = "end"
    WORD_EDGE = "word edge"
    NO_WORD_EDGE = "no word edge"


class Node:
    """A part of an expression: one character of a set, an assertion, or parts in sequence, as choices, repeated."""

    __slots__ = ("assertion", "chars", "choices", "highest", "lowest", "parts")

    def __init__(self) -> None:
        self.chars: frozenset[str] | None = None
        self.assertion: Assertion | None = None
        self.parts: list[Node] | None = None
        self.choices: list[Node] | None = None
        self.lowest = 1
        self.highest: int | None = 1

    @classmethod
    def one_of(cls, chars: frozenset[str]) -> "Node":
        node = cls()
        node.chars = chars
        return node

    @classmethod
    def asserted(cls, assertion: Assertion) -> "Node":
        node = cls()
        node.assertion = assertion
        return node

    @classmethod
    def sequence(cls, parts: list["Node"]) -> "Node":
        node = cls()
        node.parts = parts
        return node

    @classmethod
    def any_of(cls, choices: list["Node"]) -> "Node":
        node = cls()
        node.choices = choices
        return node

    @classmethod
    def repeated(cls, part: "Node", lowest: int, highest: int | None) -> "Node":
        node = cls()
        node.parts = [part]
        node.lowest, node.highest = lowest, highest
        return node


class Program:
    """The states. Each has the states it leads to, and (characters or assertion) what it takes to get there."""

    __slots__ = ("assertions", "chars", "nexts", "start")

    MATCH: Final = 0

    def __init__(self, node: Node) -> None:
        self.chars: list[frozenset[str] | None] = []
        self.assertions: list[Assertion | None] = []
        self.nexts: list[tuple[int, ...]] = []
        self._add(())
        self.start = self._build(node, self.MATCH)

    def _add(
        self, nexts: tuple[int, ...], *, chars: frozenset[str] | None = None, assertion: Assertion | None = None
    ) -> int:
        if len(self.nexts) >= STATES_MAX:
            raise OverflowError(f"more than {STATES_MAX} states")
        self.chars.append(chars)
        self.assertions.append(assertion)
        self.nexts.append(nexts)
        return len(self.nexts) - 1

    def _build(self, node: Node, then: int) -> int:
        """The states of ``node``, leading to ``then``; returns where they begin."""
        if node.chars is not None:
            return self._add((then,), chars=node.chars)
        if node.assertion is not None:
            return self._add((then,), assertion=node.assertion)
        if node.choices is not None:
            return self._add(tuple(self._build(choice, then) for choice in node.choices))
        parts = node.parts or []
        if (node.lowest, node.highest) != (1, 1):
            return self._repeat(parts[0], node.lowest, node.highest, then)
        for part in reversed(parts):
            then = self._build(part, then)
        return then

    def _repeat(self, part: Node, lowest: int, highest: int | None, then: int) -> int:
        if highest is None:
            loop = self._add(())
            self.nexts[loop] = (self._build(part, loop), then)
            then = loop
        else:
            after = then
            for _ in range(highest - lowest):
                then = self._add((self._build(part, then), after))
        for _ in range(lowest):
            then = self._build(part, then)
        return then


class _States:
    """A set of states behind a character, and the sets that following characters lead to."""

    __slots__ = ("accepts", "before", "states", "then")

    def __init__(self, states: frozenset[int], before: str | None) -> None:
        self.states = states
        self.before = before
        self.then: dict[str, _States] = {}
        self.accepts: bool | None = None


class Matcher:
    """Tests names against a program."""

    __slots__ = ("_program", "_sets", "_start", "cost")

    def __init__(self, program: Program) -> None:
        self._program = program
        self.cost = len(program.nexts)
        """Most steps a character of a name may take."""
        self._sets: dict[tuple[frozenset[int], str | None], _States] = {}
        self._start = _States(frozenset((program.start,)), None)

    def __call__(self, name: str) -> bool:
        """Whether the whole name matches."""
        at = self._start
        for char in name:
            following = at.then.get(char)
            if following is None:
                following = self._step(at, char)
            if not following.states:
                return False
            at = following
        if at.accepts is None:
            at.accepts = Program.MATCH in self._closure(at, _END)
        return at.accepts

    def _step(self, at: _States, char: str) -> _States:
        program = self._program
        reached: list[int] = []
        for state in self._closure(at, char):
            chars = program.chars[state]
            if chars is not None and char in chars:
                reached += program.nexts[state]
        before = "w" if char in _WORD else "."
        key = (frozenset(reached), before)
        found = self._sets.get(key)
        if found is None:
            if len(self._sets) >= CACHED_SETS_MAX:
                self._sets.clear()
                self._start.then.clear()
            found = self._sets[key] = _States(*key)
        at.then[char] = found
        return found

    def _closure(self, at: _States, following: str) -> list[int]:
        """The states reached without a character, between what lies before and ``following``."""
        program = self._program
        seen = dict.fromkeys(sorted(at.states))
        waiting = list(seen)
        while waiting:
            state = waiting.pop()
            if program.chars[state] is not None:
                continue
            assertion = program.assertions[state]
            if assertion is not None and not _holds(assertion, at.before, following):
                continue
            for reached in program.nexts[state]:
                if reached not in seen:
                    seen[reached] = None
                    waiting.append(reached)
        return list(seen)


def _holds(assertion: Assertion, before: str | None, following: str) -> bool:
    match assertion:
        case Assertion.BEGIN:
            return before is None
        case Assertion.END:
            return following == _END
        case Assertion.WORD_EDGE:
            return (before == "w") != (following in _WORD)
        case Assertion.NO_WORD_EDGE:
            return (before == "w") == (following in _WORD)
