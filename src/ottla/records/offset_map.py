"""The last offset of every key in a part of a log: what compaction judges records by. Its size is bounded by count."""

from hashlib import blake2b
from typing import Final

from ottla.records.batch import BatchHeader
from ottla.records.outline import outline

__all__ = ["OffsetMap"]

KEY_BYTES_MAX: Final = 32
"""Longer keys stand in the map by a digest of as many bytes and one more, so that it is mistaken for no key."""


class OffsetMap:
    """The last offset of every key from ``start`` to ``latest_offset``; it takes ``entries_max`` keys."""

    __slots__ = ("_offsets", "entries_max", "latest_offset", "start")

    def __init__(self, entries_max: int, start: int) -> None:
        self.entries_max = entries_max
        self.start = start
        self.latest_offset = -1
        """All records up to here are in the map; -1: none are."""
        self._offsets: dict[bytes | None, int] = {}

    def __len__(self) -> int:
        return len(self._offsets)

    def index(self, header: BatchHeader, body: bytes) -> bool:
        """Take in a batch that was not aborted; false where the map got full within it, which then does not count."""
        offsets, keys, _, _ = outline(header, body)
        if not self._put(_entries_of(keys), offsets):
            return False
        self.pass_over(header.last_offset)
        return True

    def _put(self, keys: list[bytes | None], offsets: list[int]) -> bool:
        known = self._offsets
        if offsets and offsets[0] >= self.start and len(known) + len(keys) <= self.entries_max and None not in keys:
            known.update(zip(keys, offsets, strict=True))
            return True
        for key, offset in zip(keys, offsets, strict=True):
            if key is not None and offset >= self.start:
                if len(known) >= self.entries_max:
                    return False
                known[key] = offset
        return True

    def pass_over(self, offset: int) -> None:
        """Nothing up to ``offset`` is left to take in."""
        if offset >= self.start:
            self.latest_offset = max(self.latest_offset, offset)

    def survivors(self, offsets: list[int], keys: list[bytes | None]) -> list[int]:
        """The numbers of the records that no later one of the same key replaces; records without a key do not stay."""
        known = self._offsets.get
        kept = [
            index
            for index, (key, offset) in enumerate(zip(_entries_of(keys), offsets, strict=True))
            if known(key, -1) <= offset
        ]
        if None in keys or offsets[-1] > self.latest_offset:
            return self._with_unmapped(kept, offsets, keys)
        return kept

    def _with_unmapped(self, kept: list[int], offsets: list[int], keys: list[bytes | None]) -> list[int]:
        """Of what the map has not come to, everything stays."""
        held, latest = set(kept), self.latest_offset
        return [
            index
            for index, offset in enumerate(offsets)
            if offset > latest or (index in held and keys[index] is not None)
        ]


def _entry_of(key: bytes) -> bytes:
    return b"#" + blake2b(key, digest_size=KEY_BYTES_MAX).digest()


def _entries_of(keys: list[bytes | None]) -> list[bytes | None]:
    """How the keys stand in the map."""
    if max(map(len, filter(None, keys)), default=0) > KEY_BYTES_MAX:
        return [_entry_of(key) if key is not None and len(key) > KEY_BYTES_MAX else key for key in keys]
    return keys
