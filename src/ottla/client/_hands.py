"""What the application holds: the records it was given last, and how far it is with them.

Who iterates over records is done with one when asking for the next; who takes batches or lists is done with them when
coming for more. Only what was done with is committed by itself; what was handed out counts as position.

Iteration costs nothing a record: progress is read off the list's iterator when somebody wants to know, and a list whose
partition is taken away is emptied, which ends its iteration.
"""

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from ottla.client._decode import ConsumerRecord, Fetched, RecordBatch, iter_batches, open_batch
from ottla.client._fetcher import Fetcher
from ottla.client._partitions import Reading
from ottla.records.batch import BatchHeader
from ottla.wire.errors import KafkaError

_NO_MORE: Final[Iterator[RecordBatch]] = iter(())
BREATH_SECONDS: Final = 0.005
"""How long records are handed out without letting the event loop read ahead."""


class Hands:
    """Takes pieces from the fetcher and gives them out as batches, records or lists of records."""

    def __init__(self, fetcher: Fetcher, *, check_crcs: bool, make: Callable[..., Any]) -> None:
        self._fetcher = fetcher
        self._check_crcs = check_crcs
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._piece: Iterator[RecordBatch] | None = None
        self._only: tuple[Fetched, BatchHeader] | None = None
        """What the piece begins with, where that is an only batch."""
        self._reading: Reading | None = None
        self._piece_end = -1
        self._records: list[ConsumerRecord] = []
        self._iterator: Iterator[ConsumerRecord] = iter(self._records)
        self._batch: RecordBatch | None = None
        self._stepwise = False
        """Whether the application takes the records of ``_iterator`` one by one."""
        self._open: set[Reading] = set()
        """Readings of which something was handed out since the application last came."""
        self._waiting = False
        self._seen = (self._loop.time(), 0)
        self._active = asyncio.Event()
        self._breathed_at = self._loop.time()
        fetcher.dropped = self._drop

    async def batch(self, seconds: float | None) -> RecordBatch | None:
        """The next batch; ``None`` if none comes within ``seconds``. Raises ``KafkaError``."""
        left = self._come()
        if not left or self._batch is None or self._reading is None:
            return await self._next_batch(seconds)
        # Somebody iterated before and now wants batches: what is left of that comes first.
        rest = self._batch.tail(len(self._batch) - left)
        self._records, self._iterator = [], iter(())
        self._reading.position = rest.next_offset
        self._open.add(self._reading)
        return rest

    def batch_at_hand(self) -> RecordBatch | None:
        """``batch`` without waiting, where the piece that ``batch`` has begun holds another. Raises ``KafkaError``."""
        if self._piece is None or self._records:
            return None
        self._come()
        return self._open_batch()

    def more_batches(self) -> Iterator[RecordBatch]:
        """The rest of the piece that ``batch`` has begun."""
        while (batch := self._open_batch()) is not None:
            yield batch

    async def records(self, seconds: float | None) -> Iterator[ConsumerRecord] | None:
        """An iterator over what comes next, to be used up before this is called again."""
        if self._stepwise and self._left():
            if self._loop.time() - self._breathed_at > BREATH_SECONDS:
                await self._breathe()
            if self._left():
                return self._iterator
        if not self._come():
            batch = await self._next_batch(seconds)
            if batch is None:
                return None
            self._hold(batch)
        self._stepwise = True
        return self._iterator

    async def many(self, count: int, seconds: float | None) -> list[ConsumerRecord]:
        """Up to ``count`` records: all that are at hand, waiting up to ``seconds`` for the first."""
        self._come()
        taken: list[ConsumerRecord] = []
        while len(taken) < count:
            if not self._left():
                batch = await self._next_batch(0.0 if taken else seconds)
                if batch is None:
                    break
                self._hold(batch)
            reading = self._reading
            taken += islice(self._iterator, count - len(taken))
            if reading is not None:
                self._open.add(reading)
                self._update_position(reading, self._left())
        return taken

    def settle(self) -> None:
        """Bring the position of what is being iterated over up to date, and what of it is finished."""
        reading = self._reading
        if reading is None or not self._records:
            return
        left = self._left()
        self._update_position(reading, left)
        if self._stepwise:
            yielded = len(self._records) - left
            reading.finished = self._records[max(0, yielded - 1)].offset
            self._open.discard(reading)

    def finish(self) -> None:
        """The application is done with everything it was handed."""
        self.settle()
        for reading in self._fetcher.readings.all():
            reading.finished = reading.position
        self._records, self._iterator, self._reading, self._piece, self._only = [], iter(()), None, None, None

    def idle_seconds(self) -> float:
        """How long the application has not come, nor taken a record it was offered."""
        now, left = self._loop.time(), self._left()
        if self._waiting or left != self._seen[1]:
            self._seen = (now, left)
        return now - self._seen[0]

    async def wait_active(self) -> None:
        """Until the application comes."""
        if not self._waiting:
            self._active.clear()
            await self._active.wait()

    def _come(self) -> int:
        """The application comes for more: it is done with what it had, but for what it has not taken yet. How many
        records that are.
        """
        left = self._left()
        self._seen = (self._loop.time(), left)
        self._active.set()
        if self._reading is not None and self._records:
            self._update_position(self._reading, left)
            self._open.add(self._reading)
        self._stepwise = False
        for reading in self._open:
            reading.finished = reading.position
        self._open.clear()
        return left

    async def _next_batch(self, seconds: float | None) -> RecordBatch | None:
        self._records = []
        self._iterator = iter(self._records)
        while True:
            batch = self._open_batch()
            if batch is not None:
                return batch
            if self._loop.time() - self._breathed_at > BREATH_SECONDS:
                await self._breathe()
            got = self._fetcher.at_hand()
            if got is None:
                self._waiting = True
                self._active.set()
                try:
                    got = await self._fetcher.arrival(seconds)
                finally:
                    self._waiting = False
                    self._breathed_at = self._loop.time()
                    self._seen = (self._breathed_at, 0)
            if got is None:
                return None
            self._reading, fetched = got
            self._piece_end = fetched.next_offset
            if fetched.only is None:
                self._only = None
                self._piece = iter_batches(fetched, check_crcs=self._check_crcs, make=self._make)
            else:
                self._only, self._piece = (fetched, fetched.only), _NO_MORE

    def _open_batch(self) -> RecordBatch | None:
        """The next batch of the piece at hand."""
        reading = self._reading
        if self._piece is None or reading is None:
            return None
        try:
            only, self._only = self._only, None
            if only is None:
                batch = next(self._piece, None)
            else:
                batch = open_batch(*only, check_crcs=self._check_crcs, make=self._make)
        except KafkaError:
            # From the damaged batch on it is fetched again: another answer may be whole.
            self._piece = self._reading = None
            if self._fetcher.readings.current(reading):
                self._fetcher.readings.put(reading.anew())
                self._fetcher.changed()
            raise
        if batch is None:
            if reading not in self._open:
                reading.finished = self._piece_end
            reading.position = self._piece_end
            self._piece = self._reading = None
            return None
        reading.position = batch.next_offset
        self._open.add(reading)
        return batch

    async def _breathe(self) -> None:
        """Give the event loop its turn: it has not had one for long."""
        await asyncio.sleep(0)
        self._breathed_at = self._loop.time()

    def _hold(self, batch: RecordBatch) -> None:
        self._batch = batch
        self._records = batch.records
        self._iterator = iter(self._records)

    def _left(self) -> int:
        left: int = self._iterator.__length_hint__()  # type: ignore[attr-defined]  # a list's iterator knows
        return left

    def _update_position(self, reading: Reading, left: int) -> None:
        if left:
            reading.position = self._records[-left].offset
        elif self._batch is not None:
            reading.position = self._batch.next_offset

    def _drop(self) -> None:
        """Readings have gone: what is left of them is not given out."""
        self._open = {reading for reading in self._open if self._fetcher.readings.current(reading)}
        if self._reading is not None and not self._fetcher.readings.current(self._reading):
            self._records.clear()
            self._piece = self._only = self._reading = None
