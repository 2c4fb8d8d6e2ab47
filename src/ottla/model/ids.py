"""Identifiers as Kafka writes them.

A ``Uuid`` is its sixteen bytes: it goes onto the wire unchanged, hashes at the speed of bytes, and prints as the
22 characters of unpadded base64url that Kafka uses in files and tools.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from random import Random
from typing import ClassVar, NamedTuple, Self


class Uuid(bytes):
    """Sixteen bytes; raises ``ValueError`` for any other length."""

    __slots__ = ()

    ZERO: ClassVar["Uuid"]
    """Stands for "no id" on the wire."""
    ONE: ClassVar["Uuid"]
    """Kafka's reserved id; the topic id of ``__cluster_metadata``."""

    def __new__(cls, raw: bytes) -> Self:
        if len(raw) != 16:
            raise ValueError(f"a uuid has 16 bytes, not {len(raw)}")
        return super().__new__(cls, raw)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the 22-character form. Raises ``ValueError`` for anything else."""
        if len(text) != 22:
            raise ValueError(f"a uuid is written with 22 base64url characters: {text!r}")
        try:
            return cls(urlsafe_b64decode(text + "=="))
        except (Base64Error, ValueError) as error:
            raise ValueError(f"not a base64url uuid: {text!r}") from error

    @classmethod
    def random(cls, rng: Random) -> Self:
        """A version-4 uuid whose text never begins with a dash (command lines would read it as an option)."""
        while True:
            raw = bytearray(rng.randbytes(16))
            raw[6] = raw[6] & 0x0F | 0x40
            raw[8] = raw[8] & 0x3F | 0x80
            candidate = cls(bytes(raw))
            if not str(candidate).startswith("-"):
                return candidate

    def __str__(self) -> str:
        return urlsafe_b64encode(self)[:22].decode("ascii")

    def __repr__(self) -> str:
        return f"Uuid({str(self)!r})"


Uuid.ZERO = Uuid(bytes(16))
Uuid.ONE = Uuid(bytes(15) + b"\x01")


class TopicPartition(NamedTuple):
    """A partition by name; prints as its directory is called."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class TopicIdPartition(NamedTuple):
    """A partition by topic id and name: the id tells a topic from its successor of the same name."""

    topic_id: Uuid
    topic: str
    partition: int

    @property
    def topic_partition(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)
