"""Admission of sessions: refusals and acceptances as decisions, for the actors that a request passes (R-2.2)."""

from __future__ import annotations

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import AcceptSession, RefuseSession
from spnhub.actors.contract.definitions import ServiceDefinition
from spnhub.actors.contract.inputs import SessionRequested
from spnhub.actors.contract.inventory import not_allowed
from spnhub.actors.contract.protocols import abilities
from spnhub.actors.kernel.environment import Decision
from spnhub.actors.service.registry import SessionRegistry
from spnhub.events.model import EndPointEvent, EndPointType, SessionRefused, SessionStarted, shared

__all__ = ["Refusal", "accept_session", "may_wait", "refuse_session", "role_fault", "session_fault"]

Refusal = tuple[Code, str]


def session_fault(
    request: SessionRequested,
    definition: ServiceDefinition | None,
    registry: SessionRegistry,
    *,
    stopping: bool,
    realm_sessions: int,
    limit: int,
    identity_sessions: int,
    identity_limit: int,
) -> Refusal | None:
    """Why a service accepts no such session now; None when it does.

    :param definition: of the service; None: there is none any more.
    :param stopping: the hub is being stopped.
    :param realm_sessions: how many sessions the realm has, of at most ``limit``.
    :param identity_sessions: how many the endpoint's subject has, of at most ``identity_limit``.
    """
    if definition is None:
        return Code.UNKNOWN_SERVICE, f"{request.network_urn} has no service {request.service_urn!r}"
    fault = role_fault(definition, request)
    if fault is not None:
        return fault
    if stopping:
        return Code.SHUTDOWN, "the hub is being stopped"
    if request.weight < 0:
        return Code.PROTOCOL, "a weight is at least 0"
    # The session that this one supersedes doesn't count, since it is about to end: otherwise an endpoint could never
    # reconnect in a realm that is full.
    stale = int(registry.stale_session(request) is not None)
    if realm_sessions - stale >= limit:
        return Code.LIMIT, f"realm {request.realm} has {limit} sessions, as many as it may"
    if identity_sessions - stale >= identity_limit:
        return Code.LIMIT, f"its subject has {identity_limit} sessions, as many as it may"
    if request.end_point_type is EndPointType.PROVIDER:
        if definition.singleton and registry.has_other_provider(request):
            return Code.SINGLETON, f"{definition.urn} has its one provider"
        return None
    if not (len(registry.choice) or request.brings_connections or may_wait(definition, request)):
        return Code.NO_PROVIDER, f"{definition.urn} has no provider now"
    return None


def may_wait(definition: ServiceDefinition | None, consumer: SessionRequested) -> bool:
    """Whether a consumer's opening waits for a provider that isn't there."""
    if not abilities(consumer.protocol).asks_again:
        return True
    return definition is not None and definition.availability is not None and definition.availability.on_demand


def role_fault(definition: ServiceDefinition, request: SessionRequested) -> Refusal | None:
    """Why a certificate with this common name may not have this role in this service; None when it may."""
    reason = not_allowed(definition, request.end_point_type, request.common_name)
    return None if reason is None else (Code.NOT_ALLOWED, reason)


def refuse_session(request: SessionRequested, code: Code, reason: str) -> Decision:
    """Refuse a session, with code and reason (R-2.2)."""
    event = SessionRefused(
        realm=request.realm,
        network_urn=request.network_urn,
        service_urn=request.service_urn or None,
        spn_end_point=request.spn_end_point,
        end_point_type=request.end_point_type,
        remote_address=request.remote_address,
        code=code,
        reason=reason,
    )
    return Decision((event,), (RefuseSession(request.session, code, reason),))


def accept_session(request: SessionRequested) -> Decision:
    """Accept a session: its start is logged, and the endpoint gets its ACK."""
    event = SessionStarted(
        **shared(EndPointEvent, request),
        instance_id=request.instance_id,
        weight=request.weight,
        protocol=request.protocol,
        remote_address=request.remote_address,
    )
    return Decision((event,), (AcceptSession(request.session, request.spn_session_id),))
