"""Templates and JSON lines."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.cli.ndjson import decode_line, encode_line
from ottla.cli.templates import compile_template
from ottla.client import ConsumerRecord

RECORD = ConsumerRecord("t", 3, 42, 1000, b"k", b"v", (("a", b"1"), ("b", None)))


@pytest.mark.parametrize(
    ("template", "printed"),
    [
        ("%v\\n", b"v\n"),
        ("%s", b"v"),
        ("%t/%p@%o %T %k=%v\\t%h%%", b"t/3@42 1000 k=v\ta=1,b=%"),
        ("%K %S", b"1 1"),
        ("\\x00\\\\\\r", b"\0\\\r"),
        ("plain \u00fc", "plain \u00fc".encode()),
        ("", b""),
    ],
)
def test_templates(template: str, printed: bytes) -> None:
    assert compile_template(template)(RECORD) == printed


@pytest.mark.parametrize("template", ["%z", "%", "\\q", "\\"])
def test_wrong_templates(template: str) -> None:
    with pytest.raises(ValueError, match="is not one of"):
        compile_template(template)


def test_null_prints_nothing_but_its_size() -> None:
    record = ConsumerRecord("t", 0, 0, 0, None, None)
    assert compile_template("[%k|%v|%K|%S]")(record) == b"[||-1|-1]"


NAMES = st.binary(max_size=6).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
BYTES = st.none() | st.binary(max_size=30) | st.text(max_size=10).map(str.encode)


@given(BYTES, BYTES, st.lists(st.tuples(NAMES, BYTES), max_size=3), st.integers(0, 2**40))
def test_json_lines_round_trip_byte_for_byte(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], timestamp: int
) -> None:
    line = encode_line(ConsumerRecord("t", 1, 2, timestamp, key, value, tuple(headers)))
    assert b"\n" not in line
    json.loads(line)
    record = decode_line(line)
    assert (record.partition, record.timestamp, record.key, record.value) == (1, timestamp, key, value)
    assert record.headers == tuple(headers)


def test_what_people_write_by_hand() -> None:
    assert decode_line(b'{"value": "x"}').value == b"x"
    assert decode_line(b'{"value": null, "key": "k"}')[2:] == (b"k", None, ())
    assert decode_line(b'{"value": {"base64": "/w=="}}').value == b"\xff"


@pytest.mark.parametrize("line", [b"", b"x", b"[]", b'{"value": 1}', b'{"value": {"base64": "?"}}', b'{"headers": {}}'])
def test_wrong_lines(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_line(line)
