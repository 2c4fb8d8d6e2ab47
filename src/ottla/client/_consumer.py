"""The consumer's face: records of partitions in offset order, read ahead."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Literal, Self

from ottla.client._cluster import Cluster
from ottla.client._decode import ConsumerRecord, iter_batches
from ottla.client._fetcher import Fetcher, FetchSettings
from ottla.client._offsets import EARLIEST, LATEST, list_offsets
from ottla.model import TopicPartition

OffsetReset = Literal["earliest", "latest", "none"]

_RESETS: Final[dict[str, int | None]] = {"earliest": EARLIEST, "latest": LATEST, "none": None}


class Consumer:
    """Reads topics without a group. Use it as ``async with Consumer("host:port", topics=[...]) as consumer``.

    All partitions of ``topics`` are read from where ``auto_offset_reset`` says, or from ``offsets``.
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        *,
        topics: Sequence[str] = (),
        offsets: Mapping[TopicPartition, int] | None = None,
        auto_offset_reset: OffsetReset = "latest",
        isolation_level: Literal["read_uncommitted", "read_committed"] = "read_uncommitted",
        fetch_max_wait_ms: int = 500,
        fetch_min_bytes: int = 1,
        fetch_max_bytes: int = 16 * 1024 * 1024,
        max_partition_fetch_bytes: int = 4 * 1024 * 1024,
        prefetch_bytes: int = 32 * 1024 * 1024,
        check_crcs: bool = True,
        client_rack: str = "",
        client_id: str = "ottla-consumer",
    ) -> None:
        self._cluster = Cluster(bootstrap_servers, client_id=client_id)
        self._topics = tuple(topics)
        self._offsets = dict(offsets or {})
        self._reset = _RESETS[auto_offset_reset]
        self._read_committed = isolation_level == "read_committed"
        self._check_crcs = check_crcs
        self._settings = FetchSettings(
            max_wait_ms=fetch_max_wait_ms,
            min_bytes=fetch_min_bytes,
            max_bytes=fetch_max_bytes,
            partition_max_bytes=max_partition_fetch_bytes,
            stock_bytes_max=prefetch_bytes,
            read_committed=self._read_committed,
            reset_timestamp=self._reset,
            rack=client_rack,
        )
        self._fetcher: Fetcher | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._cluster)
        try:
            offsets = await self._initial_offsets()
            group = await self._stack.enter_async_context(asyncio.TaskGroup())
            self._fetcher = Fetcher(self._cluster, self._settings)
            self._fetcher.assign(offsets)
            group.create_task(self._fetcher.run(), name="consumer")
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._fetcher is not None:
            self._fetcher.stop()
        self._cluster.close()
        await self._stack.__aexit__(None, None, None)

    async def __aiter__(self) -> AsyncIterator[ConsumerRecord]:
        async for batch in self.batches():
            for record in batch:
                yield record

    async def batches(self) -> AsyncIterator[list[ConsumerRecord]]:
        """Records as they lie in the log, a list for each batch: the cheapest way to read many."""
        while True:
            batches = await self.poll(None)
            for batch in batches:
                yield batch

    async def poll(self, seconds: float | None = 0.0) -> list[list[ConsumerRecord]]:
        """The batches of the next piece that was fetched, empty if none comes within ``seconds``.

        Raises ``KafkaError`` where reading cannot go on: a partition's offset is gone and no reset was asked for, a
        batch is damaged, access is denied.
        """
        assert self._fetcher is not None, "use the consumer with `async with`"
        fetched = await self._fetcher.next(seconds)
        return [] if fetched is None else list(iter_batches(fetched, check_crcs=self._check_crcs))

    def position(self, place: TopicPartition) -> int:
        """The offset after everything ``poll`` has handed out of a partition; -1 if it is not being read."""
        assert self._fetcher is not None, "use the consumer with `async with`"
        return self._fetcher.read_position(place)

    async def partitions(self) -> list[TopicPartition]:
        """Every partition of the consumer's topics."""
        return [
            TopicPartition(name, number)
            for name in self._topics
            for number in (await self._cluster.topic(name)).partitions
        ]

    async def start_offsets(self) -> dict[TopicPartition, int]:
        """The first offset of each partition."""
        return await list_offsets(self._cluster, dict.fromkeys(await self.partitions(), EARLIEST))

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """The offset after the last record of each partition that may be read."""
        places = await self.partitions()
        return await list_offsets(self._cluster, dict.fromkeys(places, LATEST), read_committed=self._read_committed)

    def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Read these partitions, and no others, from these offsets on."""
        assert self._fetcher is not None, "use the consumer with `async with`"
        self._fetcher.assign(offsets)

    async def _initial_offsets(self) -> dict[TopicPartition, int]:
        places = [place for place in await self.partitions() if place not in self._offsets]
        # Without a reset an offset must be given; where none is, begin at the end as a new group would.
        timestamp = LATEST if self._reset is None else self._reset
        return self._offsets | await list_offsets(self._cluster, dict.fromkeys(places, timestamp))
