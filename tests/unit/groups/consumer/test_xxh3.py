"""XXH3, against values computed by the library that Apache Kafka uses (hash4j 0.22)."""

import pytest

from ottla.groups.consumer.xxh3 import xxh3_64

# Of the bytes (7 * i + 3) mod 256, as Java prints them: one for each way the algorithm treats a length.
FROM_JAVA = {
    0: 3244421341483603138,
    1: 1433843135270481901,
    3: -6266602912829716452,
    4: 7895465118229274323,
    8: 6941064856527638883,
    9: -72226354546400344,
    16: -5131753158909839995,
    17: 8163341949877205007,
    128: 7440608504995537343,
    129: -4150982730466284604,
    240: 7229805477010515663,
    241: -8364630114420064745,
    1024: -7241394453710343503,
    1025: -9192937061388044938,
    5000: 8762507191635236893,
}


@pytest.mark.parametrize(("size", "expected"), FROM_JAVA.items())
def test_hashes_as_java_does(size, expected):
    assert xxh3_64(bytes((7 * i + 3) % 256 for i in range(size))) == expected % 2**64


def test_every_byte_counts():
    for size in (1, 7, 12, 100, 200, 300, 2_000):
        data = bytearray(size)
        plain = xxh3_64(bytes(data))
        for position in range(0, size, max(1, size // 50)):
            data[position] ^= 1
            assert xxh3_64(bytes(data)) != plain
            data[position] ^= 1
