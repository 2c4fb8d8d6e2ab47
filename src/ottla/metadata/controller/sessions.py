"""When each broker was last heard of. Soft state: a new controller starts it afresh."""

from msgspec import Struct


class BrokerSession(Struct, kw_only=True):
    epoch: int
    last_contact_ms: int
    metadata_offset: int = -1
    shutdown_offset: int | None = None
    """While it shuts down: the metadata offset every other broker has to reach before it may go."""


class BrokerSessions:
    """One session a broker that sent a heartbeat, or was unfenced when this controller came up.

    The broker of the controller's own process never runs out of time: where the controller runs, it does too, and a
    machine that was suspended must not wake up by fencing itself.
    """

    def __init__(self, timeout_ms: int, *, own_broker_id: int) -> None:
        self._timeout_ms = timeout_ms
        self._own_broker_id = own_broker_id
        self._sessions: dict[int, BrokerSession] = {}

    def touch(self, broker_id: int, epoch: int, now_ms: int, *, metadata_offset: int = -1) -> BrokerSession:
        session = self._sessions.get(broker_id)
        if session is None or session.epoch != epoch:
            session = self._sessions[broker_id] = BrokerSession(epoch=epoch, last_contact_ms=now_ms)
        session.last_contact_ms = now_ms
        session.metadata_offset = max(session.metadata_offset, metadata_offset)
        return session

    def forget(self, broker_id: int) -> None:
        self._sessions.pop(broker_id, None)

    def session(self, broker_id: int) -> BrokerSession | None:
        return self._sessions.get(broker_id)

    def is_valid(self, broker_id: int, epoch: int, now_ms: int) -> bool:
        session = self._sessions.get(broker_id)
        return session is not None and session.epoch == epoch and now_ms < session.last_contact_ms + self._timeout_ms

    def expired(self, now_ms: int) -> list[int]:
        """Brokers whose session has run out, the longest silent first."""
        silent = [
            (session.last_contact_ms, broker_id)
            for broker_id, session in self._sessions.items()
            if broker_id != self._own_broker_id and now_ms >= session.last_contact_ms + self._timeout_ms
        ]
        return [broker_id for _, broker_id in sorted(silent)]

    def next_expiry(self) -> int | None:
        contacts = (
            session.last_contact_ms for broker_id, session in self._sessions.items() if broker_id != self._own_broker_id
        )
        earliest = min(contacts, default=None)
        return None if earliest is None else earliest + self._timeout_ms
