"""Blocks of producer ids: a broker hands out a block's ids alone, so no two producers ever get the same."""

from typing import Final, NamedTuple

from ottla.metadata.controller.state import ControllerState, MetadataDecision
from ottla.metadata.record import MetadataRecord
from ottla.model import Decision
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.producer_ids_record import ProducerIdsRecord

BLOCK_SIZE: Final = 1000


class ProducerIdBlock(NamedTuple):
    first: int
    length: int


def decide_allocate_producer_ids(state: ControllerState, *, broker_id: int, broker_epoch: int) -> MetadataDecision:
    """Answers ``ProducerIdBlock``. Raises StaleBrokerEpoch for anyone but the registered broker."""
    state.require_broker(broker_id, broker_epoch)
    first = state.image.next_producer_id
    if first > 2**63 - 1 - BLOCK_SIZE:
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, f"Exhausted all producer ids: the last block began at {first}")
    record = ProducerIdsRecord(broker_id=broker_id, broker_epoch=broker_epoch, next_producer_id=first + BLOCK_SIZE)
    return Decision(records=(MetadataRecord(record, 0),), response=ProducerIdBlock(first, BLOCK_SIZE))
