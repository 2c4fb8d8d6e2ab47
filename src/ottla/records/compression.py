"""Compression of a batch's records, both ways with Java and librdkafka, with a limit on what comes out.

Written is what Java's clients write: gzip; snappy in the framing of Java's xerial library (blocks of 32 KiB); frames of
independent 64 KiB blocks without checksums for lz4 (Java refuses linked blocks); zstd. Read is more: snappy also as one
raw block (librdkafka writes that), lz4 and zstd with any frame options, members or frames that follow each other.

``decompress`` never holds more than the limit (the last copy apart): what expands past it is refused at the limit, what
announces more is refused before anything is allocated. zstd windows above 2^27 bytes are refused by the decoder.
"""

import zlib
from struct import Struct
from typing import Final, NamedTuple

from ottla.records.batch import Codec
from ottla.records.errors import CorruptRecord

__all__ = ["DECOMPRESSED_BYTES_MAX", "Codec", "CompressionLevels", "DecompressedTooLarge", "compress", "decompress"]

DECOMPRESSED_BYTES_MAX: Final = 128 * 1024 * 1024
"""The limit where a caller has none of its own."""

_GZIP_WBITS: Final = 31
_CHUNK_BYTES: Final = 1 << 20
_LZ4_BLOCK_BYTES: Final = 64 * 1024
_LZ4_LEVEL_DEFAULT: Final = 9
_LZ4_HC_LEVELS: Final = (3, 12)
_LZ4_STORED: Final = 1 << 31
_LZ4_FRAME_HEADER: Final = bytes.fromhex("04224d18604082")
"""Magic, version 1 with independent blocks, 64 KiB blocks, header checksum."""
_SNAPPY_BLOCK_BYTES: Final = 32 * 1024
_SNAPPY_MAGIC: Final = b"\x82SNAPPY\x00"
_SNAPPY_HEADER: Final = _SNAPPY_MAGIC + bytes((0, 0, 0, 1, 0, 0, 0, 1))
_SNAPPY_RATIO_MAX: Final = 32
"""No snappy element makes more bytes out of one."""
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_LEVEL_DEFAULT: Final = 3

_I32: Final = Struct(">i")
_U32_LE: Final = Struct("<I")


class CompressionLevels(NamedTuple):
    """The topic's ``compression.*.level``, in their own scales."""

    gzip: int = -1
    lz4: int = _LZ4_LEVEL_DEFAULT
    zstd: int = _ZSTD_LEVEL_DEFAULT

    def of(self, codec: Codec) -> int | None:
        match codec:
            case Codec.GZIP:
                return self.gzip
            case Codec.LZ4:
                return self.lz4
            case Codec.ZSTD:
                return self.zstd
            case _:
                return None


class DecompressedTooLarge(CorruptRecord):
    """The data would expand beyond the limit."""

    def __init__(self, codec: Codec, limit: int) -> None:
        super().__init__(f"{codec.name.lower()} data expands to more than the limit of {limit} bytes")


def compress(codec: Codec, data: bytes | bytearray | memoryview, level: int | None = None) -> bytes:
    """``data`` in the codec's format; ``level`` in the scale of the topic's ``compression.*.level``."""
    match codec:
        case Codec.NONE:
            return bytes(data)
        case Codec.GZIP:
            return zlib.compress(data, -1 if level is None else level, _GZIP_WBITS)
        case Codec.SNAPPY:
            return _compress_snappy(data)
        case Codec.LZ4:
            return _compress_lz4(data, _LZ4_LEVEL_DEFAULT if level is None else level)
        case Codec.ZSTD:
            import cramjam  # noqa: PLC0415 - loading it takes longer than the rest of the package

            return bytes(cramjam.zstd.compress(data, level=_ZSTD_LEVEL_DEFAULT if level is None else level))


def decompress(codec: Codec, data: bytes | bytearray | memoryview, limit: int = DECOMPRESSED_BYTES_MAX) -> bytes:
    """What ``compress`` was given. Raises ``CorruptRecord``; ``DecompressedTooLarge`` for more than ``limit`` bytes."""
    match codec:
        case Codec.NONE:
            if len(data) > limit:
                raise DecompressedTooLarge(codec, limit)
            return bytes(data)
        case Codec.GZIP:
            return _decompress_gzip(data, limit)
        case Codec.SNAPPY:
            return _decompress_snappy(data, limit)
        case Codec.LZ4 | Codec.ZSTD:
            return _decompress_frames(codec, data, limit)


def _compress_snappy(data: bytes | bytearray | memoryview) -> bytes:
    from cramjam import snappy  # noqa: PLC0415 - as above

    view = memoryview(data)
    parts = [_SNAPPY_HEADER]
    for start in range(0, len(view), _SNAPPY_BLOCK_BYTES):
        block = bytes(snappy.compress_raw(view[start : start + _SNAPPY_BLOCK_BYTES]))
        parts += (_I32.pack(len(block)), block)
    return b"".join(parts)


def _compress_lz4(data: bytes | bytearray | memoryview, level: int) -> bytes:
    """Kafka's default level means the fast compressor, every other level the thorough one.

    For the fast one the frame is laid here, as Java lays it; the thorough one only comes with checksummed blocks.
    """
    from cramjam import lz4  # noqa: PLC0415 - as above

    view = memoryview(data)
    if level != _LZ4_LEVEL_DEFAULT:
        lowest, highest = _LZ4_HC_LEVELS
        compressor = lz4.Compressor(level=min(max(level, lowest), highest), content_checksum=False, block_linked=False)
        compressor.compress(bytes(view))
        return bytes(compressor.finish())
    parts = [_LZ4_FRAME_HEADER]
    for start in range(0, len(view), _LZ4_BLOCK_BYTES):
        block = view[start : start + _LZ4_BLOCK_BYTES]
        packed = bytes(lz4.compress_block(block, store_size=False))
        if len(packed) < len(block):
            parts += (_U32_LE.pack(len(packed)), packed)
        else:
            parts += (_U32_LE.pack(len(block) | _LZ4_STORED), bytes(block))
    parts.append(bytes(4))
    return b"".join(parts)


def _decompress_gzip(data: bytes | bytearray | memoryview, limit: int) -> bytes:
    pending: bytes | bytearray | memoryview = data
    out = bytearray()
    try:
        while True:
            inflater = zlib.decompressobj(_GZIP_WBITS)
            while not inflater.eof:
                chunk = inflater.decompress(pending, min(_CHUNK_BYTES, limit - len(out) + 1))
                out += chunk
                if len(out) > limit:
                    raise DecompressedTooLarge(Codec.GZIP, limit)
                pending = inflater.unconsumed_tail
                if not chunk and not pending and not inflater.eof:
                    raise CorruptRecord("gzip data ends before its trailer")
            pending = inflater.unused_data
            if not pending:
                return bytes(out)
    except zlib.error as error:
        raise CorruptRecord(f"gzip data is corrupt: {error}") from None


def _decompress_snappy(data: bytes | bytearray | memoryview, limit: int) -> bytes:
    view = memoryview(data)
    if bytes(view[:8]) != _SNAPPY_MAGIC:
        return bytes(_snappy_block(view, limit, limit))
    position, end = 0, len(view)
    parts: list[bytearray] = []
    left = limit
    while position < end:
        if bytes(view[position : position + 8]) == _SNAPPY_MAGIC:
            position += len(_SNAPPY_HEADER)
            continue
        if end - position < 4:
            raise CorruptRecord("snappy framing ends within a block length")
        size: int = _I32.unpack_from(view, position)[0]
        position += 4
        if not 0 < size <= end - position:
            raise CorruptRecord(f"snappy framing announces a block of {size} bytes, {end - position} are left")
        block = _snappy_block(view[position : position + size], left, limit)
        left -= len(block)
        parts.append(block)
        position += size
    return b"".join(parts)


def _snappy_block(block: memoryview, left: int, limit: int) -> bytearray:
    """One raw block into at most ``left`` bytes; ``limit`` is what the error names."""
    import cramjam  # noqa: PLC0415 - as above

    try:
        size = cramjam.snappy.decompress_raw_len(block)
        if size > left:
            raise DecompressedTooLarge(Codec.SNAPPY, limit)
        if size > len(block) * _SNAPPY_RATIO_MAX:
            raise CorruptRecord(f"snappy block of {len(block)} bytes announces {size}")
        out = bytearray(size)
        written = cramjam.snappy.decompress_raw_into(block, out) if size else 0
    except (cramjam.DecompressionError, ValueError) as error:
        raise CorruptRecord(f"snappy data is corrupt: {error}") from None
    if written != size:
        raise CorruptRecord(f"snappy block announces {size} bytes and has {written}")
    return out


def _decompress_frames(codec: Codec, data: bytes | bytearray | memoryview, limit: int) -> bytes:
    """lz4 and zstd: into a buffer that is tried four times larger as long as it is too small and below the limit."""
    import cramjam  # noqa: PLC0415 - as above

    view = memoryview(data)
    decoder = cramjam.lz4 if codec is Codec.LZ4 else cramjam.zstd
    capacity = max(4 * len(view), 16 * 1024)
    if codec is Codec.ZSTD:
        announced = _zstd_content_size(view)
        if announced > limit:
            raise DecompressedTooLarge(codec, limit)
        capacity = max(announced, 1) if announced >= 0 else capacity
    while True:
        capacity = min(capacity, limit)
        out = bytearray(capacity)
        try:
            size = decoder.decompress_into(view, out)
        except (cramjam.DecompressionError, ValueError) as error:
            if "failed to write whole buffer" not in str(error):
                raise CorruptRecord(f"{codec.name.lower()} data is corrupt: {error}") from None
        else:
            return bytes(memoryview(out)[:size])
        if capacity >= limit:
            raise DecompressedTooLarge(codec, limit)
        del out
        capacity = max(4 * capacity, 16 * 1024)


def _zstd_content_size(view: memoryview) -> int:
    """The content size that the first frame announces, or -1."""
    if len(view) < 6 or bytes(view[:4]) != _ZSTD_MAGIC:
        return -1
    descriptor = view[4]
    single_segment = descriptor >> 5 & 1
    size_bytes = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    if not size_bytes:
        return -1
    start = 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3]
    field = view[start : start + size_bytes]
    if len(field) < size_bytes:
        return -1
    return int.from_bytes(field, "little") + (256 if size_bytes == 2 else 0)
