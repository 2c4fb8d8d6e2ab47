"""What a new leader writes first (``ActivationRecordsGenerator``).

On an empty log: the bootstrap records, wrapped in a transaction where the metadata.version knows them, so that nobody
ever acts on half a bootstrap. On a log whose last leader died inside a transaction: its abortion. Else nothing.
"""

from ottla.metadata.controller.features import min_isr_records
from ottla.metadata.controller.state import ControllerState, MetadataDecision
from ottla.metadata.features import ELIGIBLE_LEADER_REPLICAS_VERSION, METADATA_VERSION, RecordVersions
from ottla.metadata.record import MetadataRecord
from ottla.model import Decision
from ottla.wire.messages.begin_transaction_record import BeginTransactionRecord
from ottla.wire.messages.end_transaction_record import EndTransactionRecord


def decide_activation(state: ControllerState, *, in_transaction: bool) -> MetadataDecision:
    """Answers nothing. ``in_transaction``: the log ends inside one."""
    if in_transaction:
        from ottla.wire.messages.abort_transaction_record import AbortTransactionRecord  # noqa: PLC0415 - rare

        reason = "aborting partial bootstrap records transaction" if state.image.empty else "controller failover"
        abort = MetadataRecord(AbortTransactionRecord(reason=reason), 0)
        rest = _bootstrap_records(state) if state.image.empty else ()
        return Decision(records=(abort, *rest))
    return Decision(records=_bootstrap_records(state) if state.image.empty else ())


def _bootstrap_records(state: ControllerState) -> tuple[MetadataRecord, ...]:
    bootstrap = state.settings.bootstrap
    levels = {record.message.name: record.message.feature_level for record in bootstrap if record.message.API_KEY == 12}
    if METADATA_VERSION not in levels:
        raise ValueError("bootstrap records without a metadata.version: the directory was not formatted")
    records = list(bootstrap)
    if levels.get(ELIGIBLE_LEADER_REPLICAS_VERSION, 0) > 0:
        records.extend(min_isr_records(state))
    if not RecordVersions(levels[METADATA_VERSION]).transactions_supported:
        return tuple(records)
    begin = MetadataRecord(BeginTransactionRecord(name="Bootstrap records"), 0)
    return (begin, *records, MetadataRecord(EndTransactionRecord(), 0))
