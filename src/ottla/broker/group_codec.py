"""The records of ``__consumer_offsets`` as a driver of group shards writes and reads them."""

from ottla.groups.records import ShardRecord, TransactionMarker, decode_record, encode_record


class GroupCodec:
    """``MachineCodec`` of group shards."""

    __slots__ = ()

    def encode(self, record: ShardRecord, /) -> tuple[bytes, bytes | None]:
        return encode_record(record)

    def decode(self, key: bytes, value: bytes | None, producer_id: int, /) -> ShardRecord | None:
        return decode_record(key, value, producer_id)

    def decode_marker(self, producer_id: int, committed: bool, /) -> ShardRecord | None:
        return TransactionMarker(producer_id, committed)
