"""Folds what the quorum has committed into the cluster image, and tells everybody who acts on it.

Listeners are called with ``(delta, image)`` in the order they were added, one call a commit, before any answer to the
change is released: who was told "created" finds the topic here. Records inside a metadata transaction are held back
until it ends.
"""

from collections.abc import Callable, Iterable

from ottla.broker.metadata_log import MetadataBatch
from ottla.metadata.delta import ImageDelta, full_delta
from ottla.metadata.image import ClusterImage, Provenance
from ottla.metadata.record import MetadataRecord
from ottla.metadata.transaction import TransactionTracker

Listener = Callable[[ImageDelta, ClusterImage], None]


class MetadataLoader:
    """``image`` is always the newest published; ``next_offset`` the first record not folded in yet."""

    def __init__(self) -> None:
        self.image = ClusterImage()
        self.next_offset = 0
        self.transaction = TransactionTracker()
        self.records_size = 0
        """Bytes folded since the last snapshot."""
        self._listeners: list[Listener] = []
        self._held: ImageDelta | None = None

    def add_listener(self, listener: Listener) -> None:
        """Who comes late is told everything there is first."""
        self._listeners.append(listener)
        if self.image.provenance.offset >= 0:
            listener(full_delta(self.image), self.image)

    def load_snapshot(self, records: Iterable[MetadataRecord], provenance: Provenance) -> None:
        """Start from a snapshot; only before anything else was folded and anybody listens."""
        assert self.next_offset == 0, "a snapshot is only the start"
        assert not self._listeners, "nobody has been told anything yet"
        delta = ImageDelta(ClusterImage())
        for record in records:
            delta.apply(record)
        self.image = delta.finish(provenance)
        self.next_offset = provenance.offset + 1

    def fold(self, batches: Iterable[MetadataBatch]) -> None:
        """Fold committed batches, in order, and publish what came of them."""
        delta = self._held if self._held is not None else ImageDelta(self.image)
        self._held = None
        provenance = self.image.provenance
        for batch in batches:
            assert batch.base_offset == self.next_offset, "the metadata log has no holes"
            provenance = Provenance(offset=batch.next_offset - 1, epoch=batch.epoch, appended_ms=batch.timestamp)
            for offset, record in enumerate(batch.records, batch.base_offset):
                delta = self._fold_one(delta, record, provenance, offset)
            self.next_offset = batch.next_offset
            self.records_size += batch.size
        if self.transaction.is_open:
            self._held = delta
        else:
            self._publish(delta, provenance)

    def _fold_one(self, delta: ImageDelta, record: MetadataRecord, provenance: Provenance, offset: int) -> ImageDelta:
        verdict = self.transaction.observe(record)
        if verdict.begins:
            # What stands before the transaction is published whatever becomes of it.
            before = Provenance(offset=offset - 1, epoch=provenance.epoch, appended_ms=provenance.appended_ms)
            self._publish(delta, before)
            return ImageDelta(self.image)
        if verdict.aborts:
            return ImageDelta(self.image)
        delta.apply(record)
        return delta

    def _publish(self, delta: ImageDelta, provenance: Provenance) -> None:
        if provenance == self.image.provenance:
            return
        self.image = delta.finish(provenance)
        if not delta.empty:
            for listener in self._listeners:
                listener(delta, self.image)
