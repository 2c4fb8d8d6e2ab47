"""The record scanner, as Python and compiled: the same fields, the same refusals, the same as the record reader."""

from __future__ import annotations

import importlib.util
import sys
from array import array
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.records import scan as installed
from ottla.records.batch import BATCH_OVERHEAD, LOG_APPEND_TIME_FLAG, BatchHeader, read_header
from ottla.records.builder import BatchBuilder
from ottla.records.errors import CorruptRecord
from ottla.records.reader import read_header_fields, records_of

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "src/ottla/records/scan.py"

maybe_bytes = st.none() | st.binary(max_size=200)
headers = st.lists(st.tuples(st.text(max_size=8), maybe_bytes), max_size=3)
record = st.tuples(st.integers(0, 2**45), maybe_bytes, maybe_bytes, headers)
records = st.lists(record, min_size=1, max_size=1) | st.lists(record, min_size=1, max_size=80)
headers_of_batches = st.fixed_dictionaries(
    {
        # With the flag a batch has one time, that of its appending.
        "attributes": st.sampled_from((0, LOG_APPEND_TIME_FLAG)),
        "max_timestamp": st.sampled_from((-1, 5, 2**45)),
        "base_timestamp": st.sampled_from((0, 2**45, 2**61 - 1, 2**61, -(2**61))),
        "base_offset": st.sampled_from((0, 1000, 2**63 - 2**31 - 1, 2**63 - 2**31, 2**63 - 1)),
    }
)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("ottla.records.scan", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pure() -> ModuleType:
    return load(SOURCE)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Compiled just now: an extension that lies about may be of yesterday's source."""
    sys.path.insert(0, str(ROOT))
    try:
        from hatch_build import CannotCompile, compile_scanner
    finally:
        sys.path.remove(str(ROOT))
    try:
        return load(compile_scanner(ROOT, tmp_path_factory.mktemp("compiled")))
    except CannotCompile as reason:
        pytest.skip(str(reason))


def build(rows: list[Any]) -> tuple[BatchHeader, bytes]:
    builder = BatchBuilder(base_offset=1000)
    for timestamp, key, value, pairs in rows:
        builder.append(timestamp, key, value, pairs)
    batch = builder.build()
    return read_header(batch), bytes(batch[BATCH_OVERHEAD:])


def outcome(module: ModuleType, header: BatchHeader, body: bytes) -> object:
    """The fields, or that it was refused. It is the same where the body lies among bytes that go on and on."""
    found = _outcome(module, header, body, body)
    assert _outcome(module, header, memoryview(b"\xff" + body + b"\xff" * 20)[1 : len(body) + 1], body) == found
    return found


def _outcome(module: ModuleType, header: BatchHeader, view: bytes | memoryview, body: bytes) -> object:
    try:
        fields = module.scan(header, view)
    except CorruptRecord:
        fields = None
    assert header.record_count != 1 or _outcome_of_one(module, header, view) == _one_of(fields, len(view))
    if fields is None:
        return "refused"
    try:
        made = module.make_records(_pack, ("t", 3, 0, 7, read_header_fields), body, fields)
    except CorruptRecord:
        return "headers refused"
    return [list(column) for column in fields[:6]], dict(fields[6]), made, module.gather(view, *fields[4:6])


def _outcome_of_one(module: ModuleType, header: BatchHeader, view: bytes | memoryview) -> object:
    try:
        return module.scan_one(header, view)
    except CorruptRecord:
        return "refused"


def _one_of(fields: Any, end: int) -> object:
    """What ``scan_one`` has to find."""
    if fields is None:
        return "refused"
    begin, after = fields[6].get(0, (-1, end))
    assert after == end
    return (*(column[0] for column in fields[:6]), begin)


def _pack(*fields: object) -> tuple[object, ...]:
    return fields


@given(rows=records)
def test_reads_what_the_reader_reads(rows: list[Any]) -> None:
    header, body = build(rows)
    fields = installed.scan(header, body)
    made = installed.make_records(_pack, ("t", 3, 1, 7, read_header_fields), body, fields)
    expected = [
        ("t", 3, record.offset, record.timestamp, record.key, record.value, record.headers, 1, 7)
        for record in records_of(header, body)
    ]
    assert made == expected
    joined, ends, nulls = installed.gather(body, fields[4], fields[5])
    assert [joined[start:end] for start, end in pairwise(ends)] == [
        record.value or b"" for record in records_of(header, body)
    ]
    assert nulls == sum(record.value is None for record in records_of(header, body))


@given(rows=records)
def test_compiled_equals_pure(pure: ModuleType, compiled: ModuleType, rows: list[Any]) -> None:
    header, body = build(rows)
    result = outcome(pure, header, body)
    assert result != "refused"
    assert outcome(compiled, header, body) == result


@given(rows=records, data=st.data())
def test_compiled_equals_pure_on_damaged_bytes(
    pure: ModuleType, compiled: ModuleType, rows: list[Any], data: st.DataObject
) -> None:
    header, body = build(rows)
    header = header._replace(
        **data.draw(headers_of_batches), last_offset_delta=len(rows) + data.draw(st.integers(-2, 5))
    )
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position : position + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=12))
        if not damaged:
            break
    assert outcome(compiled, header, bytes(damaged)) == outcome(pure, header, bytes(damaged))


@given(body=st.binary(max_size=120), count=st.just(1) | st.integers(-1, 12), fields=headers_of_batches)
def test_compiled_equals_pure_on_noise(
    pure: ModuleType, compiled: ModuleType, body: bytes, count: int, fields: dict[str, int]
) -> None:
    header = BatchHeader(0, 0, 0, 2, 0, 0, max(0, count - 1), 0, 0, -1, -1, -1, count)._replace(**fields)
    assert outcome(compiled, header, body) == outcome(pure, header, body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x0c\x00\x00\x00\x01\x01",
        b"\x0e\x00\x00\x00\x01\x01\x00\x00\x00",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x00\x00",
        b"\x0e\x00\x00\x00\xfe\xff\xff\xff",
        b"\x0c\x00\x00\x00\x02\x01\x00",
    ],
)
def test_refuses_what_does_not_add_up(pure: ModuleType, compiled: ModuleType, body: bytes) -> None:
    header = BatchHeader(0, 0, 0, 2, 0, 0, 0, 0, 0, -1, -1, -1, 1)
    assert outcome(pure, header, body) == "refused"
    assert outcome(compiled, header, body) == "refused"


@pytest.mark.parametrize(("starts", "sizes"), [((-1,), (1,)), ((3,), (6,)), ((9,), (1,)), ((0, 0), (8, 1))])
def test_gathers_nothing_from_outside(
    pure: ModuleType, compiled: ModuleType, starts: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    for module in (pure, compiled):
        with pytest.raises(IndexError, match="is not inside the 8 bytes"):
            module.gather(memoryview(bytes(8)), array("i", starts), array("i", sizes))


def test_the_extension_in_place_is_of_this_source() -> None:
    path = Path(str(installed.__file__))
    if path.suffix == ".py":
        pytest.skip("the scanner runs as Python here")
    newest = max(SOURCE.stat().st_mtime, SOURCE.with_suffix(".pxd").stat().st_mtime)
    assert path.stat().st_mtime >= newest, "compile it anew: python hatch_build.py"
