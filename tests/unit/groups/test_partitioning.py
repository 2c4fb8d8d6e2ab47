"""Group ids land where every Kafka broker puts them."""

import pytest

from ottla.groups.partitioning import partition_for, string_hash


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("a", 97),
        ("hello", 99162322),
        ("console-consumer-12345", 158455506),
        ("polygenelubricants", -2147483648),
        ("grüße", 98768023),
        ("\U0001f600", 1772899),
    ],
)
def test_the_hash_is_that_of_a_java_string(text, expected):
    assert string_hash(text) == expected


def test_the_sign_bit_is_masked():
    assert partition_for("polygenelubricants", 50) == 0
    assert partition_for("", 50) == 0
    assert partition_for("hello", 50) == 99162322 % 50
    assert all(0 <= partition_for(f"group-{index}", 7) < 7 for index in range(100))
