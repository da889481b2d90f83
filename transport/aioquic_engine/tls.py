"""aioquic's TLS with our judgement of certificates inside the handshake.

aioquic's server neither asks for a client certificate nor verifies one, and knows a single server certificate. This
context does all three: it picks the identity by SNI while it reads the ClientHello (D-19), requires a client
certificate, and verifies its chain, dates and usage against that identity's CA before the handshake can complete.
Every refusal is a TLS alert. Tickets are never issued or taken, so no resumption gets around it.

aioquic's client has its own rule for the server's chain; ours is the server's (:mod:`spnhub.transport.certificates`),
by a clock that is given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from aioquic import tls
from aioquic.buffer import Buffer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spnhub.events.foreign_text import NAME_LIMIT, clipped
from spnhub.transport.certificates import (
    CertificateRefused,
    ParsedIdentity,
    load_names,
    verify_client,
    verify_server,
)
from spnhub.transport.engine import CertificateAlert

__all__ = ["ClientContext", "ServerContext"]


class AlertCertificateRequired(tls.Alert):
    """RFC 8446 section 4.4.2.4."""

    description = tls.AlertDescription.certificate_required


class AlertUnrecognizedName(tls.Alert):
    """RFC 6066 section 3."""

    description = tls.AlertDescription.unrecognized_name


class AlertCertificateRevoked(tls.Alert):
    """RFC 8446 section 6.2."""

    description = tls.AlertDescription.certificate_revoked


class AlertUnknownCa(tls.Alert):
    """RFC 8446 section 6.2."""

    description = tls.AlertDescription.unknown_ca


_ALERTS: Final[Mapping[CertificateAlert, type[tls.Alert]]] = {
    CertificateAlert.BAD_CERTIFICATE: tls.AlertBadCertificate,
    CertificateAlert.UNSUPPORTED_CERTIFICATE: tls.AlertUnsupportedCertificate,
    CertificateAlert.CERTIFICATE_REVOKED: AlertCertificateRevoked,
    CertificateAlert.CERTIFICATE_EXPIRED: tls.AlertCertificateExpired,
    CertificateAlert.UNKNOWN_CA: AlertUnknownCa,
}


@contextlib.contextmanager
def _parsing(what: str) -> Iterator[None]:
    """aioquic parses certificates and their keys, and lets out what the library raises: that is a refusal, too."""
    try:
        yield
    except tls.Alert:
        raise
    except Exception as exc:  # no list is complete: see :func:`spnhub.transport.certificates.verify_client`
        raise tls.AlertBadCertificate(clipped(f"{what} can't be read: {type(exc).__name__}: {exc}")) from exc


def _ders(leaf: x509.Certificate, chain: Sequence[x509.Certificate]) -> tuple[bytes, ...]:
    return tuple(one.public_bytes(Encoding.DER) for one in (leaf, *chain))


def _alert(refused: CertificateRefused) -> tls.Alert:
    return _ALERTS[refused.alert](str(refused))


class ServerContext(tls.Context):
    """aioquic's TLS server with identities by SNI and required, verified client certificates.

    :func:`attach` turns a connection's context into one; that is why it has no ``__init__``.
    """

    identities: Mapping[str, ParsedIdentity]
    clock: Callable[[], datetime]
    server_name: str | None

    def attach(self, identities: Mapping[str, ParsedIdentity], clock: Callable[[], datetime]) -> None:
        """Give a context that was just made what it needs."""
        self.identities = identities
        self.clock = clock
        self.server_name = None
        self.identity: ParsedIdentity | None = None
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
                "no server name (SNI)"
                if self.server_name is None
                else clipped(f"unknown server name {self.server_name[:NAME_LIMIT]!r}")
            )
        self.identity = identity
        self.certificate = identity.certificate
        self.certificate_chain = list(identity.chain)
        self.certificate_private_key = identity.private_key
        self._alpn_protocols = list(identity.alpn)
        super()._server_handle_hello(input_buf, initial_buf, handshake_buf)

    def _server_handle_certificate(self, input_buf: Buffer) -> None:
        with _parsing("client certificate"):
            super()._server_handle_certificate(input_buf)
        if self._peer_certificate is None:
            raise AlertCertificateRequired("no client certificate")
        assert self.identity is not None, "the ClientHello came first"
        try:
            verify_client(
                _ders(self._peer_certificate, self._peer_certificate_chain), self.identity.trust, self.clock()
            )
        except CertificateRefused as refused:
            raise _alert(refused) from refused

    def _server_handle_certificate_verify(self, input_buf: Buffer) -> None:
        try:
            with _parsing("client certificate"):
                super()._server_handle_certificate_verify(input_buf)
        except tls.AlertDecryptError as exc:
            raise tls.AlertDecryptError(str(exc) or "client certificate: forged signature") from exc


class ClientContext(tls.Context):
    """aioquic's TLS client, which judges the server's certificate as :func:`verify_server` does.

    :func:`attach` turns a connection's context into one; that is why it has no ``__init__``.
    """

    trust: bytes
    name: str
    clock: Callable[[], datetime]

    def attach(self, trust: bytes, name: str, clock: Callable[[], datetime]) -> None:
        """Give a context that was just made what it needs."""
        load_names()
        self.trust = trust
        self.name = name
        self.clock = clock

    def _client_handle_certificate(self, input_buf: Buffer) -> None:
        with _parsing("hub certificate"):
            super()._client_handle_certificate(input_buf)
        assert self._peer_certificate is not None, "an empty message was refused"
        chain = _ders(self._peer_certificate, self._peer_certificate_chain)
        try:
            verify_server(chain, self.trust, self.name, self.clock())
        except CertificateRefused as refused:
            raise _alert(refused) from refused

    def _client_handle_certificate_verify(self, input_buf: Buffer) -> None:
        with _parsing("hub certificate"):
            super()._client_handle_certificate_verify(input_buf)
