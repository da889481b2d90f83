"""Who may connect, judged inside the TLS handshake.

aioquic's server neither asks for a client certificate nor verifies one, and knows a single server certificate. This
context does all three: it picks the identity by SNI while it reads the ClientHello (D-19), requires a client
certificate, and verifies its chain, dates and usage against that identity's CA before the handshake can complete.
Every refusal is a TLS alert. Tickets are never issued or taken, so no resumption gets around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from aioquic import tls
from aioquic.buffer import Buffer
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from spnhub.transport.engine import ServerIdentity

__all__ = [
    "Identity",
    "ServerContext",
    "check_chain",
    "load_chain",
    "load_key",
    "next_expiry",
    "parse_identity",
    "subject_of",
]

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


class AlertCertificateRequired(tls.Alert):
    """RFC 8446 section 4.4.2.4."""

    description = tls.AlertDescription.certificate_required


class AlertUnknownCa(tls.Alert):
    """RFC 8446 section 6.2."""

    description = tls.AlertDescription.unknown_ca


class AlertUnrecognizedName(tls.Alert):
    """RFC 6066 section 3."""

    description = tls.AlertDescription.unrecognized_name


@dataclass(frozen=True, slots=True)
class Identity:
    """A parsed :class:`spnhub.transport.engine.ServerIdentity`."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    private_key: PrivateKey = field(repr=False)
    authorities: tuple[crypto.X509, ...]
    alpn: tuple[str, ...]


def load_chain(pem: bytes, what: str) -> list[x509.Certificate]:
    """Certificates of a PEM text.

    :raises ValueError: none in it, or one that can't be read; the message names ``what``.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as exc:
        raise ValueError(f"{what} is not a PEM certificate: {exc}") from exc


def load_key(pem: bytes, what: str) -> PrivateKey:
    """A private key that TLS 1.3 can sign with.

    :raises ValueError: the message names ``what``, never the key.
    """
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as exc:
        raise ValueError(f"{what} is not an unencrypted PEM private key") from exc
    if not isinstance(key, PrivateKey):
        raise ValueError(f"{what} is a {type(key).__name__}, which TLS 1.3 cannot sign with")
    return key


@lru_cache(maxsize=16_384)
def parse_identity(identity: ServerIdentity) -> Identity:
    """Parse the PEM texts, which takes about a millisecond the first time.

    Who sets a policy again with mostly the same identities, beside live traffic, calls this in a thread before.

    :raises ValueError: one that can't be used; the message says which.
    """
    chain = load_chain(identity.certificate_chain, "server certificate")
    key = load_key(identity.private_key, "server key")
    if key.public_key() != chain[0].public_key():
        raise ValueError("server key does not belong to the server certificate")
    authorities = load_chain(identity.client_ca, "client CA")
    return Identity(
        chain[0], tuple(chain[1:]), key, tuple(crypto.X509.from_cryptography(a) for a in authorities), identity.alpn
    )


def subject_of(certificate: x509.Certificate) -> str | None:
    """The Subject as an RFC 4514 string (D-2); None if it can't be read."""
    try:
        return certificate.subject.rfc4514_string()
    except ValueError:
        return None


# OpenSSL's verification results (X509_V_ERR_…) and the alerts that it sends for them itself.
_DATE_ERRORS: Final = frozenset({9, 10})  # not yet valid, expired
_ISSUER_ERRORS: Final = frozenset({2, 18, 19, 20, 21, 27})  # no issuer found, self-signed, untrusted


def verify_client(
    certificate: x509.Certificate, chain: list[x509.Certificate], authorities: tuple[crypto.X509, ...], moment: datetime
) -> None:
    """Verify a client certificate against the CAs, at a moment.

    :raises aioquic.tls.Alert: the alert to send, with a message that says what is wrong.
    """
    store = crypto.X509Store()
    for authority in authorities:
        store.add_cert(authority)
    # Any given CA is an anchor, also an intermediate one: the realm's `cacert` says whom to accept.
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    store.set_time(moment.astimezone(UTC).replace(tzinfo=None))
    context = crypto.X509StoreContext(
        store, crypto.X509.from_cryptography(certificate), [crypto.X509.from_cryptography(c) for c in chain]
    )
    try:
        context.verify_certificate()
    except crypto.X509StoreContextError as exc:
        code, depth, message = exc.errors
        text = f"client certificate{'' if depth == 0 else ' chain'}: {message}"
        if code in _DATE_ERRORS:
            raise tls.AlertCertificateExpired(text) from exc
        if code in _ISSUER_ERRORS:
            raise AlertUnknownCa(text) from exc
        raise tls.AlertBadCertificate(text) from exc
    _check_usage(certificate)


@lru_cache(maxsize=1024)
def _authorities(pem: bytes) -> tuple[tuple[crypto.X509, ...], tuple[datetime, ...]]:
    """CAs, and when each of them expires."""
    chain = load_chain(pem, "client CA")
    return tuple(crypto.X509.from_cryptography(a) for a in chain), tuple(a.not_valid_after_utc for a in chain)


def check_chain(certificates: Sequence[bytes], client_ca: bytes, moment: datetime) -> str | None:
    """Why a client's chain is no longer accepted: what the handshake judges, judged again (D-30).

    :param certificates: as presented, DER, leaf first (:attr:`spnhub.transport.engine.Connected.certificates`).
    :param client_ca: PEM (:attr:`spnhub.transport.engine.ServerIdentity.client_ca`).
    :param moment: aware.
    :returns: the reason; None: it is accepted.
    """
    leaf, *chain = (x509.load_der_x509_certificate(der) for der in certificates)
    try:
        verify_client(leaf, chain, _authorities(client_ca)[0], moment)
    except tls.Alert as alert:
        return str(alert)
    return None


def next_expiry(certificates: Sequence[bytes], client_ca: bytes, moment: datetime) -> datetime | None:
    """When the next of these certificates, CAs included, expires after ``moment``: worth another check then."""
    ends = [x509.load_der_x509_certificate(der).not_valid_after_utc for der in certificates]
    return min((end for end in (*ends, *_authorities(client_ca)[1]) if end > moment), default=None)


def _check_usage(certificate: x509.Certificate) -> None:
    try:
        extended = _extension(certificate, x509.ExtendedKeyUsage)
        usage = _extension(certificate, x509.KeyUsage)
    except ValueError as exc:
        raise tls.AlertBadCertificate("client certificate: extensions can't be read") from exc
    allowed = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if extended is not None and allowed.isdisjoint(extended):
        raise tls.AlertUnsupportedCertificate("client certificate: extended key usage does not allow clientAuth")
    if usage is not None and not usage.digital_signature:
        raise tls.AlertUnsupportedCertificate("client certificate: key usage does not allow digitalSignature")


def _extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


class ServerContext(tls.Context):
    """aioquic's TLS server with identities by SNI and required, verified client certificates.

    :func:`attach` turns a connection's context into one; that is why it has no ``__init__``.
    """

    identities: Mapping[str, Identity]
    clock: Callable[[], datetime]
    server_name: str | None

    def attach(self, identities: Mapping[str, Identity], clock: Callable[[], datetime]) -> None:
        """Give a context that was just made what it needs."""
        self.identities = identities
        self.clock = clock
        self.server_name = None
        self.identity: Identity | None = None
        self._request_client_certificate = True

    def _server_handle_hello(self, input_buf: Buffer, initial_buf: Buffer, handshake_buf: Buffer) -> None:
        try:
            hello = tls.pull_client_hello(Buffer(data=input_buf.data_slice(0, input_buf.capacity)))
        except AssertionError as exc:
            raise tls.AlertDecodeError("ClientHello can't be read") from exc
        self.server_name = None if hello.server_name is None else hello.server_name.lower().rstrip(".")
        identity = None if self.server_name is None else self.identities.get(self.server_name)
        if identity is None:
            raise AlertUnrecognizedName(
                "no server name (SNI)" if self.server_name is None else f"unknown server name {self.server_name!r}"
            )
        self.identity = identity
        self.certificate = identity.certificate
        self.certificate_chain = list(identity.chain)
        self.certificate_private_key = identity.private_key
        self._alpn_protocols = list(identity.alpn)
        super()._server_handle_hello(input_buf, initial_buf, handshake_buf)

    def _server_handle_certificate(self, input_buf: Buffer) -> None:
        super()._server_handle_certificate(input_buf)
        if self._peer_certificate is None:
            raise AlertCertificateRequired("no client certificate")
        assert self.identity is not None, "the ClientHello came first"
        verify_client(
            self._peer_certificate, list(self._peer_certificate_chain), self.identity.authorities, self.clock()
        )

    def _server_handle_certificate_verify(self, input_buf: Buffer) -> None:
        try:
            super()._server_handle_certificate_verify(input_buf)
        except tls.AlertDecryptError as exc:
            raise tls.AlertDecryptError(str(exc) or "client certificate: forged signature") from exc
