"""When what an inventory holds grows old: certificates that hubs present, CAs of realms, and revocation lists.

Counterparts: ``spnhub check``, ``/metrics`` and ``/state`` show it, :mod:`spnhub.hub_process` warns in its log.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from spnhub.dataclass import dataclass
from spnhub.transport.engine import ServerIdentity
from spnhub.transport.pem import certificate_name, date_text, load_chain
from spnhub.transport.revocation import lists_of

__all__ = [
    "CHECK_DAYS",
    "LOG_DAYS",
    "CertificateEnd",
    "RevocationAge",
    "Served",
    "days_until",
    "ends_of",
    "revocation_of",
]

CHECK_DAYS: Final = 30
"""From so many days before on ``spnhub check`` warns."""
LOG_DAYS: Final = 7
"""From so many days before on a hub's log warns."""

_DAY: Final = timedelta(days=1)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


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
        return days_until(self.end, now)

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


@dataclass(frozen=True, slots=True)
class RevocationAge:
    """Of one revocation list of a realm."""

    realm: str
    issuer: str
    made: datetime
    """thisUpdate of RFC 5280."""
    next_update: datetime | None
    """From then on it is stale; None: the CA doesn't say."""
    count: int
    """Certificates that it revokes."""

    def age(self, now: datetime) -> float:
        """Seconds since it was made."""
        return (now - self.made).total_seconds()

    def left(self, now: datetime) -> float | None:
        """Seconds until it is stale; below zero: it is."""
        return None if self.next_update is None else (self.next_update - now).total_seconds()

    def to_json(self, now: datetime) -> dict[str, Any]:
        """For programs."""
        left = self.left(now)
        return {
            "realm": self.realm,
            "issuer": self.issuer,
            "thisUpdate": date_text(self.made),
            "nextUpdate": None if self.next_update is None else date_text(self.next_update),
            "stale": left is not None and left < 0,
            "revoked": self.count,
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


def days_until(end: datetime, now: datetime) -> float:
    """How many are left; below zero: it has passed."""
    return (end - now) / _DAY


def ends_of(listening: Iterable[Served]) -> tuple[CertificateEnd, ...]:
    """Each certificate once, the next to expire first. They have been checked. Takes a while for a thousand."""
    found: set[CertificateEnd] = set()
    for one in listening:
        for kind, name, text in (
            ("hub", one.network_urn, one.identity.certificate_chain),
            ("ca", one.realm, one.identity.client_ca),
        ):
            for certificate in load_chain(text.decode()):
                end = certificate.not_valid_after_utc
                found.add(CertificateEnd(kind, one.realm, name, certificate_name(certificate), end))
    return tuple(sorted(found, key=lambda end: (end.end, end.kind, end.name, end.subject)))


def revocation_of(listening: Iterable[Served]) -> tuple[RevocationAge, ...]:
    """Each revocation list of each realm once, the next to be stale first. They have been parsed."""
    found = {
        RevocationAge(one.realm, crl.issuer, crl.crl.last_update_utc, crl.next_update, len(crl.serials))
        for one in listening
        for crl in lists_of(one.identity.revocation.crl)
    }
    return tuple(sorted(found, key=lambda age: (age.next_update or _NEVER, age.realm, age.issuer)))
