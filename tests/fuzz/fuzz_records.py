"""Fuzz what is read out of logs: record batches, the records of coordinators, what consumers say of themselves.

    python tests/fuzz/fuzz_records.py -max_total_time=60 [libFuzzer options] [CORPUS]

runs under atheris, starting from Java's golden records and batches; ``tests/fuzz/test_records.py`` drives the same
``one_input`` from hypothesis. An input fails when anything but the error of its parser escapes, when it takes longer
than 100 ms of CPU, when the process has grown by more than 64 MiB, or when what was read does not come back after
writing.

An input is one byte that names the parser; coordinator records then have the size of the key (1 byte), key and value.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from harness.fuzzing import INPUT_BYTES_MAX, bounded, golden_frames, run_atheris  # noqa: E402  # the path above comes first

DECOMPRESSED_BYTES_MAX = 1 << 20

if __name__ == "__main__":
    import atheris

    watched = atheris.instrument_imports(include=["ottla"])
else:
    watched = nullcontext()

with watched:
    from ottla.groups import records as group_records
    from ottla.groups.consumer.protocol import read_subscription
    from ottla.re2 import InvalidRegex, compile_regex
    from ottla.records.batch import iter_headers
    from ottla.records.errors import CorruptRecord
    from ottla.records.outline import outline
    from ottla.records.outline import parse as parse_outline
    from ottla.records.reader import read_body, records_of
    from ottla.transactions import records as transaction_records
    from ottla.wire import DecodeError
    from ottla.wire.errors import KafkaError


def group_record(data: bytes) -> None:
    key, value = key_and_value(data)
    record = group_records.decode_record(key, value)
    if record is not None:
        again = group_records.decode_record(*group_records.encode_record(record))
        assert again == record


def transaction_record(data: bytes) -> None:
    key, value = key_and_value(data)
    record = transaction_records.decode_record(key, value)
    if record is not None:
        again = transaction_records.decode_record(*transaction_records.encode_record(record, 2))
        assert again is not None
        assert again.transactional_id == record.transactional_id


def batches(data: bytes) -> None:
    """As a consumer reads them, and as the cleaner does in its two ways: all find the same."""
    view = memoryview(data)
    for position, header in iter_headers(view, partial_tail=True):
        if header.is_control:
            continue
        body = read_body(view, header, position=position, limit=DECOMPRESSED_BYTES_MAX)
        read = list(records_of(header, body))
        found = outline(header, body)
        assert found.offsets == [record.offset for record in read]
        assert found.keys == [record.key for record in read]
        assert found.tombstones == [number for number, record in enumerate(read) if record.value is None]
        assert tuple(map(list, parse_outline(header, body))) == tuple(map(list, found))


def subscription(data: bytes) -> None:
    read_subscription(data)


def regex(data: bytes) -> None:
    compile_regex(data.decode("utf-8", "replace"))


PARSERS: tuple[Callable[[bytes], None], ...] = (group_record, transaction_record, batches, subscription, regex)
REFUSALS = (DecodeError, CorruptRecord, KafkaError, InvalidRegex)


def key_and_value(data: bytes) -> tuple[bytes, bytes | None]:
    size = data[0] if data else 0
    value = data[1 + size :]
    return data[1 : 1 + size], value or None


def one_input(data: bytes) -> None:
    if data:
        bounded(lambda: parse(data), len(data))


def parse(data: bytes) -> None:
    try:
        PARSERS[data[0] % len(PARSERS)](data[1:])
    except REFUSALS:
        pass


def seeds() -> Iterator[bytes]:
    """Java's records of every kind and its batches in every codec."""
    keys: dict[str, bytes] = {}
    for name, version, frame in golden_frames():
        if name.endswith("Key"):
            keys[name.removesuffix("Key")] = frame
        elif name.endswith("Value") and (key := keys.get(name.removesuffix("Value"))) is not None:
            kind = 1 if name.startswith("TransactionLog") else 0
            for record_type in range(24) if kind == 0 else (0,):
                whole = record_type.to_bytes(2) + key
                if len(whole) < 256:
                    yield bytes([kind, len(whole)]) + whole + version.to_bytes(2) + frame
    for path in sorted((ROOT / "tests" / "data" / "records").glob("*.bin")):
        data = path.read_bytes()
        if len(data) < INPUT_BYTES_MAX:
            yield b"\2" + data
    yield b"\3" + bytes.fromhex("0003000000010005") + b"topic" + bytes.fromhex("ffffffff00000000ffffffffffff")
    for text in (r"orders-\d+", r"(a|b)*c{2,5}", r"[^\x00-\x1f]+\p{Greek}?", r"(?i:x)+?y$"):
        yield b"\4" + text.encode()


if __name__ == "__main__":
    run_atheris(one_input, seeds())
