"""Records through pipes: formats that lose nothing, places to begin and end, filters, groups."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cli.conftest import Ottla

ODD = [
    {"key": "k", "value": "v", "headers": [["h", "1"], ["h", None], ["empty", ""]], "timestamp": 1_700_000_000_000},
    {"key": None, "value": None, "headers": [], "timestamp": 1_700_000_000_001},
    {"key": "", "value": "", "headers": [["", "x"]], "timestamp": 1_700_000_000_002},
    {"key": {"base64": "/wD+"}, "value": {"base64": "gIGC"}, "headers": [["b", {"base64": "/w=="}]]},
    {"key": "ключ", "value": 'line\nbreak\u2028 "quoted" \\ \u0000', "headers": [["ü", "ß"]]},
]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_json_goes_round_byte_for_byte(ottla: Ottla, codec: str) -> None:
    source, copy = ottla.topic("-p", "2"), ottla.topic("-p", "2")
    ottla("produce", source, "-f", "json", "-p", "1", "-z", codec, stdin="\n".join(map(json.dumps, ODD)).encode())
    first = ottla("consume", source, "-e", "-f", "json").stdout
    ottla("produce", copy, "-f", "json", "--keep-partitions", stdin=first)
    again = ottla("consume", copy, "-e", "-f", "json").stdout
    assert again.replace(copy.encode(), source.encode()) == first
    lines = [json.loads(line) for line in first.splitlines()]
    assert [line["partition"] for line in lines] == [1] * len(ODD)
    for line, sent in zip(lines, ODD, strict=True):
        assert {name: line[name] for name in sent} == sent


def test_templates_both_ways(ottla: Ottla) -> None:
    topic = ottla.topic()
    ottla("produce", topic, "-f", "%T|%k{hex}|%h|%v", stdin=b"1000|6b31|a=1,b=2|v|1\n2000||| \n")
    shown = ottla("consume", topic, "-e", "-f", "%o %T{iso} %k %H %v{base64} %v{json}\\n").stdout
    assert shown == b'0 1970-01-01T00:00:01.000Z k1 2 dnwx "v|1"\n1 1970-01-01T00:00:02.000Z  0 IA== " "\n'
    assert b"line 1" in ottla("produce", topic, "-f", "%k:%v", stdin=b"none\n", code=1).stderr
    assert b"must be text" in ottla("produce", topic, "-f", "%k%v", code=2).stderr


def test_tombstones_times_and_headers(ottla: Ottla) -> None:
    topic = ottla.topic()
    ottla("produce", topic, "-K", ":", "-Z", "--timestamp", "7", "-H", "a=1", "-H", "a=2", stdin=b"k:\nk:v\n")
    lines = [json.loads(line) for line in ottla("consume", topic, "-e", "-f", "json").stdout.splitlines()]
    assert [(line["value"], line["timestamp"]) for line in lines] == [(None, 7), ("v", 7)]
    assert lines[0]["headers"] == [["a", "1"], ["a", "2"]]


@pytest.mark.parametrize(
    ("offset", "shown"),
    [
        ("start", "0123456789"),
        ("end", ""),
        ("7", "789"),
        ("-2", "89"),
        ("+8", "89"),
        ("2:5", "234"),
        (":2", "01"),
        ("-3:end", "789"),
        ("+1:-7", "12"),
        ("@1000004", "456789"),
        ("@1000002:1000004", "23"),
        ("@-1h", ""),
        ("99:100", ""),
    ],
)
def test_where_to_begin_and_end(ottla: Ottla, numbered: str, offset: str, shown: str) -> None:
    assert ottla("consume", numbered, "-o", offset, "-e", "-f", "%v").stdout.decode() == shown


@pytest.fixture(scope="module")
def numbered_topics() -> dict[str, str]:
    return {}


@pytest.fixture
def numbered(ottla: Ottla, numbered_topics: dict[str, str]) -> str:
    """A topic with the digits, their times 1000000 and on."""
    if "numbered" not in numbered_topics:
        topic = numbered_topics["numbered"] = ottla.topic()
        ottla("produce", topic, "-f", "%v@%T", stdin=b"".join(b"%d@%d\n" % (n, 1_000_000 + n) for n in range(10)))
    return numbered_topics["numbered"]


def test_filters(ottla: Ottla) -> None:
    topic = ottla.topic()
    lines = [
        {"key": "user-1", "value": "apple", "headers": [["kind", "fruit"]]},
        {"key": "user-2", "value": "axe", "headers": [["kind", "tool"]]},
        {"key": None, "value": None},
    ]
    ottla("produce", topic, "-f", "json", stdin="\n".join(map(json.dumps, lines)).encode())

    def found(*options: str) -> bytes:
        return ottla("consume", topic, "-e", *options).stdout

    assert found("--key", "user-*") == b"apple\naxe\n"
    assert found("--key", "*1") == b"apple\n"
    assert found("--value", "~^ax") == b"axe\n"
    assert found("--header", "kind=f*") == b"apple\n"
    assert found("--header", "kind", "--value", "a?e") == b"axe\n"
    assert found("--key", "*", "-n", "1") == b"apple\n"
    assert b"regular expression" in ottla("consume", topic, "--key", "~(", code=2).stderr


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_as_a_member_of_a_group(ottla: Ottla, unique: Callable[[str], str], protocol: str) -> None:
    topic, group = ottla.topic("-p", "2"), unique("group")
    options = ("-g", group, "--group-protocol", protocol, "-e")
    ottla("produce", topic, "-p", "0", stdin=b"a\nb\n")
    ottla("produce", topic, "-p", "1", stdin=b"c\n")
    assert sorted(ottla("consume", topic, *options, "--no-commit").stdout.split()) == [b"a", b"b", b"c"]
    assert sorted(ottla("consume", topic, *options).stdout.split()) == [b"a", b"b", b"c"]
    ottla("produce", topic, "-p", "1", stdin=b"d\n")
    assert ottla("consume", topic, *options).stdout == b"d\n"
    (described,) = ottla.json("group", "describe", group)
    assert (described["lag"], described["type"]) == (0, protocol)
    assert ottla("consume", topic, "-g", group, "-o", "5", code=2)


def test_many_topics_and_rates(ottla: Ottla) -> None:
    one, two = ottla.topic(), ottla.topic()
    ottla("produce", one, stdin=b"1\n")
    said = ottla("produce", two, "--rate", "50", stdin=b"2\n" * 20).stderr
    assert b"sent 20 records" in said
    done = ottla("consume", one, two, "-e", "--rate", "-f", "%t\n")
    assert sorted(set(done.stdout.split())) == sorted((one.encode(), two.encode()))
    assert b"read 21 records" in done.stderr
