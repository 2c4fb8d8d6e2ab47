"""Fuzz what is read out of logs: record batches, the records of coordinators, what consumers say of themselves.

    python tests/fuzz/fuzz_records.py -max_total_time=60 [libFuzzer options] [CORPUS]

runs under atheris, starting from Java's golden records and batches; ``tests/fuzz/test_records.py`` drives the same
``one_input`` from hypothesis. An input fails when anything but the error of its parser escapes, when it takes longer
than 100 ms of CPU, when the process has grown by more than 64 MiB, or when what was read does not come back after
writing.

An input is one byte that names the parser; coordinator records then have the size of the key (1 byte), key and value.
"""

import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INPUT_BYTES_MAX = 65_536
CPU_SECONDS_MAX = 0.1
GROWTH_BYTES_MAX = 64 << 20
DECOMPRESSED_BYTES_MAX = 1 << 20

if __name__ == "__main__":
    import atheris

    watched = atheris.instrument_imports(include=["ottla"])
else:
    watched = nullcontext()

with watched:
    from ottla.groups import records as group_records
    from ottla.groups.consumer.protocol import read_subscription
    from ottla.groups.consumer.regex import InvalidRegex, compile_regex
    from ottla.records.batch import iter_headers
    from ottla.records.errors import CorruptRecord
    from ottla.records.outline import outline
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
    """As a consumer reads them and as the cleaner does: both find the same."""
    view = memoryview(data)
    for position, header in iter_headers(view, partial_tail=True):
        if header.is_control:
            continue
        body = read_body(view, header, position=position, limit=DECOMPRESSED_BYTES_MAX)
        read = list(records_of(header, body))
        found = outline(header, body)
        assert found.offsets == [record.offset for record in read]
        assert found.keys == [record.key for record in read]


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


def grown_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - _BASE_BYTES


_BASE_BYTES = 0
_BASE_BYTES = grown_bytes()


def one_input(data: bytes) -> None:
    if not data:
        return
    started = time.process_time()
    try:
        PARSERS[data[0] % len(PARSERS)](data[1:])
    except REFUSALS:
        pass
    spent = time.process_time() - started
    assert spent < CPU_SECONDS_MAX, f"{spent:.3f} s for {len(data)} bytes"
    assert grown_bytes() < GROWTH_BYTES_MAX, f"grown by {grown_bytes() >> 20} MiB"


def seeds() -> Iterator[bytes]:
    """Java's records of every kind and its batches in every codec."""
    keys: dict[str, bytes] = {}
    for name, version, frame in golden_records():
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


def golden_records() -> Iterator[tuple[str, int, bytes]]:
    data = zlib.decompress((ROOT / "tests" / "data" / "golden" / "messages.bin").read_bytes())
    pos = 0
    while pos < len(data):
        size = int.from_bytes(data[pos : pos + 2])
        name = data[pos + 2 : pos + 2 + size].decode()
        pos += 2 + size
        pos += 4 + int.from_bytes(data[pos : pos + 4])
        version, size = int.from_bytes(data[pos : pos + 2], signed=True), int.from_bytes(data[pos + 2 : pos + 6])
        yield name, version, data[pos + 6 : pos + 6 + size]
        pos += 6 + size


def main() -> None:
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds()):
            Path(corpus, f"{number:05}").write_bytes(seed)
        arguments = [*sys.argv, corpus]
        if not any(argument.startswith("-max_len") for argument in arguments):
            arguments.append(f"-max_len={INPUT_BYTES_MAX}")
        atheris.Setup(arguments, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
