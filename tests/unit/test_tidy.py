"""The tidy test catches what it is for, and leaves alone what is allowed."""

from __future__ import annotations

import pytest

import tidy


def breaches(code, path="records/example.py"):
    return [breach.text for breach in tidy.check_module(path, f'"""Example."""\n{code}\n')]


PURE_BREACHES = [
    ("async def f():\n    pass", "asynchronous code"),
    ("import os", "import of os"),
    ("from time import monotonic", "import of time"),
    ("import os.path as p", "import of os.path"),
    ("def f():\n    import socket", "import of socket"),
    ("from random import Random\nr = Random()", "unseeded randomness"),
    ("import random\nx = random.random()", "global random generator"),
    ("import uuid\nx = uuid.uuid4()", "uuid4"),
    ("for x in {1, 2}:\n    pass", "bare set"),
    ("for x in set(range(3)):\n    pass", "bare set"),
    ("def f(a: set[int]) -> list[int]:\n    return [x for x in a]", "bare set"),
    ("def f(a: frozenset[int]) -> list[int]:\n    return list(a)", "bare set"),
    ("def f():\n    a = {1}\n    for x in a:\n        pass", "bare set"),
    ("def f(a: set[int], b: set[int]):\n    for x in a - b:\n        pass", "bare set"),
    ("def f(a: set[str]) -> str:\n    return ','.join(x for x in a)", "bare set"),
]


@pytest.mark.parametrize(("code", "text"), PURE_BREACHES)
def test_impure_code_is_found_in_pure_packages(code, text):
    assert any(text in breach for breach in breaches(code))


@pytest.mark.parametrize(("code", "text"), PURE_BREACHES)
def test_the_same_code_is_fine_in_a_shell(code, text):
    assert breaches(code, "storage/example.py") == []


@pytest.mark.parametrize(
    "code",
    [
        "for x in sorted({1, 2}):\n    pass",
        "def f(a: set[int]) -> int:\n    return sum(x for x in a)",
        "def f(a: set[int]) -> set[int]:\n    return {x + 1 for x in a}",
        "def f(a: set[int]) -> bool:\n    return 1 in a and all(x for x in a)",
        "def f(a: dict[int, int]):\n    for x in a:\n        pass",
        "from random import Random\nr = Random(7)",
        "def f(random: object):\n    return random",
        "import struct",
    ],
)
def test_pure_code_passes(code):
    assert breaches(code) == []


@pytest.mark.parametrize("call", ["asyncio.create_task(f())", "loop.create_task(f())", "asyncio.ensure_future(f())"])
def test_a_bare_task_is_found_everywhere_but_in_the_supervisor(call):
    assert any("without a supervisor" in text for text in breaches(call, "broker/node.py"))
    assert breaches(call, "runtime/supervisor.py") == []


@pytest.mark.parametrize("call", ["group.create_task(f())", "self._task_group.create_task(f())"])
def test_a_task_of_a_task_group_passes(call):
    assert breaches(call, "broker/node.py") == []


@pytest.mark.parametrize("name", ["LogManager", "PathUtil", "HandlerBase", "LogImpl", "RetryMixin", "TestHelper"])
def test_an_empty_name_is_found(name):
    assert any("does not say" in text for text in breaches(f"class {name}:\n    pass", "net/x.py"))


@pytest.mark.parametrize("name", ["Database", "BaseOffset", "UtilityMeter", "ImplicitOffset"])
def test_a_name_that_only_looks_alike_passes(name):
    assert breaches(f"class {name}:\n    pass", "net/x.py") == []


def test_long_functions_and_files_are_found():
    def function(lines):
        return "def f():\n" + "    x = 1\n" * (lines - 1)

    assert breaches(function(70), "net/x.py") == []
    assert any("71 lines" in text for text in breaches(function(71), "net/x.py"))
    assert any("the file has" in text for text in breaches("x = 1\n" * 700, "net/x.py"))
    assert breaches("x = 1\n" * 800, "wire/messages/x.py") == []


def test_a_module_says_what_it_owns():
    assert tidy.check_module("net/x.py", "x = 1\n")[0].text == "the module has no docstring"
    assert tidy.check_module("net/__init__.py", "") == []


def test_the_source_is_tidy():
    assert [str(breach) for breach in tidy.check_tree(tidy.SOURCE)] == []
