"""Reading lines by a template, and writing bytes so that nothing is lost."""

from __future__ import annotations

import pytest

from ottla.cli.filters import compile_filters
from ottla.cli.seeking import is_chosen, parse_chosen, read_offsets
from ottla.cli.templates import ReadFields, compile_reader, compile_template
from ottla.client import ConsumerRecord
from ottla.model import TopicPartition

RECORD = ConsumerRecord("t", 1, 2, 1500, b"k\xff", None, (("h", b"1"), ("n", None)))


@pytest.mark.parametrize(
    ("template", "printed"),
    [
        ("%k{hex}", b"6bff"),
        ("%k{base64}", b"a/8="),
        ("%k{json}|%v{json}", b'{"base64":"a/8="}|null'),
        ("%T{iso}", b"1970-01-01T00:00:01.500Z"),
        ("%T{%H:%M:%S}", b"00:00:01"),
        ("%H %h", b"2 h=1,n="),
    ],
)
def test_modifiers(template: str, printed: bytes) -> None:
    assert compile_template(template)(RECORD) == printed


@pytest.mark.parametrize("template", ["%o{hex}", "%k{rot13}", "%T{x}"])
def test_wrong_modifiers(template: str) -> None:
    with pytest.raises(ValueError, match="is not known"):
        compile_template(template)


@pytest.mark.parametrize(
    ("template", "line", "fields"),
    [
        ("%v", b"a\xffb", ReadFields(value=b"a\xffb")),
        ("%k=%v", b"a=b=c", ReadFields(key=b"a", value=b"b=c")),
        ("%p\\t%T\\t%v\\n", b"3\t99\tx", ReadFields(partition=3, timestamp=99, value=b"x")),
        ("[%k{hex}] %v{base64}", b"[00ff] YQ==", ReadFields(key=b"\0\xff", value=b"a")),
        ("%h|%v", b"a=1,b=|x", ReadFields(headers=(("a", b"1"), ("b", b"")), value=b"x")),
        ("100%% %v", b"100% yes", ReadFields(value=b"yes")),
    ],
)
def test_reading(template: str, line: bytes, fields: ReadFields) -> None:
    assert compile_reader(template)(line) == fields


@pytest.mark.parametrize("template", ["%k%v", "%o|%v", "%v{json}", "\\q%v"])
def test_templates_that_cannot_be_read_by(template: str) -> None:
    with pytest.raises(ValueError, match=r"%|\\"):
        compile_reader(template)


@pytest.mark.parametrize(("template", "line"), [("%k:%v", b"x"), ("%p %v", b"a b"), ("%v{hex}", b"zz"), ("%h", b"a")])
def test_lines_of_another_form(template: str, line: bytes) -> None:
    with pytest.raises(ValueError, match=r"not|is|hexadecimal"):
        compile_reader(template)(line)


def test_filters() -> None:
    assert compile_filters(None, None, ()) is None
    for key, value, headers, expected in (
        ("k?", None, (), True),
        ("K*", None, (), False),
        (None, "*", (), False),
        ("~^k", None, ("h=1", "n"), True),
        (None, None, ("n=*",), False),
    ):
        matches = compile_filters(key, value, headers)
        assert matches is not None
        assert matches(RECORD) is expected
    with pytest.raises(ValueError, match="regular expression"):
        compile_filters("~(", None, ())


def test_offsets_of_files() -> None:
    expected = {TopicPartition("t", 0): 5, TopicPartition("t", 1): 7}
    assert read_offsets(b"# saved\nt 0 5\n\nt 1 7\n") == expected
    assert read_offsets(b'[{"topic":"t","partition":0,"after":5},{"topic":"t","partition":1,"offset":7}]') == expected
    partitions = b'[{"topic":"t","partition":0,"committed":5},{"topic":"t","partition":1,"committed":7}]'
    assert read_offsets(b'[{"group":"g","partitions":' + partitions + b"}]") == expected
    assert read_offsets(b'{"topic":"t","partition":0,"offset":5}\n{"topic":"t","partition":1,"offset":7}\n') == expected
    for wrong in (b"t 0\n", b"t x 5\n", b"[1]", b'{"topic":'):
        with pytest.raises(ValueError, match="not"):
            read_offsets(wrong)
    chosen = parse_chosen(["a", "b:1"])
    assert [is_chosen(TopicPartition(*one), chosen) for one in (("a", 9), ("b", 1), ("b", 2))] == [True, True, False]
