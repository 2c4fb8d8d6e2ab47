"""ListTransactions (66), versions 0-2: the transactional ids that this broker coordinates.

Filters: states by name, producer ids, v1+ transactions open for longer than a duration, v2+ ids that match a regular
expression as a whole (``transactions.patterns``; INVALID_REGULAR_EXPRESSION). A state nobody knows is named in the
answer and lets nothing through. While one of this broker's coordinator partitions loads the answer is
COORDINATOR_LOAD_IN_PROGRESS.
"""

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.transaction_coordinator import TransactionCoordinator
from ottla.transactions.commands import TransactionFilter
from ottla.transactions.patterns import InvalidPattern, Pattern
from ottla.transactions.transaction import STATES_BY_DISPLAY, TransactionState
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.list_transactions_request import ListTransactionsRequest
from ottla.wire.messages.list_transactions_response import ListTransactionsResponse
from ottla.wire.messages.list_transactions_response import TransactionState as ListedTransaction


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
                pattern=_pattern(request.transactional_id_pattern),
            )
            lists = await self.coordinator.ask_all(
                lambda shard, now_ms, _token: shard.list_transactions(wanted, now_ms)
            )
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
                for transactions in lists
                for found in transactions
            ],
        )


def _pattern(text: str | None) -> Pattern | None:
    try:
        return Pattern(text) if text else None
    except InvalidPattern as error:
        raise KafkaError(ErrorCode.INVALID_REGULAR_EXPRESSION, str(error)) from error
