"""Who looks at what a consumer hands out and commits: tracing, most often."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from ottla.client._decode import ConsumerRecord, RecordBatch
from ottla.client._offsets import OffsetAndMetadata
from ottla.model import TopicPartition

logger: Final = logging.getLogger("ottla.client")


class ConsumerInterceptor(Protocol):
    """Sees every record on its way in, and what was committed. What it raises is logged, and nothing else happens.

    With a blocking consumer ``on_consume`` runs in the thread that takes the records, ``on_commit`` in the client's.
    """

    def on_consume(self, record: ConsumerRecord) -> ConsumerRecord:
        """The record to hand out instead, most often the same. Called once, as the application is given it; those of
        a batch that is read as columns are not made, so nobody sees them.
        """
        ...

    def on_commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """These offsets are stored for the group."""
        ...


class Interceptors:
    """All of them, in order."""

    def __init__(self, interceptors: Sequence[ConsumerInterceptor]) -> None:
        self._all = tuple(interceptors)

    def consumed(self, records: Iterable[ConsumerRecord]) -> Iterable[ConsumerRecord]:
        """The records to hand out, each looked at when it is taken."""
        return map(self._consume, records) if self._all else records

    def batch(self, batch: RecordBatch) -> RecordBatch:
        """A batch whose records are looked at when they are made."""
        return batch.through(self._consume) if self._all else batch

    def committed(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        for interceptor in self._all:
            try:
                interceptor.on_commit(offsets)
            except Exception:
                logger.exception("an interceptor failed in on_commit")

    def _consume(self, record: ConsumerRecord) -> ConsumerRecord:
        for interceptor in self._all:
            try:
                record = interceptor.on_consume(record)
            except Exception:
                logger.exception("an interceptor failed in on_consume")
        return record
