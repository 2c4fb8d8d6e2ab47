"""ListTransactions (66), versions 0-2: the transactional ids that this broker coordinates.

Filters: states by name, producer ids, v1+ transactions open for longer than a duration, v2+ ids that match a regular
expression as a whole (``re2``; INVALID_REGULAR_EXPRESSION). A state nobody knows is named in the answer and lets
nothing through. While one of this broker's coordinator partitions loads the answer is COORDINATOR_LOAD_IN_PROGRESS.
"""

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.transaction_coordinator import TransactionCoordinator
from ottla.re2 import InvalidRegex, compile_regex, select
from ottla.transactions.commands import TransactionFilter
from ottla.transactions.transaction import STATES_BY_DISPLAY, Transaction, TransactionState
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.list_transactions_request import ListTransactionsRequest
from ottla.wire.messages.list_transactions_response import ListTransactionsResponse
from ottla.wire.messages.list_transactions_response import TransactionState as ListedTransaction

STEPS_A_TURN = 50_000
"""Of matching ids, until others are served in between."""


class ListTransactionsHandler(Struct, frozen=True, kw_only=True):
    """Touches the transaction coordinator; changes nothing."""

    coordinator: TransactionCoordinator

    async def handle(self, _context: RequestContext, request: ListTransactionsRequest) -> ListTransactionsResponse:
        known = [STATES_BY_DISPLAY[name] for name in request.state_filters if name in STATES_BY_DISPLAY]
        states: frozenset[TransactionState] | None = frozenset(known) if request.state_filters else None
        try:
            wanted = TransactionFilter(
                states=states,
                producer_ids=frozenset(request.producer_id_filters),
                duration_ms=request.duration_filter,
            )
            lists = await self.coordinator.ask_all(
                lambda shard, now_ms, _token: shard.list_transactions(wanted, now_ms)
            )
            listed = [transaction for transactions in lists for transaction in transactions]
            if request.transactional_id_pattern:
                listed = await _matching(request.transactional_id_pattern, listed)
        except KafkaError as error:
            return ListTransactionsResponse(error_code=int(error.code))
        return ListTransactionsResponse(
            unknown_state_filters=[name for name in request.state_filters if name not in STATES_BY_DISPLAY],
            transaction_states=[
                ListedTransaction(
                    transactional_id=found.transactional_id,
                    producer_id=found.producer_id,
                    transaction_state=found.state.display,
                )
                for found in listed
            ],
        )


async def _matching(pattern: str, transactions: Sequence[Transaction]) -> list[Transaction]:
    """Those whose ids match. Raises INVALID_REGULAR_EXPRESSION."""
    try:
        matcher = compile_regex(pattern)
    except InvalidRegex as error:
        raise KafkaError(ErrorCode.INVALID_REGULAR_EXPRESSION, str(error)) from error
    found: list[str] = []
    left = STEPS_A_TURN
    for steps in select([(matcher, found)], [transaction.transactional_id for transaction in transactions]):
        left -= steps
        if left <= 0:
            await asyncio.sleep(0)
            left = STEPS_A_TURN
    wanted = frozenset(found)
    return [transaction for transaction in transactions if transaction.transactional_id in wanted]
