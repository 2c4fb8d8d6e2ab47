"""Metadata transactions (KIP-868): records between Begin and End count together, or, after Abort, not at all."""

from typing import Final, NamedTuple

from ottla.metadata.delta import InconsistentLog
from ottla.metadata.record import MetadataRecord


class Verdict(NamedTuple):
    """What a record is to the transaction around it."""

    begins: bool = False
    ends: bool = False
    aborts: bool = False


_PLAIN: Final = Verdict()


class TransactionTracker:
    """Follows the log in order. ``is_open``: it stands inside a transaction."""

    __slots__ = ("is_open",)

    def __init__(self) -> None:
        self.is_open = False

    def copy(self) -> "TransactionTracker":
        copied = TransactionTracker()
        copied.is_open = self.is_open
        return copied

    def observe(self, record: MetadataRecord) -> Verdict:
        """Raises ``InconsistentLog`` for a marker out of place."""
        match record.message.API_KEY:
            case 23:  # Begin
                self._require(open_=False)
                self.is_open = True
                return Verdict(begins=True)
            case 24:  # End
                self._require(open_=True)
                self.is_open = False
                return Verdict(ends=True)
            case 25:  # Abort
                self._require(open_=True)
                self.is_open = False
                return Verdict(aborts=True)
        return _PLAIN

    def _require(self, *, open_: bool) -> None:
        if self.is_open != open_:
            raise InconsistentLog("a metadata transaction begins inside another, or ends where none is open")
