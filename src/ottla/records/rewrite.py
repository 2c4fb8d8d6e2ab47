"""A batch written again around other record bytes: what recompression leaves of a header."""

from ottla.records.batch import BATCH_OVERHEAD, CODEC_MASK, HEADER, LENGTH_OVERHEAD, BatchHeader, Codec, checksum


def rewrite_batch(header: BatchHeader, packed: bytes | bytearray | memoryview, codec: Codec) -> bytearray:
    """The batch of ``header`` with ``packed``, its records compressed by ``codec``; length and checksum made anew.

    The records' own deltas are untouched, so offsets, sequences and timestamps stay what they were.
    """
    out = bytearray(BATCH_OVERHEAD + len(packed))
    out[BATCH_OVERHEAD:] = packed
    new_header = header._replace(
        batch_length=len(out) - LENGTH_OVERHEAD, attributes=header.attributes & ~CODEC_MASK | codec, crc=0
    )
    HEADER.pack_into(out, 0, *new_header)
    HEADER.pack_into(out, 0, *new_header._replace(crc=checksum(out)))
    return out
