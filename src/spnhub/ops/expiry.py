"""When the certificates of an inventory expire: those that hubs present, and the CAs of realms.

Counterparts: ``spnhub check``, ``/metrics`` and ``/state`` show it, :mod:`spnhub.hub_process` warns in its log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from spnhub.transport.engine import ServerIdentity
from spnhub.transport.pem import date_text, load_chain

__all__ = ["CHECK_DAYS", "LOG_DAYS", "CertificateEnd", "Served", "ends_of"]

CHECK_DAYS: Final = 30
"""From so many days before on ``spnhub check`` warns."""
LOG_DAYS: Final = 7
"""From so many days before on a hub's log warns."""

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class CertificateEnd:
    """Of one certificate."""

    kind: str
    """``hub``: presented by the hub; ``ca``: trusted by it."""
    realm: str
    name: str
    """The network's URN; of a CA the realm's name."""
    subject: str
    end: datetime

    def days(self, now: datetime) -> float:
        """How many are left; below zero: it has expired."""
        return (self.end - now) / _DAY

    def sentence(self, now: datetime) -> str:
        """For people."""
        left = self.days(now)
        what = f"expires in {left:.1f} days" if left >= 0 else f"expired {-left:.1f} days ago"
        return f"{self.kind} certificate {self.subject} of {self.name} {what}, at {date_text(self.end)}"

    def to_json(self, now: datetime) -> dict[str, Any]:
        """For programs."""
        return {
            "kind": self.kind,
            "realm": self.realm,
            "name": self.name,
            "subject": self.subject,
            "notAfter": date_text(self.end),
            "days": round(self.days(now), 3),
        }


class Served(Protocol):
    """A network that a hub serves (:class:`spnhub.inventory.build.Listening`)."""

    @property
    def realm(self) -> str:
        """Its realm."""

    @property
    def network_urn(self) -> str:
        """Its own URN."""

    @property
    def identity(self) -> ServerIdentity:
        """What is presented and trusted there."""


def ends_of(listening: Iterable[Served]) -> tuple[CertificateEnd, ...]:
    """Each certificate once, the next to expire first. They have been checked. Takes a while for a thousand."""
    found: set[CertificateEnd] = set()
    for one in listening:
        for kind, name, text in (
            ("hub", one.network_urn, one.identity.certificate_chain),
            ("ca", one.realm, one.identity.client_ca),
        ):
            for certificate in load_chain(text.decode()):
                subject = certificate.subject.rfc4514_string()
                found.add(CertificateEnd(kind, one.realm, name, subject, certificate.not_valid_after_utc))
    return tuple(sorted(found, key=lambda end: (end.end, end.kind, end.name, end.subject)))
