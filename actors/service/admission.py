"""Admission of sessions: refusals and acceptances as decisions, for the actors that a request passes (R-2.2)."""

from __future__ import annotations

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import AcceptSession, RefuseSession
from spnhub.actors.contract.definitions import ServiceDefinition
from spnhub.actors.contract.inputs import SessionRequested
from spnhub.actors.contract.inventory import not_allowed
from spnhub.actors.kernel.environment import Decision
from spnhub.events.model import EndPointEvent, EndPointType, ServiceEvent, SessionRefused, SessionStarted, shared

__all__ = ["Identity", "Refusal", "accept_session", "identity", "refuse_session", "role_fault"]

Refusal = tuple[Code, str]

Identity = tuple[EndPointType, str, str]
"""Role, verified Subject and instance id: the instance of an endpoint, which has one session at a time (D-28)."""


def role_fault(definition: ServiceDefinition, request: SessionRequested) -> Refusal | None:
    """Why a certificate with this common name may not have this role in this service; None when it may."""
    reason = not_allowed(definition, request.end_point_type, request.common_name)
    return None if reason is None else (Code.NOT_ALLOWED, reason)


def refuse_session(request: SessionRequested, code: Code, reason: str) -> Decision:
    """Refuse a session, with code and reason (R-2.2)."""
    event = SessionRefused(
        **shared(ServiceEvent, request),
        spn_end_point=request.spn_end_point,
        end_point_type=request.end_point_type,
        remote_address=request.remote_address,
        code=code,
        reason=reason,
    )
    return Decision((event,), (RefuseSession(request.session, code, reason),))


def accept_session(request: SessionRequested) -> Decision:
    """Accept a session: its start is logged, and the endpoint is told."""
    event = SessionStarted(
        **shared(EndPointEvent, request),
        instance_id=request.instance_id,
        weight=request.weight,
        protocol=request.protocol,
        remote_address=request.remote_address,
    )
    return Decision((event,), (AcceptSession(request.session, request.spn_session_id),))


def identity(request: SessionRequested) -> Identity | None:
    """The instance that a session belongs to (D-28); None: the endpoint gave no instance id."""
    return (request.end_point_type, request.spn_end_point, request.instance_id) if request.instance_id else None
