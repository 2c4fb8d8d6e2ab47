"""Observers: they ask again and again for what must never go back."""

from __future__ import annotations

import time
from collections.abc import Sequence

from chaos.history import Key, Watch
from chaos.stage import Stage, Worker
from harness import wire
from harness.raw import NONE, ProtocolFailure, RawConnection
from ottla.wire.messages.list_offsets_request import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.wire.messages.offset_fetch_request import OffsetFetchRequest, OffsetFetchRequestTopic

LATEST = -1
PAUSE_SECONDS = 0.1


class Probe(Worker):
    """Looks, notes what it saw, looks again."""

    def __init__(self, stage: Stage, name: str, keys: Sequence[Key]) -> None:
        super().__init__(stage, name)
        self.keys = list(keys)
        self.pause = PAUSE_SECONDS

    def session(self) -> None:
        try:
            with self.stage.connect() as connection:
                while self.wait():
                    invoked = self.invoke("watch")
                    try:
                        seen = self.look(connection)
                    except (OSError, ProtocolFailure) as failure:
                        self.history.complete(invoked, "fail", err=str(failure))
                        raise
                    self.history.complete(invoked, "ok", seen)
        except (OSError, ProtocolFailure):
            time.sleep(PAUSE_SECONDS)

    def look(self, connection: RawConnection) -> list[Watch]:
        """Ask once. Raises `OSError` and `ProtocolFailure`; what the broker cannot say now is left out."""
        raise NotImplementedError


class Ends(Probe):
    """The ends of partitions, for readers of everything and for those of committed data, and the leader epoch."""

    def look(self, connection: RawConnection) -> list[Watch]:
        isolation = self.dice.randint(0, 1)
        return [watch for key in self.keys for watch in self._end(connection, key, isolation)]

    def _end(self, connection: RawConnection, key: Key, isolation: int) -> list[Watch]:
        topic, partition = self.stage.place(key)
        wanted = ListOffsetsPartition(partition_index=partition, current_leader_epoch=-1, timestamp=LATEST)
        request = ListOffsetsRequest(
            replica_id=-1,
            isolation_level=isolation,
            topics=[ListOffsetsTopic(name=topic, partitions=[wanted])],
        )
        found = wire.call(connection, request, 6).topics[0].partitions[0]
        if found.error_code != NONE:
            return []
        end = Watch(("end", "lso")[isolation], key, found.offset)
        return [end, Watch("epoch", key, found.leader_epoch)] if found.leader_epoch >= 0 else [end]


class Committed(Probe):
    """The committed offsets of a group."""

    def __init__(self, stage: Stage, name: str, keys: Sequence[Key], group: str) -> None:
        super().__init__(stage, name, keys)
        self.group = group

    def look(self, connection: RawConnection) -> list[Watch]:
        topic = self.stage.place(self.keys[0])[0]
        partitions = [self.stage.place(key)[1] for key in self.keys]
        topics = [OffsetFetchRequestTopic(name=topic, partition_indexes=partitions)]
        # A commit inside a transaction is answered before its offsets are in force: they are asked for, not guessed.
        request = OffsetFetchRequest(group_id=self.group, topics=topics, require_stable=True)
        answer = wire.call(connection, request, 7)
        if answer.error_code != NONE:
            return []
        return [
            Watch(committed_of(self.group), self.stage.key_of(topic, found.partition_index), found.committed_offset)
            for found in answer.topics[0].partitions
            if found.error_code == NONE and found.committed_offset >= 0
        ]


def committed_of(group: str) -> str:
    """What is watched when a group's offsets are."""
    return f"committed {group}"
