"""Transactions of sends and polls, some aborted, some left open for a while, some left open by a client that is gone.

In the bank, every transaction moves an amount between two accounts: amounts of all visible records add up to nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaException, Producer

from chaos.history import Key, Kind, Poll, Send, Step
from chaos.stage import Lost, Stage, Worker
from chaos.workloads.clients import Deliveries, Position, assign, close, code, new_consumer, new_producer, poll

STEPS_MAX = 4
TRANSACTION_TIMEOUT_MS = 10_000
CALL_SECONDS = 15.0
INIT_SECONDS = 40.0
COMMIT_TRIES = 6
ABORTED_SHARE, DESERTED_SHARE, IDLE_SHARE, POLL_SHARE = 0.2, 0.03, 0.1, 0.4
IDLE_SECONDS = 0.3


class Transactor(Worker):
    """One transactional id, and a consumer with assigned partitions."""

    def __init__(self, stage: Stage, name: str, keys: Sequence[Key], *, workers: int, bank: bool = False) -> None:
        super().__init__(stage, name, workers=workers)
        self.keys = list(keys)
        self.positions: Position = {}
        self._bank = bank

    def session(self) -> None:
        producer = new_producer(
            self.stage,
            **{"transactional.id": f"chaos-{self.name}", "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS},
        )
        consumer = new_consumer(self.stage, f"chaos-{self.name}")
        try:
            producer.init_transactions(INIT_SECONDS)
            self.history.complete(self.invoke("assign"), "ok")
            assign(self.stage, consumer, self.keys, self.positions)
            while self.wait():
                if not self._bank and self.dice.random() < POLL_SHARE:
                    self._poll(consumer)
                elif self.dice.random() < DESERTED_SHARE:
                    self._desert(producer)
                    return
                else:
                    self._transact(producer, consumer)
        except KafkaException as error:
            # The client is in no state to go on with: the next one takes over its transactional id.
            raise Lost(str(error)) from error
        finally:
            close(producer, consumer)

    def _poll(self, consumer: Consumer) -> None:
        invoked = self.invoke("poll")
        try:
            polled = poll(self.stage, consumer, self.positions)
        except KafkaException as error:
            self.history.complete(invoked, "info", err=str(error))
            raise
        self.history.complete(invoked, "ok", [polled] if polled.records else [])

    def _plan(self) -> list[Send | None]:
        """The micro-operations of a transaction; None is a poll."""
        if self._bank:
            amount = self.dice.randint(1, 100)
            one, other = self.dice.sample(self.keys, 2)
            return [self.stage.new_send(one, -amount), self.stage.new_send(other, amount)]
        plan: list[Send | None] = [
            None if self.dice.random() < POLL_SHARE / 2 else self.stage.new_send(self.dice.choice(self.keys))
            for _ in range(self.dice.randint(1, STEPS_MAX))
        ]
        return plan if any(plan) else [self.stage.new_send(self.dice.choice(self.keys))]

    def _desert(self, producer: Producer) -> None:
        """Leave a transaction open: nobody commits it, so nobody may ever see it."""
        send = self.stage.new_send(self.dice.choice(self.keys))
        invoked = self.invoke("txn", [send])
        producer.begin_transaction()
        deliveries = Deliveries(self.stage, producer, self.name)
        deliveries.send(send)
        deliveries.flush(CALL_SECONDS)
        self.history.complete(invoked, "fail", deliveries.sends(), err="deserted")

    def _transact(self, producer: Producer, consumer: Consumer) -> None:
        plan = self._plan()
        invoked = self.invoke("txn", [send for send in plan if send is not None])
        before = dict(self.positions)
        deliveries, polls = Deliveries(self.stage, producer, self.name), list[Poll]()
        outcome: tuple[Kind, int | None, str] = ("info", None, "")
        try:
            producer.begin_transaction()
            for send in plan:
                if send is None:
                    polls.append(poll(self.stage, consumer, self.positions))
                else:
                    deliveries.send(send, self.dice.randint(0, 200))
            if self.dice.random() < IDLE_SHARE:
                deliveries.flush(CALL_SECONDS)
                self.enough.wait(self.dice.uniform(0, IDLE_SECONDS))
            outcome = self._end(producer)
        except KafkaException as error:
            outcome = ("info", None, str(error))
            raise
        finally:
            kind, asked, text = outcome
            steps: list[Step] = [*deliveries.sends(), *(polled for polled in polls if polled.records)]
            self.history.complete(invoked, kind, steps, c=asked, err=text)
            if kind == "fail":
                self._rewind(consumer, before)
        if kind == "info":
            raise Lost(text)

    def _end(self, producer: Producer) -> tuple[Kind, int | None, str]:
        if self.dice.random() < ABORTED_SHARE:
            producer.abort_transaction(CALL_SECONDS)
            return "fail", None, "aborted"
        asked = self.history.now()
        for _ in range(COMMIT_TRIES):
            try:
                producer.commit_transaction(CALL_SECONDS)
                return "ok", asked, ""
            except KafkaException as error:
                if code(error).txn_requires_abort():
                    producer.abort_transaction(CALL_SECONDS)
                    return "fail", None, str(error)
                if not code(error).retriable():
                    return "info", asked, str(error)
        return "info", asked, "the commit was not answered"

    def _rewind(self, consumer: Consumer, before: Position) -> None:
        """A transaction that failed has read nothing."""
        moved = [key for key in self.positions if self.positions[key] != before.get(key)]
        for key in moved:
            if key in before:
                self.positions[key] = before[key]
            else:
                del self.positions[key]
        if moved:
            with contextlib.suppress(KafkaException):
                consumer.unassign()
                assign(self.stage, consumer, self.keys, self.positions)
