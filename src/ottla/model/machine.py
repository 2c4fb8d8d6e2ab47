"""The contract of a replicated machine (controller, groups, transactions ...).

A command *decides*: it reads the machine's state and returns a ``Decision``, changing nothing that must survive. The
driver appends the records to the machine's log, ``apply`` folds them into the state, and the answers are released
once the log has committed them. Recovery is replaying the log through ``apply``: there is no other way in.
"""

from typing import Generic, Protocol, TypeVar

from msgspec import Struct

RecordT = TypeVar("RecordT")
RecordT_contra = TypeVar("RecordT_contra", contravariant=True)
ResponseT = TypeVar("ResponseT")
ResponseT_co = TypeVar("ResponseT_co", covariant=True)


class Reply(Struct, frozen=True, kw_only=True):
    """The answer to a command that was parked earlier under ``token`` (a join that waited for its rebalance)."""

    token: int
    response: object


class Decision(Struct, Generic[RecordT, ResponseT], frozen=True, kw_only=True):
    """What a command wants written, and what is answered once it is committed.

    ``records`` are written in order as one atomic batch where ``atomic``. ``response`` is ``None`` where the command
    parked itself under the token it was given; a later decision then carries its ``Reply``.
    """

    records: tuple[RecordT, ...] = ()
    response: ResponseT | None = None
    replies: tuple[Reply, ...] = ()
    atomic: bool = True


class ReplicatedMachine(Protocol[RecordT_contra]):
    """What a driver needs of a machine besides its commands."""

    def apply(self, record: RecordT_contra, offset: int) -> None:
        """Fold one record, written at ``offset``, into the state: the only mutator of replicated state."""
        ...

    def next_deadline(self) -> int | None:
        """Wall-clock milliseconds at which ``on_deadline`` wants to run, if any."""
        ...
