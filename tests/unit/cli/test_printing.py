"""Tables, YAML, shapes: what machines and people are given."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any, Literal

import msgspec
import pytest

from ottla.cli import rows
from ottla.cli.output import Column, Progress, moment, print_json, print_table, show_all, size_text
from ottla.cli.shapes import describe
from ottla.cli.yaml import to_yaml


class Inner(msgspec.Struct):
    name: str
    size: int | None


class Outer(msgspec.Struct):
    kind: Literal["a", "b"]
    inner: list[Inner]
    anything: Any


def test_shapes() -> None:
    assert describe(list[Outer]) == (
        '[{\n  "kind": "a" | "b",\n  "inner": [{\n    "name": string,\n    "size": integer | null\n  }, ...],\n'
        '  "anything": any\n}, ...]'
    )


def test_every_row_has_a_shape() -> None:
    for name, shape in vars(rows).items():
        if isinstance(shape, type) and issubclass(shape, msgspec.Struct) and shape is not msgspec.Struct:
            assert describe(shape).startswith("{"), name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "b": [1, "x"], "c": {}}, "a: 1\nb:\n  - 1\n  - x\nc: {}\n"),
        ([{"a": {"b": None}}, []], "- a:\n    b: null\n- []\n"),
        ("yes", '"yes"\n'),
        ({"no": "1e3", "~": "a: b"}, '"no": "1e3"\n"~": "a: b"\n'),
        ([[1, 2]], "- - 1\n  - 2\n"),
        ("two\nlines", '"two\\nlines"\n'),
        ({"t": True, "f": 1.5}, '"t": true\nf: 1.5\n'),
    ],
)
def test_yaml(value: Any, text: str) -> None:
    if isinstance(value, dict) and "t" in value:
        text = text.replace('"t"', "t")
    assert to_yaml(value) == text


def test_tables_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "N"), [("a\nb", 1), (None, 20)])
    assert capsys.readouterr().out == "NAME     N\na\\x0ab   1\n-       20\n"
    print_table(("NAME", "N"), [])
    assert capsys.readouterr().out == "NAME  N\n"


@pytest.mark.parametrize("form", ["json", "ndjson", "yaml", "table", "wide"])
def test_formats(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    items = [Inner(name="x", size=None), Inner(name="y", size=2)]
    columns = (Column("NAME", lambda row: row.name), Column("SIZE", lambda row: row.size, wide=True))
    show_all(form, items, columns)
    printed = capsys.readouterr().out
    match form:
        case "json":
            assert json.loads(printed) == [{"name": "x", "size": None}, {"name": "y", "size": 2}]
        case "ndjson":
            assert printed == '{"name":"x","size":null}\n{"name":"y","size":2}\n'
        case "yaml":
            assert printed == '- name: x\n  size: null\n- name: "y"\n  size: 2\n'
        case "table":
            assert printed == "NAME\nx\ny\n"
        case _:
            assert printed == "NAME  SIZE\nx        -\ny        2\n"


def test_moments_and_sizes() -> None:
    assert moment(0) == "1970-01-01T00:00:00.000Z"
    assert (moment(-1), moment(None), moment(2**62)) == (None, None, str(2**62))
    assert [size_text(one) for one in (0, 999, 1000, 10**12)] == ["0 B", "999 B", "1.0 kB", "1.0 TB"]


def test_help_and_completion_load_no_client() -> None:
    """What is quick is quick because of what it does not import."""
    program = (
        "import sys\n"
        "from ottla.cli.main import run\n"
        "try:\n    run(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "names = ('ottla.client', 'ottla.broker', 'ottla.config', 'asyncio', 'uvloop', 'ssl')\n"
        "print('HEAVY', [name for name in names if name in sys.modules], file=sys.stderr)\n"
    )
    for arguments in (
        ["--help"],
        ["topic", "--help"],
        ["consume", "--help"],
        ["group", "--help"],
        ["completion", "bash"],
    ):
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
        assert done.stderr.strip().endswith("HEAVY []"), (arguments, done.stderr)


def test_a_stdout_that_takes_a_part_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a pipe may where Python does not buffer: what it did not take must not be lost."""

    class Reluctant(io.BytesIO):
        def write(self, data: Any) -> int:
            return super().write(bytes(data[:7]))

    raw = Reluctant()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, write_through=True))
    print_json([{"name": "x" * 100}])
    print_table(("NAME",), [("y" * 50,)])
    assert json.loads(raw.getvalue().partition(b"NAME")[0]) == [{"name": "x" * 100}]
    assert raw.getvalue().endswith(b"y" * 50 + b"\n")


def test_a_bar_where_the_end_is_known() -> None:
    assert Progress("sent").bar() == ""
    progress = Progress("sent", total=200)
    progress.add(10, 1000)
    progress.add(1, 1000, 90)
    assert progress.bar() == "[##########..........]  50%  "
    assert progress.text().startswith("sent 11 records, 2.0 kB, ")
    progress.add(1, 1, 1000)
    assert progress.bar() == f"[{'#' * 20}] 100%  "
    assert Progress("checked", unit="partitions").text().startswith("checked 0 partitions")
