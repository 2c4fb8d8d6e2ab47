"""What the log cleaner goes by: the ``log.cleaner.*`` keys in force, which may change while the broker runs."""

from collections.abc import Mapping
from typing import Any, Final, Self

from msgspec import Struct

from ottla.config.definitions import require_broker_key

BYTES_PER_ENTRY: Final = 24
"""What a key takes in Kafka's map, by which log.cleaner.dedupe.buffer.size counts keys."""
DEDUPE_BYTES_MAX: Final = 2**31 - 1
"""For each thread; more is not used."""
IO_BYTES_MIN: Final = 1024


class CleanerConfig(Struct, frozen=True, kw_only=True):
    """Bytes and milliseconds; ``dedupe_buffer_bytes`` and ``io_buffer_bytes`` are shared by all threads."""

    enabled: bool
    threads: int
    backoff_ms: int
    dedupe_buffer_bytes: int
    load_factor: float
    io_buffer_bytes: int
    bytes_per_second_max: float
    decompressed_bytes_max: int

    @classmethod
    def resolve(cls, broker: Mapping[str, str]) -> Self:
        """From the ``broker`` keys that are set, static and dynamic merged. Raises ``ConfigError``."""

        def read(name: str) -> Any:
            key = require_broker_key(name)
            return key.parse(broker.get(name, key.default))

        return cls(
            enabled=read("log.cleaner.enable"),
            threads=read("log.cleaner.threads"),
            backoff_ms=read("log.cleaner.backoff.ms"),
            dedupe_buffer_bytes=read("log.cleaner.dedupe.buffer.size"),
            load_factor=read("log.cleaner.io.buffer.load.factor"),
            io_buffer_bytes=read("log.cleaner.io.buffer.size"),
            bytes_per_second_max=read("log.cleaner.io.max.bytes.per.second"),
            decompressed_bytes_max=read("ottla.batch.decompression.max.bytes"),
        )

    @property
    def entries_max(self) -> int:
        """Keys that the map of one thread takes."""
        size = min(self.dedupe_buffer_bytes // max(self.threads, 1), DEDUPE_BYTES_MAX)
        return int(size // BYTES_PER_ENTRY * self.load_factor)

    @property
    def io_bytes(self) -> int:
        """Read, and gathered to be written, at once by one thread."""
        return max(self.io_buffer_bytes // max(self.threads, 1) // 2, IO_BYTES_MIN)
