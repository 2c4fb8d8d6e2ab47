"""Many records written at once: columns in, the body of a batch out.

A run is a stretch of records that share a timestamp and have no headers. Its parts are laid side by side by iterators
that never leave C, so a record costs about a tenth of what ``BatchBuilder.append`` spends on it. What is written is the
same, byte for byte; a property test holds both equal.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain, repeat
from operator import add
from typing import Final

from ottla.records.varint import zigzag_varint

_varint = zigzag_varint
_WIDTHS: Final = ((64, 1), (8192, 2), (1 << 20, 3), (1 << 27, 4), (1 << 31, 5))
"""Offset deltas below the first number are written with so many bytes."""
_NULL: Final = b"\x01"


def encode_run(
    keys: Sequence[bytes | None] | None, values: Sequence[bytes | None], first: int, timestamp_delta: int
) -> bytes:
    """Records without headers, the first of them at the offset delta ``first``. ``keys`` of ``None``: all are null."""
    parts = []
    position, count = 0, len(values)
    while position < count:
        limit, width = next(row for row in _WIDTHS if first + position < row[0])
        end = min(count, limit - first)
        keys_here = None if keys is None else keys[position:end]
        parts.append(_same_width(keys_here, values[position:end], first + position, _varint[timestamp_delta], width))
        position = end
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _same_width(
    keys: Sequence[bytes | None] | None, values: Sequence[bytes | None], first: int, timestamp: bytes, width: int
) -> bytes:
    """Records whose offset deltas all take ``width`` bytes."""
    last = first + len(values)
    deltas: Iterable[bytes] = (
        _offset_deltas()[first:last] if last <= 8192 else map(_varint.__getitem__, range(first, last))
    )
    value_sizes, value_lengths, value_parts = _field(values)
    fixed = 1 + len(timestamp) + width + 1
    if keys is None:
        sizes, fixed = value_sizes, fixed + 1
        between: tuple[Iterable[bytes], ...] = (repeat(_NULL),)
    else:
        key_sizes, key_lengths, key_parts = _field(keys)
        sizes = list(map(add, key_sizes, value_sizes))
        between = (key_lengths, key_parts)
    heads = {size: _varint[size + fixed] + b"\0" + timestamp for size in dict.fromkeys(sizes)}
    heading: Iterable[bytes] = repeat(heads[sizes[0]]) if len(heads) == 1 else map(heads.__getitem__, sizes)
    columns = zip(heading, deltas, *between, value_lengths, value_parts, repeat(b"\0"), strict=False)
    return b"".join(chain.from_iterable(columns))


@cache
def _offset_deltas() -> tuple[bytes, ...]:
    """Those of two bytes and less; made at the first use, since they take milliseconds."""
    return tuple(map(_varint.__getitem__, range(8192)))


def _field(column: Sequence[bytes | None]) -> tuple[list[int], Iterable[bytes], Iterable[bytes]]:
    """Of each entry: the bytes it takes with its length, its length written down, itself."""
    try:
        lengths = list(map(len, column))  # type: ignore[arg-type]  # a null is what the exception is for
    except TypeError:
        return _field_with_nulls(column)
    written = {length: _varint[length] for length in dict.fromkeys(lengths)}
    if len(written) == 1:
        ((length, text),) = written.items()
        return [length + len(text)] * len(lengths), repeat(text), column  # type: ignore[return-value]  # no nulls here
    taken = {length: length + len(text) for length, text in written.items()}
    return list(map(taken.__getitem__, lengths)), map(written.__getitem__, lengths), column  # type: ignore[return-value]


def _field_with_nulls(column: Sequence[bytes | None]) -> tuple[list[int], list[bytes], list[bytes]]:
    lengths = [_NULL if entry is None else _varint[len(entry)] for entry in column]
    parts = [entry or b"" for entry in column]
    return list(map(add, map(len, lengths), map(len, parts))), lengths, parts
