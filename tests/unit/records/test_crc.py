"""The checksum function, however it was loaded."""

import crc32c as package

from ottla.records.crc import crc32c


def test_it_is_the_package_s() -> None:
    assert crc32c(b"123456789") == 0xE3069283 == package.crc32c(b"123456789")
    assert crc32c(memoryview(bytearray(b"6789")), crc32c(b"12345")) == 0xE3069283
