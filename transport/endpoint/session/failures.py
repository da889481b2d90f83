"""What the end of a QUIC connection means for the session on it. Pure."""

from __future__ import annotations

import re
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.transport.engine import CertificateAlert, Closed, CloseKind
from spnhub.transport.errors import (
    HandshakeRejected,
    HubUnreachable,
    SessionLost,
    SessionRejected,
    SpnError,
    can_retry,
    code_name,
)

__all__ = ["is_tls_alert", "rejected", "why_closed"]

_TLS_ALERT: Final = 0x100
_TRANSPORT_CODES: Final = dict(
    enumerate(
        (
            "NO_ERROR",
            "INTERNAL_ERROR",
            "CONNECTION_REFUSED",
            "FLOW_CONTROL_ERROR",
            "STREAM_LIMIT_ERROR",
            "STREAM_STATE_ERROR",
            "FINAL_SIZE_ERROR",
            "FRAME_ENCODING_ERROR",
            "TRANSPORT_PARAMETER_ERROR",
            "CONNECTION_ID_LIMIT_ERROR",
            "PROTOCOL_VIOLATION",
            "INVALID_TOKEN",
            "APPLICATION_ERROR",
            "CRYPTO_BUFFER_EXCEEDED",
            "KEY_UPDATE_ERROR",
            "AEAD_LIMIT_REACHED",
            "NO_VIABLE_PATH",
        )
    )
)
"""RFC 9000 section 20.1."""
_PERHAPS_TIME: Final = frozenset({CertificateAlert.BAD_CERTIFICATE, CertificateAlert.CERTIFICATE_UNKNOWN})
_ABOUT_TIME: Final = re.compile(r"expired|not (yet )?valid|validity|NotBefore|NotAfter", re.IGNORECASE)


def is_tls_alert(event: Closed) -> bool:
    """Whether TLS has ended it, here or there."""
    return event.kind in (CloseKind.PEER_TRANSPORT, CloseKind.VIOLATION) and event.code >> 8 == _TLS_ALERT >> 8


def why_closed(event: Closed, dates: str, near_its_dates: bool, *, established: bool) -> SpnError:
    """The error of a session that was neither refused nor closed from here.

    :param dates: what was presented, see :attr:`Credentials.dates`.
    :param near_its_dates: see :meth:`Credentials.near_its_dates`.
    :param established: whether there was a session ACK.
    """
    if event.kind is CloseKind.PEER:
        if not established or not (event.code == Code.OK or can_retry(event.code)):
            return SessionRejected(event.code, event.reason, can_retry(event.code))
        return SessionLost(f"the hub closed the session, {code_name(event.code)}: {event.reason}", event.code)
    text = _ending(event)
    if established:
        return SessionLost(text)
    if is_tls_alert(event):
        by_hub = event.kind is CloseKind.PEER_TRANSPORT
        return rejected(event.code - _TLS_ALERT, event.reason, dates, near_its_dates, by_hub=by_hub)
    return HubUnreachable(text)


def _ending(event: Closed) -> str:
    """What ended it, and with which code, where it has one."""
    what = event.kind.value
    if event.kind in (CloseKind.PEER_TRANSPORT, CloseKind.VIOLATION):
        what += f", {_TRANSPORT_CODES.get(event.code, f'code {event.code:#x}')}"
    return event.reason if event.reason.startswith(what) else f"{what}: {event.reason}".removesuffix(": ")


def rejected(alert: int, reason: str, dates: str, near_its_dates: bool, *, by_hub: bool) -> HandshakeRejected:
    """A TLS alert, the hub's or ours, and whether it is about time."""
    about_time = alert == CertificateAlert.CERTIFICATE_EXPIRED
    if by_hub and alert in _PERHAPS_TIME:
        # Other TLS stacks say no more than this of a date.
        about_time = near_its_dates or _ABOUT_TIME.search(reason) is not None
    if by_hub and about_time:
        reason = f"{reason}; what was presented: {dates}"
    return HandshakeRejected(alert, reason, by_hub=by_hub, about_time=about_time)
