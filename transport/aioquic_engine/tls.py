"""Who may connect, judged inside the TLS handshake.

aioquic's server neither asks for a client certificate nor verifies one, and knows a single server certificate. This
context does all three: it picks the identity by SNI while it reads the ClientHello (D-19), requires a client
certificate, and verifies its chain, dates and usage against that identity's CA before the handshake can complete.
Every refusal is a TLS alert. Tickets are never issued or taken, so no resumption gets around it.

aioquic's client has its own rule for the server's chain; ours is the server's (:mod:`.verify`), by a clock that is
given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from aioquic import tls
from aioquic.buffer import Buffer
from cryptography import x509

from spnhub.transport.aioquic_engine.verify import Anchors, anchors_of, verify_client, verify_server
from spnhub.transport.engine import ServerIdentity
from spnhub.transport.pem import PrivateKey, chain_size, load_key, load_presented

__all__ = ["ClientContext", "ParsedIdentity", "ServerContext", "load_pair", "parse_identity"]


class AlertCertificateRequired(tls.Alert):
    """RFC 8446 section 4.4.2.4."""

    description = tls.AlertDescription.certificate_required


class AlertUnrecognizedName(tls.Alert):
    """RFC 6066 section 3."""

    description = tls.AlertDescription.unrecognized_name


@dataclass(frozen=True, slots=True)
class ParsedIdentity:
    """A parsed :class:`spnhub.transport.engine.ServerIdentity`."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    private_key: PrivateKey = field(repr=False)
    authorities: Anchors
    alpn: tuple[str, ...]
    size: int
    """Bytes of the chain in a handshake."""


@lru_cache(maxsize=16_384)
def parse_identity(identity: ServerIdentity) -> ParsedIdentity:
    """Parse the PEM texts, which takes about a millisecond the first time.

    Who sets a policy again with mostly the same identities, beside live traffic, calls this in a thread before.

    :raises ValueError: one that can't be used; the message says which.
    """
    chain, key = load_pair(identity.certificate_chain, identity.private_key, "server certificate", "server key")
    return ParsedIdentity(
        chain[0], tuple(chain[1:]), key, anchors_of(identity.client_ca, "client CA"), identity.alpn, chain_size(chain)
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


class ClientContext(tls.Context):
    """aioquic's TLS client, which judges the server's certificate as :func:`verify_server` does.

    :func:`attach` turns a connection's context into one; that is why it has no ``__init__``.
    """

    anchors: Anchors
    name: str
    clock: Callable[[], datetime]

    def attach(self, anchors: Anchors, name: str, clock: Callable[[], datetime]) -> None:
        """Give a context that was just made what it needs."""
        self.anchors = anchors
        self.name = name
        self.clock = clock

    def _client_handle_certificate(self, input_buf: Buffer) -> None:
        super()._client_handle_certificate(input_buf)
        assert self._peer_certificate is not None, "an empty message was refused"
        verify_server(self._peer_certificate, list(self._peer_certificate_chain), self.anchors, self.name, self.clock())
