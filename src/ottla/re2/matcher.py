"""A regular expression as a machine: states that are followed all at once, remembered as they are met.

Thompson's construction: every step of the expression is a state, a text is matched by the set of states it can be in.
Sets are remembered as they occur, so that a further text costs a dictionary look-up a character. Where anchors and word
boundaries hold depends on the neighbours: a set remembers what lies before it, and what follows is part of its
transitions.

A text costs at most its length times the states. Who has others to serve meanwhile takes ``Matcher.steps``.
"""

from collections.abc import Generator, Iterable
from enum import Enum
from typing import Final

from ottla.re2.characters import WORD, Test

STATES_MAX: Final = 2_500
STEPS_MAX: Final = 10_000
"""Of making the states: each part of an expression is one, as often as it is repeated."""
REMEMBERED_MAX: Final = 50_000
"""States in remembered sets, and ways between those; with more they are all forgotten, and met again."""

_END: Final = ""
"""Stands for what follows the last character."""


class Assertion(Enum):
    BEGIN = "begin"
    END = "end"
    LINE_BEGIN = "line begin"
    LINE_END = "line end"
    WORD_EDGE = "word edge"
    NO_WORD_EDGE = "no word edge"


class Node:
    """A part of an expression: one character of a class, an assertion, or parts in sequence, as choices, repeated."""

    __slots__ = ("assertion", "choices", "highest", "lowest", "parts", "test")

    def __init__(self) -> None:
        self.test: Test | None = None
        self.assertion: Assertion | None = None
        self.parts: list[Node] | None = None
        self.choices: list[Node] | None = None
        self.lowest = 1
        self.highest: int | None = 1

    @classmethod
    def one_of(cls, test: Test) -> "Node":
        node = cls()
        node.test = test
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
    """The states. Each has the states it leads to, and (test of a character or assertion) what it takes to get there.

    Raises ``OverflowError`` beyond ``STATES_MAX`` and ``STEPS_MAX``.
    """

    __slots__ = ("_steps", "assertions", "nexts", "start", "tests")

    MATCH: Final = 0

    def __init__(self, node: Node) -> None:
        self.tests: list[Test | None] = []
        self.assertions: list[Assertion | None] = []
        self.nexts: list[tuple[int, ...]] = []
        self._steps = 0
        self._add(())
        self.start = self._build(node, self.MATCH)

    def _add(self, nexts: tuple[int, ...], *, test: Test | None = None, assertion: Assertion | None = None) -> int:
        if len(self.nexts) >= STATES_MAX:
            raise OverflowError(f"more than {STATES_MAX} states")
        self.tests.append(test)
        self.assertions.append(assertion)
        self.nexts.append(nexts)
        return len(self.nexts) - 1

    def _build(self, node: Node, then: int) -> int:
        """The states of ``node``, leading to ``then``; returns where they begin."""
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise OverflowError(f"more than {STEPS_MAX} steps")
        if node.test is not None:
            return self._add((then,), test=node.test)
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
            start = self._build(part, then)
            if start == then:
                # Nothing stays nothing, however often it is repeated.
                break
            then = start
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
    """Tests texts against a program."""

    __slots__ = ("_program", "_remembered", "_sets", "_start")

    def __init__(self, program: Program) -> None:
        self._program = program
        self._sets: dict[tuple[frozenset[int], str | None], _States] = {}
        self._remembered = 0
        self._start = _States(frozenset((program.start,)), None)

    def __call__(self, text: str) -> bool:
        """Whether the whole text matches."""
        steps = self.steps(text)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return bool(done.value)

    def steps(self, text: str) -> Generator[int, None, bool]:
        """The same bit by bit: yields how many states were looked at since, or characters where none had to be."""
        at, known = self._start, 1
        for char in text:
            following = at.then.get(char)
            if following is None:
                reached = self._closure(at, char)
                following = self._step(at, char, reached)
                yield len(reached)
            if not following.states:
                yield known
                return False
            at = following
            known += 1
        if at.accepts is None:
            at.accepts = Program.MATCH in self._closure(at, _END)
        yield known
        return at.accepts

    def _step(self, at: _States, char: str, closure: list[int]) -> _States:
        tests, nexts = self._program.tests, self._program.nexts
        verdicts: dict[Test, bool] = {}
        reached: list[int] = []
        for state in closure:
            test = tests[state]
            if test is None:
                continue
            verdict = verdicts.get(test)
            if verdict is None:
                verdict = verdicts[test] = test(char)
            if verdict:
                reached += nexts[state]
        key = (frozenset(reached), "w" if char in WORD else "\n" if char == "\n" else ".")
        found = self._sets.get(key)
        if found is None:
            self._remember(len(key[0]))
            found = self._sets[key] = _States(*key)
        self._remember(1)
        at.then[char] = found
        return found

    def _remember(self, count: int) -> None:
        self._remembered += count
        if self._remembered > REMEMBERED_MAX:
            self._sets.clear()
            self._start.then.clear()
            self._remembered = count

    def _closure(self, at: _States, following: str) -> list[int]:
        """The states reached without a character, between what lies before and ``following``."""
        program = self._program
        seen = dict.fromkeys(sorted(at.states))
        waiting = list(seen)
        while waiting:
            state = waiting.pop()
            if program.tests[state] is not None:
                continue
            assertion = program.assertions[state]
            if assertion is not None and not _holds(assertion, at.before, following):
                continue
            for reached in program.nexts[state]:
                if reached not in seen:
                    seen[reached] = None
                    waiting.append(reached)
        return list(seen)


def select(matchers: Iterable[tuple[Matcher, list[str]]], texts: Iterable[str]) -> Generator[int, None, None]:
    """Add each text to the lists of those that it matches; yields the steps, as ``Matcher.steps`` does."""
    pairs = tuple(matchers)
    for text in texts:
        for matcher, found in pairs:
            if (yield from matcher.steps(text)):
                found.append(text)


def _holds(assertion: Assertion, before: str | None, following: str) -> bool:
    match assertion:
        case Assertion.BEGIN:
            return before is None
        case Assertion.END:
            return following == _END
        case Assertion.LINE_BEGIN:
            return before is None or before == "\n"
        case Assertion.LINE_END:
            return following in (_END, "\n")
        case Assertion.WORD_EDGE:
            return (before in WORD) != (following in WORD)
        case Assertion.NO_WORD_EDGE:
            return (before in WORD) == (following in WORD)
