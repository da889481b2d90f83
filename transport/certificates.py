"""Whether a certificate chain is valid: one rule for the hub, which checks clients, and for clients, which check it.

Any certificate that was given to be trusted is an anchor, also an intermediate one or the leaf itself
(X509_V_FLAG_PARTIAL_CHAIN): ``cacert`` and ``trust`` say what to accept, and needn't go up to a root. Every certificate
of the chain, its anchor included, must be valid at the moment, meant for this use, and none of a client's revoked
(:mod:`spnhub.transport.revocation`), nor a CA above the anchor that is known, too. What is signed with MD5 or SHA-1
proves nothing (RFC 8446 section 4.4.2.4), nor what a key has signed that can be broken. A permanent fault is reported
before one that time may mend (D-36), which is given with the certificate's dates and the time of the check; of several
the first of: issuer and chain, keys, signatures, name or subject, usage, revocation (D-41).

What is verified once isn't verified again as long as nothing but time passes: a chain that was accepted is remembered
with what it was accepted by (CAs and revocation, by value, so a reload asks anew) and until when. Refusals aren't
remembered: strangers have as many chains as they like.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from datetime import UTC, datetime
from functools import lru_cache, wraps
from types import ModuleType
from typing import Any, Final, NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import crypto

from spnhub.dataclass import dataclass
from spnhub.events.foreign_text import clipped
from spnhub.transport.engine import CertificateAlert, ChainFault, ClientTrust, Revocation, ServerIdentity
from spnhub.transport.pem import (
    AT_HAND,
    PrivateKey,
    chain_size,
    date_text,
    key_fault,
    load_certificate,
    load_chain,
    load_key,
    load_presented,
    parsing,
    subject_of,
    weakness,
    whole_subject,
)
from spnhub.transport.revocation import lists_of, next_update, revoked

__all__ = [
    "KEPT",
    "SUBJECT_LIMIT",
    "Anchors",
    "CertificateRefused",
    "ParsedIdentity",
    "Subject",
    "anchors_of",
    "check_chain",
    "expiry_of",
    "identify",
    "kept",
    "load_names",
    "load_pair",
    "next_expiry",
    "parse_identity",
    "parsed",
    "public_roots",
    "verify_client",
    "verify_server",
]

Anchors = tuple[crypto.X509, ...]
_T = TypeVar("_T")

# OpenSSL's verification results (X509_V_ERR_…) and the alerts that it sends for them itself.
_DATE_ERRORS: Final = frozenset({9, 10})  # not yet valid, expired
_ISSUER_ERRORS: Final = frozenset({2, 18, 19, 20, 21, 27})  # no issuer found, self-signed, untrusted
SUBJECT_LIMIT: Final = 16_384
"""Characters of a client's subject (RFC 4514); of one beyond :data:`spnhub.events.foreign_text.SUBJECT_BYTES` packets
and events have the beginning and a digest."""
_BROKEN: Final = (hashes.MD5, hashes.SHA1)
_HIGHEST: Final = 16
"""Certificates of a chain, with the CAs above its anchor."""
_WORTH: Final = 8192
"""Bytes of a certificate or chain that is remembered, at most."""
KEPT: Final = 4096
"""Of each kind. So what is remembered takes 32 MiB at most of each, and some 4 MiB with usual certificates."""
_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which pyOpenSSL has no name for


class CertificateRefused(Exception):
    """A chain isn't valid; the message has the reason. ``alert`` is the TLS alert that an engine sends the peer."""

    def __init__(self, alert: CertificateAlert, reason: str) -> None:
        super().__init__(reason)
        self.alert = alert


def kept(function: Callable[[bytes], _T]) -> Callable[[bytes], _T]:
    """Remember the results of a function of a certificate (DER) that CAs have signed, so nobody can fill it at will."""
    known = lru_cache(maxsize=KEPT)(function)

    @wraps(function)
    def call(der: bytes) -> _T:
        return known(der) if len(der) <= _WORTH else function(der)

    return call


def parsed(der: bytes) -> x509.Certificate:
    """A certificate, parsed once for all that looks at it while its chain is judged and its session begins.

    Anyone can present one, so only the latest few are at hand.

    :raises ValueError: it can't be read.
    """
    return _parsed(der) if len(der) <= _WORTH else load_certificate(der)


_parsed: Final = lru_cache(maxsize=AT_HAND)(load_certificate)


class Subject(NamedTuple):
    """Who a certificate is issued to."""

    text: str
    """As :func:`spnhub.transport.pem.subject_of` has it: the identity (D-2)."""
    common_name: str
    """As it is in the certificate, which is what an inventory names; empty without one, or with several (D-2)."""


@kept
def identify(der: bytes) -> Subject | None:
    """Who a verified certificate (DER) is issued to; None: it can't be read."""
    try:
        certificate = parsed(der)
        text = subject_of(certificate)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, TypeError):
        return None
    return None if text is None else Subject(text, str(names[0].value) if len(names) == 1 else "")


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
    trust: ClientTrust
    alpn: tuple[str, ...]
    size: int
    """Bytes of the chain in a handshake."""
    max_handshakes: int | None
    """:attr:`spnhub.transport.engine.ServerIdentity.max_handshakes`."""


@lru_cache(maxsize=16_384)
def parse_identity(identity: ServerIdentity) -> ParsedIdentity:
    """Parse the PEM texts, which takes about a millisecond the first time.

    Before a policy is set again beside live traffic, with mostly the same identities, this is called in a thread.

    :raises ValueError: one that can't be used; the message says which.
    """
    chain, key = load_pair(identity.certificate_chain, identity.private_key, "server certificate", "server key")
    anchors_of(identity.client_ca, "client CA")
    lists_of(identity.revocation.crl)
    return ParsedIdentity(
        chain[0],
        tuple(chain[1:]),
        key,
        identity.trust,
        identity.alpn,
        chain_size(chain),
        identity.max_handshakes,
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


class _Accepted:
    """Chains that were accepted: by whom, and from when until when."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[object, ...], tuple[datetime, datetime]] = OrderedDict()

    def holds(self, key: tuple[object, ...], moment: datetime) -> bool:
        """Whether it was accepted, and would be at this moment."""
        period = self._known.get(key)
        if period is None or not period[0] <= moment < period[1]:
            return False
        self._known.move_to_end(key)
        return True

    def add(
        self,
        key: tuple[object, ...],
        certificates: Sequence[bytes],
        verified: Sequence[x509.Certificate],
        due: datetime | None = None,
    ) -> None:
        """Remember one, until one of its certificates expires, or at ``due``; the oldest make room."""
        if sum(map(len, certificates)) > _WORTH:
            return
        try:
            begin = max(one.not_valid_before_utc for one in verified)
            end = min(one.not_valid_after_utc for one in verified)
        except ValueError:  # dates that OpenSSL takes and this library doesn't
            return
        self._known[key] = begin, end if due is None else min(end, due)
        self._known.move_to_end(key)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)


_clients, _servers = _Accepted(), _Accepted()


def verify_client(certificates: tuple[bytes, ...], trust: ClientTrust, moment: datetime) -> None:
    """Verify a client's chain, as the hub does.

    :param certificates: as presented, DER, leaf first.
    :param moment: aware.
    :raises CertificateRefused: with the alert to send, and what is wrong.
    """
    key = certificates, trust
    if _clients.holds(key, moment):
        return
    what, revocation = "client certificate", trust.revocation
    anchors = anchors_of(trust.client_ca, "client CA")
    with _readable(what):
        verified, expired = _verify(certificates, anchors, moment, what, "the hub's clock")
        _check_keys(verified, what)
        _check_signatures(verified, what)
        _check_subject(verified[0])
        _check_usage(verified, what, ExtendedKeyUsageOID.CLIENT_AUTH, "clientAuth")
        if revocation:
            stale = _check_revocation(_up(verified, anchors), revocation, moment)
            expired = expired or stale
    if expired is not None:
        raise expired
    due = next_update(revocation) if revocation.refuse_stale else None
    _clients.add(key, certificates, verified, due)


def verify_server(certificates: tuple[bytes, ...], trust: bytes, server_name: str, moment: datetime) -> None:
    """Verify a hub's chain and name, as a client does.

    :param certificates: as presented, DER, leaf first.
    :param trust: PEM: what its chain may end at.
    :param moment: aware.
    :raises CertificateRefused: with the alert to send, and what is wrong.
    """
    key = certificates, trust, server_name
    if _servers.holds(key, moment):
        return
    what = "hub certificate"
    with _readable(what):
        verified, expired = _verify(certificates, anchors_of(trust, "trust"), moment, what, "the clock here")
        _check_keys(verified, what)
        _check_signatures(verified, what)
        if (fault := load_names().fault(verified[0], server_name)) is not None:
            raise CertificateRefused(CertificateAlert.BAD_CERTIFICATE, fault)
        _check_usage(verified, what, ExtendedKeyUsageOID.SERVER_AUTH, "serverAuth")
    if expired is not None:
        raise expired
    _servers.add(key, certificates, verified)


def load_names() -> ModuleType:
    """What compares a hub's certificate with its name (:mod:`spnhub.transport.server_names`).

    Late, since it and its library take 2.6 MiB and a hub never verifies another; engines call this when they connect
    first, for the handshake's end may come when the process has no descriptor left.
    """
    from spnhub.transport import server_names  # noqa: PLC0415

    return server_names


def public_roots() -> bytes:
    """The roots that an engine trusts where its client says none, PEM: those of certifi."""
    # Late: hardly anybody needs them, and reading them takes importlib.resources.
    import certifi  # noqa: PLC0415

    return certifi.contents().encode()


def check_chain(certificates: Sequence[bytes], trust: ClientTrust, moment: datetime) -> ChainFault | None:
    """Why a client's chain is no longer accepted: what the handshake judges, judged again (D-30).

    :param certificates: as presented, DER, leaf first (:attr:`spnhub.transport.engine.Connected.certificates`).
    :param moment: aware.
    :returns: the reason; None: it is accepted.
    """
    try:
        verify_client(tuple(certificates), trust, moment)
    except CertificateRefused as refused:
        return ChainFault(str(refused), refused.alert is CertificateAlert.CERTIFICATE_EXPIRED)
    return None


@lru_cache(maxsize=16_384)  # asked for all sessions, again and again
def expiry_of(der: bytes) -> datetime | None:
    """When a certificate that a session has presented expires; None: this library can't read what OpenSSL accepted."""
    try:
        return parsed(der).not_valid_after_utc
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
    certificates: Sequence[bytes], anchors: Anchors, moment: datetime, what: str, clock: str
) -> tuple[list[x509.Certificate], CertificateRefused | None]:
    """Verify the chain; what time may heal is given back, to be raised if nothing worse is found.

    The other result is the verified chain, leaf first up to its anchor.
    """
    leaf, *others = (crypto.X509.from_cryptography(parsed(der)) for der in certificates)
    at_all = False
    while True:
        store = crypto.X509Store()
        for anchor in anchors:
            store.add_cert(anchor)
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN | (_NO_CHECK_TIME if at_all else 0))
        store.set_time(moment.astimezone(UTC).replace(tzinfo=None))
        context = crypto.X509StoreContext(store, leaf, others)
        try:
            verified = [
                parsed(crypto.dump_certificate(crypto.FILETYPE_ASN1, one)) for one in context.get_verified_chain()
            ]
        except crypto.X509StoreContextError as exc:
            code, depth, message = exc.errors
            if code in _DATE_ERRORS and not at_all:
                # Would it do at any time at all?
                at_all = True
                continue
            text = f"{what}{'' if depth == 0 else ' chain'}: {message}"
            alert = CertificateAlert.UNKNOWN_CA if code in _ISSUER_ERRORS else CertificateAlert.BAD_CERTIFICATE
            raise CertificateRefused(alert, text) from exc
        if not at_all:
            return verified, None
        return verified, CertificateRefused(CertificateAlert.CERTIFICATE_EXPIRED, _dates(verified, moment, what, clock))


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


def _up(verified: Sequence[x509.Certificate], anchors: Anchors) -> list[x509.Certificate]:
    """A verified chain with the CAs above its anchor that are given, too: one of them may have revoked it."""
    chain, given = list(verified), [one.to_cryptography() for one in anchors]
    while len(chain) < _HIGHEST and chain[-1].issuer != chain[-1].subject:
        above = next((one for one in given if _issued(chain[-1], one)), None)
        if above is None:
            break
        chain.append(above)
    return chain


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check_keys(verified: Sequence[x509.Certificate], what: str) -> None:
    """The leaf's signs in the handshake, the others' have signed certificates, the anchor's too."""
    for depth, certificate in enumerate(verified):
        key = certificate.public_key()
        fault = weakness(key) if depth else key_fault(key)
        if fault is not None:
            which = what if depth == 0 else f"{what}'s issuer {subject_of(certificate)}"
            raise CertificateRefused(CertificateAlert.UNSUPPORTED_CERTIFICATE, f"{which} has {fault}")


def _check_signatures(verified: Sequence[x509.Certificate], what: str) -> None:
    """An anchor's own doesn't count: it is trusted without."""
    for depth, certificate in enumerate(verified[:-1]):
        try:
            algorithm = certificate.signature_hash_algorithm
        except UnsupportedAlgorithm:  # OpenSSL knew it, and this library knows the broken ones
            continue
        if isinstance(algorithm, _BROKEN):
            which = what if depth == 0 else f"{what}'s issuer {subject_of(certificate)}"
            reason = f"{which} is signed with {algorithm.name.upper()}, which can be forged"
            raise CertificateRefused(CertificateAlert.BAD_CERTIFICATE, reason)


def _check_subject(certificate: x509.Certificate) -> None:
    """The subject is the client's identity, in packets and in the log."""
    subject = whole_subject(certificate)
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


def _check_usage(verified: Sequence[x509.Certificate], what: str, use: x509.ObjectIdentifier, name: str) -> None:
    """A CA that is for another use can't say who may have this one, either."""
    allowed = {use, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    for depth, certificate in enumerate(verified):
        which = what if depth == 0 else f"{what}'s issuer {subject_of(certificate)}"
        try:
            extended = _extension(certificate, x509.ExtendedKeyUsage)
            usage = _extension(certificate, x509.KeyUsage)
        except ValueError as exc:
            raise CertificateRefused(CertificateAlert.BAD_CERTIFICATE, f"{which}: extensions can't be read") from exc
        if extended is not None and allowed.isdisjoint(extended):
            reason = f"{which}: extended key usage does not allow {name}"
        elif depth == 0 and usage is not None and not usage.digital_signature:
            reason = f"{which}: key usage does not allow digitalSignature"
        else:
            continue
        raise CertificateRefused(CertificateAlert.UNSUPPORTED_CERTIFICATE, reason)


def _extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
