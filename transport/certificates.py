"""Whether a certificate chain is valid: one rule for the hub, which checks clients, and for clients, which check it.

Any certificate that was given to be trusted is an anchor, also an intermediate one or the leaf itself
(X509_V_FLAG_PARTIAL_CHAIN): ``cacert`` and ``trust`` say what to accept, and needn't go up to a root. Every certificate
of the chain, its anchor included, must be valid at the moment, and none of a client's revoked
(:mod:`spnhub.transport.revocation`). A permanent fault (issuer, name, usage, revocation) is reported before one that
time may mend (D-36), which is given with the certificate's dates and the time of the check.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

import service_identity
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import crypto
from service_identity import cryptography as names

from spnhub.events.foreign_text import clipped, clipped_subject
from spnhub.transport.engine import CertificateAlert, ChainFault, ClientTrust, Revocation, ServerIdentity
from spnhub.transport.pem import (
    PrivateKey,
    chain_size,
    date_text,
    load_certificate,
    load_chain,
    load_key,
    load_presented,
    parsing,
)
from spnhub.transport.revocation import lists_of, next_update, revoked

__all__ = [
    "SUBJECT_LIMIT",
    "Anchors",
    "CertificateRefused",
    "ParsedIdentity",
    "Subject",
    "anchors_of",
    "check_chain",
    "expiry_of",
    "identify",
    "load_pair",
    "next_expiry",
    "parse_identity",
    "subject_of",
    "verify_client",
    "verify_server",
]

Anchors = tuple[crypto.X509, ...]

# OpenSSL's verification results (X509_V_ERR_…) and the alerts that it sends for them itself.
_DATE_ERRORS: Final = frozenset({9, 10})  # not yet valid, expired
_ISSUER_ERRORS: Final = frozenset({2, 18, 19, 20, 21, 27})  # no issuer found, self-signed, untrusted
SUBJECT_LIMIT: Final = 16_384
"""Characters of a client's subject (RFC 4514); of one beyond :data:`spnhub.events.foreign_text.SUBJECT_BYTES` packets
and events have the beginning and a digest."""
_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which pyOpenSSL has no name for


class CertificateRefused(Exception):
    """A chain isn't valid; the message has the reason. ``alert`` is the TLS alert that an engine sends the peer."""

    def __init__(self, alert: CertificateAlert, reason: str) -> None:
        super().__init__(reason)
        self.alert = alert


def subject_of(certificate: x509.Certificate) -> str | None:
    """The Subject as an RFC 4514 string (D-2), printable and clipped; None if it can't be read."""
    subject = _whole_subject(certificate)
    return None if subject is None else clipped_subject(subject)


def _whole_subject(certificate: x509.Certificate) -> str | None:
    try:
        return certificate.subject.rfc4514_string()
    except (ValueError, TypeError):  # values that OpenSSL takes and this library doesn't: T61String, BIT STRING
        return None


class Subject(NamedTuple):
    """Who a certificate is issued to."""

    text: str
    """As :func:`subject_of` has it: the identity (D-2)."""
    common_name: str
    """As it is in the certificate, which is what an inventory names; empty without one."""


def identify(der: bytes) -> Subject | None:
    """Who a verified certificate (DER) is issued to; None: it can't be read."""
    try:
        certificate = load_certificate(der)
        text = subject_of(certificate)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, TypeError):
        return None
    return None if text is None else Subject(text, str(names[0].value) if names else "")


@lru_cache(maxsize=1024)
def anchors_of(pem: bytes, what: str) -> Anchors:
    """What chains may end at. Parsed once: bundles of a system hold some 150.

    :raises ValueError: none, or one that can't be used; the message begins with ``what``.
    """
    try:
        chain = load_chain(pem)
        with parsing("holds a PEM certificate that OpenSSL can't use"):
            return tuple(crypto.X509.from_cryptography(one) for one in chain)
    except ValueError as exc:
        raise ValueError(f"{what} {exc}") from exc


@dataclass(frozen=True, slots=True)
class ParsedIdentity:
    """A parsed :class:`spnhub.transport.engine.ServerIdentity`."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    private_key: PrivateKey = field(repr=False)
    authorities: Anchors
    revocation: Revocation
    alpn: tuple[str, ...]
    size: int
    """Bytes of the chain in a handshake."""


@lru_cache(maxsize=16_384)
def parse_identity(identity: ServerIdentity) -> ParsedIdentity:
    """Parse the PEM texts, which takes about a millisecond the first time.

    Before a policy is set again beside live traffic, with mostly the same identities, this is called in a thread.

    :raises ValueError: one that can't be used; the message says which.
    """
    chain, key = load_pair(identity.certificate_chain, identity.private_key, "server certificate", "server key")
    authorities = anchors_of(identity.client_ca, "client CA")
    lists_of(identity.revocation.crl)
    return ParsedIdentity(
        chain[0], tuple(chain[1:]), key, authorities, identity.revocation, identity.alpn, chain_size(chain)
    )


def load_pair(
    certificate_chain: bytes, private_key: bytes, certificate_name: str, key_name: str
) -> tuple[list[x509.Certificate], PrivateKey]:
    """A chain that can be presented, and its key.

    :raises ValueError: they can't be used; the message names which, as it was called.
    """
    what = certificate_name
    try:
        chain = load_presented(certificate_chain)
        what = key_name
        key = load_key(private_key)
    except ValueError as exc:
        raise ValueError(f"{what} {exc}") from exc
    if key.public_key() != chain[0].public_key():
        raise ValueError(f"{key_name} does not belong to the {certificate_name}")
    return chain, key


def verify_client(
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    anchors: Anchors,
    revocation: Revocation,
    moment: datetime,
) -> None:
    """Verify a client's chain, as the hub does.

    :param moment: aware.
    :raises CertificateRefused: with the alert to send, and what is wrong.
    """
    with _readable("client certificate"):
        verified, expired = _verify(certificate, chain, anchors, moment, "client certificate", "the hub's clock")
        _check_subject(certificate)
        _check_usage(certificate)
        if revocation:
            stale = _check_revocation(verified(), revocation, moment)
            expired = expired or stale
    if expired is not None:
        raise expired


def verify_server(
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    anchors: Anchors,
    server_name: str,
    moment: datetime,
) -> None:
    """Verify a hub's chain and name, as a client does.

    :param moment: aware.
    :raises CertificateRefused: with the alert to send, and what is wrong.
    """
    with _readable("hub certificate"):
        _, expired = _verify(certificate, chain, anchors, moment, "hub certificate", "the clock here")
        _check_name(certificate, server_name)
    if expired is not None:
        raise expired


def check_chain(certificates: Sequence[bytes], trust: ClientTrust, moment: datetime) -> ChainFault | None:
    """Why a client's chain is no longer accepted: what the handshake judges, judged again (D-30).

    :param certificates: as presented, DER, leaf first (:attr:`spnhub.transport.engine.Connected.certificates`).
    :param moment: aware.
    :returns: the reason; None: it is accepted.
    """
    anchors = anchors_of(trust.client_ca, "client CA")
    try:
        with _readable("client certificate"):
            leaf, *chain = map(load_certificate, certificates)
        verify_client(leaf, chain, anchors, trust.revocation, moment)
    except CertificateRefused as refused:
        return ChainFault(str(refused), refused.alert is CertificateAlert.CERTIFICATE_EXPIRED)
    return None


@lru_cache(maxsize=16_384)
def expiry_of(der: bytes) -> datetime | None:
    """When a certificate that a session has presented expires; None: this library can't read what OpenSSL accepted."""
    try:
        return load_certificate(der).not_valid_after_utc
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def _expiries(pem: bytes) -> tuple[datetime, ...]:
    return tuple(one.not_valid_after_utc for one in load_chain(pem))


def next_expiry(certificates: Sequence[bytes], trust: ClientTrust, moment: datetime) -> datetime | None:
    """When the next of these certificates, CAs included, expires after ``moment``, or a list that must not be stale:
    worth another check then."""
    known = [expiry_of(der) for der in certificates]
    # Of a chain with one that can't be read nothing more is known.
    ends = [] if None in known else [end for end in known if end is not None]
    if trust.revocation.refuse_stale and (stale := next_update(trust.revocation)) is not None:
        ends.append(stale)
    return min((end for end in (*ends, *_expiries(trust.client_ca)) if end > moment), default=None)


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
    """What a library raises about somebody else's certificate is a refusal, and no fault of ours.

    Certificates are parsed where they are looked at, and libraries differ in what they take: no list of exceptions is
    complete. The reason names the one that it was.
    """
    try:
        yield
    except CertificateRefused:
        raise
    except Exception as exc:
        reason = f"{what} can't be read: {type(exc).__name__}: {exc}"
        raise CertificateRefused(CertificateAlert.BAD_CERTIFICATE, clipped(reason)) from exc


def _verify(
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    anchors: Anchors,
    moment: datetime,
    what: str,
    clock: str,
) -> tuple[Callable[[], list[x509.Certificate]], CertificateRefused | None]:
    """Verify the chain; what time may heal is given back, to be raised if nothing worse is found.

    The other result gives the verified chain, leaf first up to its anchor; not everybody wants to pay for it.
    """
    leaf = crypto.X509.from_cryptography(certificate)
    others = [crypto.X509.from_cryptography(one) for one in chain]
    at_all = False
    while True:
        store = crypto.X509Store()
        for anchor in anchors:
            store.add_cert(anchor)
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN | (_NO_CHECK_TIME if at_all else 0))
        store.set_time(moment.astimezone(UTC).replace(tzinfo=None))
        context = crypto.X509StoreContext(store, leaf, others)

        def found(context: crypto.X509StoreContext = context) -> list[x509.Certificate]:
            return [one.to_cryptography() for one in context.get_verified_chain()]

        try:
            if not at_all:
                context.verify_certificate()
                return found, None
            verified = found()
        except crypto.X509StoreContextError as exc:
            code, depth, message = exc.errors
            if code in _DATE_ERRORS and not at_all:
                # Would it do at any time at all?
                at_all = True
                continue
            text = f"{what}{'' if depth == 0 else ' chain'}: {message}"
            alert = CertificateAlert.UNKNOWN_CA if code in _ISSUER_ERRORS else CertificateAlert.BAD_CERTIFICATE
            raise CertificateRefused(alert, text) from exc
        return found, CertificateRefused(CertificateAlert.CERTIFICATE_EXPIRED, _dates(verified, moment, what, clock))


def _dates(verified: Sequence[x509.Certificate], moment: datetime, what: str, clock: str) -> str:
    """Which certificate of a chain isn't valid at the moment, and by which clock; the nearest to the leaf."""
    for depth, certificate in enumerate(verified):
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if begin <= moment <= end:
            continue
        which = what if depth == 0 else f"{what}'s issuer {subject_of(certificate)}"
        dates = f"is not valid before {date_text(begin)}" if moment < begin else f"has expired at {date_text(end)}"
        return f"{which} {dates}; {clock} says {date_text(moment)[:16]}Z"
    return f"{what} is not valid at {date_text(moment)}, by {clock}"


def _check_name(certificate: x509.Certificate, server_name: str) -> None:
    try:
        names.verify_certificate_hostname(certificate, server_name)
    except ValueError as exc:
        # Extensions are parsed when they are looked at.
        raise CertificateRefused(CertificateAlert.BAD_CERTIFICATE, "hub certificate: extensions can't be read") from exc
    except (service_identity.CertificateError, service_identity.VerificationError) as exc:
        raise CertificateRefused(
            CertificateAlert.BAD_CERTIFICATE,
            f"hub certificate does not cover {server_name}, but {_covered(certificate)}",
        ) from exc


def _covered(certificate: x509.Certificate) -> str:
    """The names of a certificate, some of them."""
    found = _extension(certificate, x509.SubjectAlternativeName)
    dns: list[str] = [] if found is None else found.get_values_for_type(x509.DNSName)
    more = f" and {len(dns) - 3} more" if len(dns) > 3 else ""
    return (", ".join(dns[:3]) + more) if dns else "no DNS name"


def _check_subject(certificate: x509.Certificate) -> None:
    """The subject is the client's identity, in packets and in the log."""
    subject = _whole_subject(certificate)
    if subject is None or len(subject) > SUBJECT_LIMIT:
        fault = "can't be read" if subject is None else f"is longer than {SUBJECT_LIMIT} characters"
        raise CertificateRefused(CertificateAlert.BAD_CERTIFICATE, f"client certificate: its subject {fault}")


def _check_revocation(
    verified: Sequence[x509.Certificate], revocation: Revocation, moment: datetime
) -> CertificateRefused | None:
    """What a newer list may heal is given back."""
    fault = revoked(verified, revocation, moment)
    if fault is None:
        return None
    if fault.about_time:
        return CertificateRefused(CertificateAlert.CERTIFICATE_EXPIRED, f"client certificate: {fault.reason}")
    raise CertificateRefused(CertificateAlert.CERTIFICATE_REVOKED, f"client certificate: {fault.reason}")


def _check_usage(certificate: x509.Certificate) -> None:
    try:
        extended = _extension(certificate, x509.ExtendedKeyUsage)
        usage = _extension(certificate, x509.KeyUsage)
    except ValueError as exc:
        raise CertificateRefused(
            CertificateAlert.BAD_CERTIFICATE, "client certificate: extensions can't be read"
        ) from exc
    allowed = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if extended is not None and allowed.isdisjoint(extended):
        raise CertificateRefused(
            CertificateAlert.UNSUPPORTED_CERTIFICATE, "client certificate: extended key usage does not allow clientAuth"
        )
    if usage is not None and not usage.digital_signature:
        raise CertificateRefused(
            CertificateAlert.UNSUPPORTED_CERTIFICATE, "client certificate: key usage does not allow digitalSignature"
        )


def _extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
