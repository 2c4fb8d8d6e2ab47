"""Brokers come, beat and go: registration, heartbeats, fencing, controlled shutdown. Controllers register too."""

from collections.abc import Iterator
from enum import Enum
from typing import Final

from msgspec import Struct

from ottla.metadata.controller.leadership import Departure, leader_and_isr_changes
from ottla.metadata.controller.sessions import BrokerSession
from ottla.metadata.controller.state import ControllerState, MetadataDecision
from ottla.metadata.features import METADATA_VERSION, FeatureRange
from ottla.metadata.image import NO_LEADER, BrokerRegistration, ControllerRegistration, Endpoint
from ottla.metadata.record import MetadataRecord
from ottla.metadata.snapshot import register_broker_record, register_controller_record
from ottla.model import Decision, Uuid
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.broker_registration_change_record import BrokerRegistrationChangeRecord

_RESERVED_DIRECTORIES: Final = 100
_FENCE, _UNFENCE = 1, -1
# A change of a registration is written in the lowest version that has what changed, whatever the metadata version: a
# change the metadata version does not know is not decided at all.
_FENCED_SINCE, _SHUTDOWN_SINCE, _LOG_DIRS_SINCE, _CORDONED_SINCE = range(4)


class Registration(Struct, frozen=True, kw_only=True):
    """A broker introduces itself. ``previous_epoch`` is its last epoch if it went away cleanly, else -1."""

    broker_id: int
    cluster_id: str
    incarnation_id: Uuid
    endpoints: tuple[Endpoint, ...]
    features: tuple[FeatureRange, ...]
    log_dirs: tuple[Uuid, ...]
    rack: str | None = None
    previous_epoch: int = -1


class Heartbeat(Struct, frozen=True, kw_only=True):
    """``metadata_offset`` is the last offset the broker has published."""

    broker_id: int
    broker_epoch: int
    metadata_offset: int
    want_fence: bool = False
    want_shut_down: bool = False
    offline_log_dirs: tuple[Uuid, ...] = ()
    cordoned_log_dirs: tuple[Uuid, ...] | None = None


class HeartbeatReply(Struct, frozen=True, kw_only=True):
    is_caught_up: bool
    is_fenced: bool
    in_controlled_shutdown: bool
    should_shut_down: bool


class _Standing(Enum):
    FENCED = "fenced"
    UNFENCED = "unfenced"
    CONTROLLED_SHUTDOWN = "controlled_shutdown"
    SHUTDOWN_NOW = "shutdown_now"


def decide_register_broker(state: ControllerState, command: Registration, now_ms: int) -> MetadataDecision:
    """Answers the broker's epoch: the offset its first record is written at."""
    _check_registration(state, command, now_ms)
    existing = state.image.brokers.get(command.broker_id)
    same_incarnation = existing is not None and existing.incarnation_id == command.incarnation_id
    records: list[MetadataRecord] = []
    epoch = state.next_offset
    fenced, shutting_down = True, False
    if existing is not None and same_incarnation:
        epoch, fenced, shutting_down = existing.epoch, existing.fenced, existing.in_controlled_shutdown
    elif existing is not None:
        records.extend(_departure_records(state, existing, clean=command.previous_epoch == existing.epoch))
    versions = state.image.versions
    registration = BrokerRegistration(
        broker_id=command.broker_id,
        epoch=epoch,
        incarnation_id=command.incarnation_id,
        endpoints=command.endpoints,
        features=command.features,
        rack=command.rack,
        fenced=fenced,
        in_controlled_shutdown=shutting_down,
        log_dirs=command.log_dirs if versions.directories_supported else (),
    )
    records.append(register_broker_record(registration, versions.register_broker))
    state.sessions.touch(command.broker_id, epoch, now_ms)
    return Decision(records=tuple(records), response=epoch)


def decide_heartbeat(state: ControllerState, command: Heartbeat, now_ms: int) -> MetadataDecision:
    """Answers ``HeartbeatReply``. Raises StaleBrokerEpoch for another incarnation."""
    broker = state.require_broker(command.broker_id, command.broker_epoch)
    session = state.sessions.touch(broker.broker_id, broker.epoch, now_ms, metadata_offset=command.metadata_offset)
    current, following = _next_standing(state, broker, session, command)
    records: list[MetadataRecord] = []
    if following is not current:
        records.extend(_standing_records(state, broker, session, following))
    records.extend(_offline_dir_records(state, broker, command.offline_log_dirs))
    records.extend(_cordoned_dir_records(state, broker, command.cordoned_log_dirs))
    reply = HeartbeatReply(
        is_caught_up=command.metadata_offset >= broker.epoch,
        is_fenced=following in (_Standing.FENCED, _Standing.SHUTDOWN_NOW),
        in_controlled_shutdown=following is _Standing.CONTROLLED_SHUTDOWN,
        should_shut_down=following is _Standing.SHUTDOWN_NOW,
    )
    return Decision(records=tuple(records), response=reply)


def decide_fence_expired(state: ControllerState, now_ms: int) -> MetadataDecision:
    """Fence one broker that was silent for too long; the others see the effect before their turn."""
    for broker_id in state.sessions.expired(now_ms):
        session = state.sessions.session(broker_id)
        broker = state.image.brokers.get(broker_id)
        state.sessions.forget(broker_id)
        if broker is None or broker.fenced or session is None or session.epoch != broker.epoch:
            continue
        return Decision(records=tuple(_fence(state, broker)))
    return Decision()


def decide_unregister_broker(state: ControllerState, broker_id: int) -> MetadataDecision:
    """Forget a broker that will not come back."""
    from ottla.wire.messages.unregister_broker_record import UnregisterBrokerRecord  # noqa: PLC0415 - rare

    broker = state.image.brokers.get(broker_id)
    if broker is None:
        message = f"Broker ID {broker_id} is not currently registered"
        raise KafkaError(ErrorCode.BROKER_ID_NOT_REGISTERED, message)
    leaving = Departure(leaving=broker_id)
    records = leader_and_isr_changes(state, lambda part: broker_id in part.isr or broker_id in part.elr, leaving)
    records.append(MetadataRecord(UnregisterBrokerRecord(broker_id=broker_id, broker_epoch=broker.epoch), 0))
    return Decision(records=tuple(records))


def decide_register_controller(state: ControllerState, registration: ControllerRegistration) -> MetadataDecision:
    """Nothing is written if this very incarnation is known."""
    if not state.image.versions.controller_registration_supported:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_VERSION, "The current MetadataVersion is too old to support controller registrations."
        )
    if state.image.controllers.get(registration.controller_id) == registration:
        return Decision()
    return Decision(records=(register_controller_record(registration),))


def _check_registration(state: ControllerState, command: Registration, now_ms: int) -> None:
    expected = state.settings.cluster_id
    if command.cluster_id != expected:
        message = f"Expected cluster ID {expected}, but got cluster ID {command.cluster_id}"
        raise KafkaError(ErrorCode.INCONSISTENT_CLUSTER_ID, message)
    existing = state.image.brokers.get(command.broker_id)
    if (
        existing is not None
        and existing.incarnation_id != command.incarnation_id
        and not existing.in_controlled_shutdown
        and state.sessions.is_valid(command.broker_id, existing.epoch, now_ms)
    ):
        raise KafkaError(
            ErrorCode.DUPLICATE_BROKER_REGISTRATION,
            "Another broker is registered with that broker id. If the broker was recently restarted this should "
            "self-resolve once the heartbeat manager expires the broker's session.",
        )
    if state.image.versions.directories_supported:
        _check_directories(state, command)
    _check_features(state, command)


def _check_directories(state: ControllerState, command: Registration) -> None:
    if not command.log_dirs:
        raise _invalid("No directories specified in request")
    if any(int.from_bytes(directory, "big") < _RESERVED_DIRECTORIES for directory in command.log_dirs):
        raise _invalid("Reserved directory ID in request")
    if len(set(command.log_dirs)) != len(command.log_dirs):
        raise _invalid("Duplicate directory ID in request")
    for broker in state.image.brokers.values():
        if broker.broker_id != command.broker_id:
            for directory in command.log_dirs:
                if directory in broker.log_dirs:
                    raise _invalid(f"Broker {broker.broker_id} is already registered with directory {directory}")


def _check_features(state: ControllerState, command: Registration) -> None:
    claimed = {feature.name: feature for feature in command.features}
    if METADATA_VERSION not in claimed:
        raise _invalid("Request features do not contain 'metadata.version'")
    for name, level in state.image.features.items():
        _, lowest, highest = claimed.get(name, FeatureRange(name, 0, 0))
        if not lowest <= level <= highest:
            raise KafkaError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"Unable to register because the broker does not support finalized version {level} of {name}. "
                f"The broker wants a version between {lowest} and {highest}, inclusive.",
            )


def _invalid(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REGISTRATION, message)


def _departure_records(
    state: ControllerState, existing: BrokerRegistration, *, clean: bool
) -> Iterator[MetadataRecord]:
    """What a broker's last incarnation leaves behind: after an unclean end its log may lack what it acknowledged."""
    broker_id = existing.broker_id
    if state.image.elr_enabled and not clean:
        departure = Departure(unclean=broker_id)
        yield from leader_and_isr_changes(state, lambda part: broker_id in part.isr, departure)
        yield from leader_and_isr_changes(
            state, lambda part: broker_id in part.elr and broker_id not in part.isr, departure
        )
    else:
        yield from leader_and_isr_changes(state, lambda part: broker_id in part.isr, Departure(leaving=broker_id))


def _next_standing(
    state: ControllerState, broker: BrokerRegistration, session: BrokerSession, command: Heartbeat
) -> tuple[_Standing, _Standing]:
    if broker.fenced:
        if command.want_shut_down:
            return _Standing.FENCED, _Standing.SHUTDOWN_NOW
        caught_up = command.metadata_offset >= broker.epoch
        unfence = not command.want_fence and caught_up
        return _Standing.FENCED, _Standing.UNFENCED if unfence else _Standing.FENCED
    if broker.in_controlled_shutdown:
        return _Standing.CONTROLLED_SHUTDOWN, _shutdown_standing(state, broker, session)
    if command.want_fence:
        return _Standing.UNFENCED, _Standing.SHUTDOWN_NOW if command.want_shut_down else _Standing.FENCED
    if command.want_shut_down:
        leads = _leads_any(state, broker.broker_id)
        return _Standing.UNFENCED, _Standing.CONTROLLED_SHUTDOWN if leads else _Standing.SHUTDOWN_NOW
    return _Standing.UNFENCED, _Standing.UNFENCED


def _shutdown_standing(state: ControllerState, broker: BrokerRegistration, session: BrokerSession) -> _Standing:
    """A broker may go when it leads nothing and all others have seen that."""
    if _leads_any(state, broker.broker_id):
        return _Standing.CONTROLLED_SHUTDOWN
    others = [
        other_session.metadata_offset
        for other in state.image.brokers.values()
        if other.active and (other_session := state.sessions.session(other.broker_id)) is not None
    ]
    if session.shutdown_offset is None or session.shutdown_offset <= min(others, default=session.shutdown_offset):
        return _Standing.SHUTDOWN_NOW
    return _Standing.CONTROLLED_SHUTDOWN


def _standing_records(
    state: ControllerState, broker: BrokerRegistration, session: BrokerSession, following: _Standing
) -> list[MetadataRecord]:
    match following:
        case _Standing.FENCED | _Standing.SHUTDOWN_NOW:
            return _fence(state, broker)
        case _Standing.UNFENCED:
            return _unfence(state, broker)
        case _Standing.CONTROLLED_SHUTDOWN:
            records = _enter_shutdown(state, broker)
            session.shutdown_offset = state.next_offset + len(records) - 1
            return records


def _fence(state: ControllerState, broker: BrokerRegistration) -> list[MetadataRecord]:
    departure = Departure(leaving=broker.broker_id)
    records = leader_and_isr_changes(state, lambda part: broker.broker_id in part.isr, departure)
    change = BrokerRegistrationChangeRecord(broker_id=broker.broker_id, broker_epoch=broker.epoch, fenced=_FENCE)
    return [*records, MetadataRecord(change, _FENCED_SINCE)] if not broker.fenced else records


def _unfence(state: ControllerState, broker: BrokerRegistration) -> list[MetadataRecord]:
    change = BrokerRegistrationChangeRecord(broker_id=broker.broker_id, broker_epoch=broker.epoch, fenced=_UNFENCE)
    departure = Departure(arriving=broker.broker_id)
    return [
        MetadataRecord(change, _FENCED_SINCE),
        *leader_and_isr_changes(state, lambda part: part.leader == NO_LEADER, departure),
    ]


def _enter_shutdown(state: ControllerState, broker: BrokerRegistration) -> list[MetadataRecord]:
    change = BrokerRegistrationChangeRecord(
        broker_id=broker.broker_id, broker_epoch=broker.epoch, in_controlled_shutdown=1
    )
    departure = Departure(leaving=broker.broker_id)
    return [
        MetadataRecord(change, _SHUTDOWN_SINCE),
        *leader_and_isr_changes(state, lambda part: broker.broker_id in part.isr, departure),
    ]


def _leads_any(state: ControllerState, broker_id: int) -> bool:
    return any(partition.leader == broker_id for topic in state.image.topics.values() for partition in topic.partitions)


def _offline_dir_records(
    state: ControllerState, broker: BrokerRegistration, offline: tuple[Uuid, ...]
) -> list[MetadataRecord]:
    gone = [directory for directory in broker.log_dirs if directory in offline]
    if not gone or not state.image.versions.directories_supported:
        return []
    remaining = [directory for directory in broker.log_dirs if directory not in offline]
    broker_id = broker.broker_id
    records = leader_and_isr_changes(
        state,
        lambda part: broker_id in part.replicas and part.directory_of(broker_id) in gone,
        Departure(leaving=broker_id),
    )
    change = BrokerRegistrationChangeRecord(broker_id=broker_id, broker_epoch=broker.epoch, log_dirs=remaining)
    return [*records, MetadataRecord(change, _LOG_DIRS_SINCE)]


def _cordoned_dir_records(
    state: ControllerState, broker: BrokerRegistration, cordoned: tuple[Uuid, ...] | None
) -> list[MetadataRecord]:
    if cordoned is None or cordoned == broker.cordoned_log_dirs:
        return []
    if not state.image.versions.cordoned_directories_supported:
        return []
    change = BrokerRegistrationChangeRecord(
        broker_id=broker.broker_id, broker_epoch=broker.epoch, cordoned_log_dirs=list(cordoned)
    )
    return [MetadataRecord(change, _CORDONED_SINCE)]
