"""Which partition of ``__consumer_offsets`` owns a group."""


def string_hash(text: str) -> int:
    """The 32-bit signed hash of a Java string: over UTF-16 units, as every Kafka broker computes it."""
    value = 0
    encoded = text.encode("utf-16-be", "surrogatepass")
    for position in range(0, len(encoded), 2):
        value = (31 * value + (encoded[position] << 8) + encoded[position + 1]) & 0xFFFFFFFF
    return value - 0x1_0000_0000 if value & 0x8000_0000 else value


def partition_for(key: str, partitions: int) -> int:
    """The coordinator partition of a group id (or transactional id); the sign bit is masked, not negated."""
    return (string_hash(key) & 0x7FFFFFFF) % partitions
