"""Late requests (KAFKA-17754): one attempt of a request is held in the network, the next one wins, and the first
arrives in the middle of a later transaction. It must change nothing: no torn transaction, no aborted record to be seen,
no offset set back.

The client is of transaction version 2, where every transaction has an epoch of its own. Older clients have no defence,
with Apache Kafka neither.
"""

from __future__ import annotations

from collections.abc import Sequence

from chaos.history import NEMESIS, Key, Send, Watch, make_record
from chaos.stage import Stage, Worker
from chaos.workloads.probes import committed_of
from harness.proxy import Held
from harness.raw import ProtocolFailure
from harness.transactional import TransactionalProducer

LATE_GROUP = "chaos-late"
PRODUCE, END_TXN, TXN_OFFSET_COMMIT = 0, 26, 28
APIS = (PRODUCE, END_TXN, TXN_OFFSET_COMMIT)
HELD_SHARE, LOST_ANSWER_SHARE, COMMITTED_SHARE = 0.6, 0.2, 0.6
LATER_TRANSACTIONS_MAX = 2


class LateTransactor(Worker):
    """One transaction after another, each of which may leave a request behind for a later one to stumble over."""

    def __init__(self, stage: Stage, name: str, keys: Sequence[Key]) -> None:
        super().__init__(stage, name)
        self.keys = list(keys)
        self.delivered_late = 0
        self._offset = 0
        self._due: list[tuple[int, Held]] = []
        self._number = 0

    def session(self) -> None:
        producer = TransactionalProducer(self.stage.connect, f"chaos-{self.name}")
        try:
            producer.init(LATE_GROUP)
            while self.wait():
                self._transact(producer)
        except ProtocolFailure as failure:
            self.wrong_answer(f"transaction {self._number}: {failure}")
        finally:
            producer.close()

    def _transact(self, producer: TransactionalProducer) -> None:
        self._number += 1
        self._disturb()
        sends = [self.stage.new_send(key) for key in self.keys]
        invoked = self.invoke("txn", sends)
        commit = self.dice.random() < COMMITTED_SHARE
        self._offset += 1
        moment = self.dice.randint(0, 3)
        done: list[Send] = []
        asked = None
        try:
            for step, send in enumerate(sends):
                self._deliver(moment == step)
                record = make_record(send.key, int(send.value), self.name)
                done.append(Send(send.key, producer.produce(self.stage.place(send.key), [record]), send.value))
            self._deliver(moment == 2)
            producer.commit_offset(LATE_GROUP, self.stage.place(self.keys[0]), self._offset)
            self._deliver(moment == 3)
            asked = self.history.now()
            producer.end(commit=commit)
        except ProtocolFailure as failure:
            self.history.complete(invoked, "info", done or None, c=asked, err=str(failure))
            raise
        self.history.complete(invoked, "ok" if commit else "fail", done, c=asked, err="" if commit else "aborted")
        if commit:
            watched = [Watch(committed_of(LATE_GROUP), self.keys[0], self._offset)]
            self.history.complete(self.invoke("commit"), "ok", watched)
        self._take_held()

    def _disturb(self) -> None:
        """Choose a request of the coming transaction to hold back, or whose answer gets lost."""
        chance = self.dice.random()
        if chance < HELD_SHARE:
            self.stage.proxy.hold(self.dice.choice(APIS))
        elif chance < HELD_SHARE + LOST_ANSWER_SHARE:
            self.stage.proxy.cut("answers")

    def _take_held(self) -> None:
        known = [held for _, held in self._due]
        for held in self.stage.proxy.held:
            if held not in known:
                self._due.append((self._number + self.dice.randint(1, LATER_TRANSACTIONS_MAX), held))

    def _deliver(self, now: bool) -> None:
        """Let arrive what was held for this transaction."""
        due = [held for number, held in self._due if now and number <= self._number]
        for held in due:
            self.stage.proxy.release(held)
            self.delivered_late += 1
            self.history.mark(NEMESIS, "late", f"API {held.api_key} of an earlier transaction")
        self._due = [(number, held) for number, held in self._due if held not in due]
