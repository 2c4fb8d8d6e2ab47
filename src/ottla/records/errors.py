"""The one error of damaged records; travels to the client as CORRUPT_MESSAGE."""

from ottla.wire.errors import ErrorCode, KafkaError


class CorruptRecord(KafkaError):
    """Bytes that are not what their header promises: length, magic, checksum, count or compression."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.CORRUPT_MESSAGE, message)
