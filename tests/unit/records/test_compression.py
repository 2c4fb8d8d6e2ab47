"""Codecs: round trips, foreign framings, hostile input, bombs."""

import random
import subprocess
import sys
import zlib
from struct import pack

import cramjam
import pytest

from ottla.records.batch import Codec, CorruptRecord
from ottla.records.compression import CompressionLevels, DecompressedTooLarge, compress, decompress

CODECS = [codec for codec in Codec if codec]
RNG = random.Random(3)
PLAIN = [
    b"",
    b"a",
    b"hello " * 10,
    bytes(70_000),
    RNG.randbytes(200_000),
    b"".join(b"line %d %d\n" % (n, n * n) for n in range(30_000)),
]


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("plain", PLAIN, ids=len)
def test_round_trip_at_the_exact_limit(codec: Codec, plain: bytes) -> None:
    packed = compress(codec, plain)
    assert decompress(codec, packed, len(plain)) == plain
    assert decompress(codec, memoryview(bytearray(packed)), 10**7) == plain
    if plain:
        with pytest.raises(DecompressedTooLarge):
            decompress(codec, packed, len(plain) - 1)


@pytest.mark.parametrize(
    ("codec", "levels"),
    [(Codec.GZIP, (1, 6, 9)), (Codec.LZ4, (1, 3, 9, 12, 17)), (Codec.ZSTD, (-5, 1, 3, 19))],
)
def test_levels(codec: Codec, levels: tuple[int, ...]) -> None:
    for level in levels:
        assert decompress(codec, compress(codec, PLAIN[-1], level)) == PLAIN[-1]
    sizes = [len(compress(codec, PLAIN[-1], level)) for level in levels]
    assert min(sizes) < max(sizes)


def test_levels_by_codec() -> None:
    levels = CompressionLevels(gzip=2, lz4=4, zstd=6)
    assert [levels.of(codec) for codec in Codec] == [None, 2, None, 4, 6]


def test_raw_snappy_is_read() -> None:
    packed = bytes(cramjam.snappy.compress_raw(PLAIN[-1]))
    assert decompress(Codec.SNAPPY, packed) == PLAIN[-1]
    with pytest.raises(DecompressedTooLarge):
        decompress(Codec.SNAPPY, packed, 1000)


def test_snappy_streams_that_follow_each_other_are_read() -> None:
    assert decompress(Codec.SNAPPY, compress(Codec.SNAPPY, b"one") + compress(Codec.SNAPPY, b"two")) == b"onetwo"


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.LZ4, Codec.ZSTD])
def test_frames_that_follow_each_other_share_the_limit(codec: Codec) -> None:
    packed = compress(codec, bytes(50_000)) * 3
    assert decompress(codec, packed, 150_000) == bytes(150_000)
    with pytest.raises(DecompressedTooLarge):
        decompress(codec, packed, 149_999)


def test_other_lz4_frames_are_read() -> None:
    for linked in (True, False):
        compressor = cramjam.lz4.Compressor(level=4, content_checksum=True, block_linked=linked)
        compressor.compress(PLAIN[-1])
        assert decompress(Codec.LZ4, bytes(compressor.finish())) == PLAIN[-1]


LIES = {
    "framing shorter than a length": b"\x82SNAPPY\x00" + pack(">ii", 1, 1) + b"\0\0",
    "negative block": b"\x82SNAPPY\x00" + pack(">iii", 1, 1, -5) + b"abc",
    "block beyond the end": b"\x82SNAPPY\x00" + pack(">iii", 1, 1, 1000) + b"abc",
    "block of much from little": b"\x82SNAPPY\x00" + pack(">iii", 1, 1, 5) + b"\xff\xff\xff\x07\x00",
    "raw block of 4 GiB": b"\xff\xff\xff\xff\x0f",
    "raw block without length": b"\xff\xff\xff\xff\xff\xff",
}


@pytest.mark.parametrize("packed", LIES.values(), ids=LIES.keys())
def test_lying_snappy_is_corrupt(packed: bytes) -> None:
    with pytest.raises(CorruptRecord):
        decompress(Codec.SNAPPY, packed, 10**9)


@pytest.mark.parametrize("codec", CODECS)
def test_damage_raises_nothing_but_corrupt_record(codec: Codec) -> None:
    rng = random.Random(5)
    packed = compress(codec, PLAIN[2] * 20)
    for round_number in range(300):
        damaged = bytearray(packed)
        if round_number % 3 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        for _ in range(rng.randrange(0, 4)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            decompress(codec, damaged, 100_000)
        except CorruptRecord:
            pass


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.LZ4, Codec.ZSTD])
def test_truncation_is_corrupt(codec: Codec) -> None:
    packed = compress(codec, PLAIN[-1])
    for cut in (1, 5, len(packed) // 2):
        with pytest.raises(CorruptRecord):
            decompress(codec, packed[:-cut])


def test_a_zstd_window_beyond_the_cap_is_refused() -> None:
    # Frame header: no content size, window descriptor 2^28, then one raw block of three bytes.
    frame = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([(28 - 10) << 3]) + b"\x19\x00\x00abc"
    with pytest.raises(CorruptRecord):
        decompress(Codec.ZSTD, frame)
    permitted = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([(27 - 10) << 3]) + b"\x19\x00\x00abc"
    assert decompress(Codec.ZSTD, permitted) == b"abc"


def test_announced_zstd_content_is_believed_only_up_to_the_limit() -> None:
    frame = b"\x28\xb5\x2f\xfd" + b"\xc0" + bytes([(20 - 10) << 3]) + pack("<Q", 2**40) + b"\x01\x00\x00"
    with pytest.raises(DecompressedTooLarge):
        decompress(Codec.ZSTD, frame, 10**6)


BOMB = """
import resource, sys, time
from ottla.records.compression import Codec, DecompressedTooLarge, decompress
import cramjam
codec, cap = Codec(int(sys.argv[1])), 32 << 20
packed = sys.stdin.buffer.read()
decompress(codec, bytes.fromhex(sys.argv[2]), 100)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
try:
    decompress(codec, packed, cap)
except DecompressedTooLarge:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / cap, time.process_time() - start)
"""


@pytest.mark.parametrize("codec", CODECS)
def test_bombs_are_refused_soon_and_cheaply(codec: Codec) -> None:
    """A gigabyte of nothing against a cap of 32 MiB: at most twice the cap of memory, at most a second of work."""
    piece = bytes(64 << 20)
    if codec is Codec.SNAPPY:
        block = compress(codec, piece[: 1 << 20])
        packed = block + block[16:] * 63
    elif codec is Codec.GZIP:
        packed = zlib.compress(piece, 9, 31) * 16
    else:
        packed = compress(codec, piece) * 16
    done = subprocess.run(
        [sys.executable, "-c", BOMB, str(int(codec)), compress(codec, b"warm").hex()],
        input=packed,
        capture_output=True,
        check=True,
        timeout=60,
    )
    memory, seconds = map(float, done.stdout.split())
    assert memory <= 2
    assert seconds <= 1
