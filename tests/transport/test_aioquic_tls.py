"""Who is refused inside the handshake by each engine, and with which alert (D-19); the clients are plain aioquic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import pull_quic_header
from aioquic.tls import load_pem_private_key, load_pem_x509_certificates

from spnhub.pki import Authority, IssuedCredentials
from spnhub.transport.engine import (
    Address,
    Connected,
    EngineEvent,
    HandshakeRefused,
    Limits,
    ServerIdentity,
    ServerPolicy,
)
from tests.support.engine_pair import Kit
from tests.support.engines import REAL, each

CLIENT = Address(0, ("192.0.2.7", 5000))
AUTHORITY = Authority.create("realm CA")
SERVER = AUTHORITY.server("hub.test")


@pytest.fixture(params=each(REAL))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each real engine in turn."""
    made: Kit = request.param()
    return made


class Client:
    """A plain aioquic client against an engine, in memory."""

    def __init__(self, kit: Kit, credentials: IssuedCredentials | None, server_name: str | None = "hub.test") -> None:
        self.engine = kit.make(Limits())
        identity = ServerIdentity(SERVER.certificate, SERVER.key, AUTHORITY.certificate, ("spn/1",))
        self.engine.set_policy(ServerPolicy({"hub.test": identity}))
        configuration = QuicConfiguration(
            alpn_protocols=["spn/1"], server_name=server_name, cadata=AUTHORITY.certificate, verify_mode=0
        )
        if credentials is not None:
            configuration.certificate = load_pem_x509_certificates(credentials.certificate)[0]
            configuration.private_key = load_pem_private_key(credentials.key)
        self.quic = QuicConnection(configuration=configuration)
        self.events: list[EngineEvent] = []
        self.sent: list[bytes] = []

    def run(self, prepare: Callable[[Any], None] = lambda _: None) -> list[EngineEvent]:
        """Shake hands; ``prepare`` may bend the client's TLS."""
        self.quic.connect(("192.0.2.1", 443), 0.0)
        prepare(self.quic.tls)
        now = 0.0
        for _ in range(20):
            for data, _ in self.quic.datagrams_to_send(now):
                self.engine.receive(data, CLIENT, 0, now)
            self.events += self.engine.events()
            for data, _, size in self.engine.transmit(now):
                pieces = [data[i : i + size] for i in range(0, len(data), size)] if size else [data]
                self.sent += pieces
                for piece in pieces:
                    self.quic.receive_datagram(piece, ("192.0.2.1", 443), now)
            now += 0.01
        return self.events

    def close_code(self) -> int | None:
        """With which transport code the server closed."""
        event = self.quic._close_event
        return None if event is None else event.error_code


def no_certificate_message(context: Any) -> None:
    """The client goes from the server's Finished straight to its own, without a Certificate."""
    context._certificate_request = None
    original = context._client_handle_certificate_request

    def ignore(input_buf: Buffer) -> None:
        original(input_buf)
        context._certificate_request = None

    context._client_handle_certificate_request = ignore


def forge(context: Any) -> None:
    """The client signs its CertificateVerify with a key that isn't the certificate's."""
    context.certificate_private_key = load_pem_private_key(AUTHORITY.client("alice").key)


NAMED = AUTHORITY.client("alice")
CASES: list[tuple[str, IssuedCredentials | None, Callable[[Any], None], tls.AlertDescription]] = [
    ("empty", None, lambda _: None, tls.AlertDescription.certificate_required),
    ("none", NAMED, no_certificate_message, tls.AlertDescription.unexpected_message),
    ("other CA", Authority.create("other").client("alice"), lambda _: None, tls.AlertDescription.unknown_ca),
    ("expired", AUTHORITY.client("alice", expired=True), lambda _: None, tls.AlertDescription.certificate_expired),
    (
        "not yet valid",
        AUTHORITY.client("alice", not_yet_valid=True),
        lambda _: None,
        tls.AlertDescription.certificate_expired,
    ),
    (
        "wrong usage",
        AUTHORITY.client("alice", client_auth=False),
        lambda _: None,
        tls.AlertDescription.unsupported_certificate,
    ),
    ("forged signature", NAMED, forge, tls.AlertDescription.decrypt_error),
]


@pytest.mark.parametrize(
    ("credentials", "prepare", "alert"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_bad_client_certificates_are_refused_with_their_alert(
    kit: Kit, credentials: IssuedCredentials | None, prepare: Callable[[Any], None], alert: tls.AlertDescription
) -> None:
    """No session, one refusal that names the alert, and the client hears it."""
    client = Client(kit, credentials)
    events = client.run(prepare)
    refused = [event for event in events if isinstance(event, HandshakeRefused)]
    assert [type(event) for event in events] == [HandshakeRefused]
    assert (refused[0].alert, refused[0].server_name, refused[0].address) == (alert, "hub.test", CLIENT)
    assert refused[0].reason
    assert client.close_code() == 0x100 + alert


@pytest.mark.parametrize("server_name", [None, "other.test", "192.0.2.1"])
def test_unknown_server_names_are_refused(kit: Kit, server_name: str | None) -> None:
    """There is no default hub (D-19): no SNI, another name and an address are all unrecognized_name."""
    client = Client(kit, NAMED, server_name)
    events = client.run()
    alert = tls.AlertDescription.unrecognized_name
    assert [event.alert for event in events if isinstance(event, HandshakeRefused)] == [alert]
    assert client.close_code() == 0x100 + alert


def test_certificates_without_subject_alternative_name_are_fine(kit: Kit) -> None:
    """Deployed client certificates have a common name only; the subject is reported as RFC 4514."""
    client = Client(kit, AUTHORITY.client("alice", alternative_name=False))
    connected = [event for event in client.run() if isinstance(event, Connected)]
    assert len(connected) == 1
    assert (connected[0].server_name, connected[0].alpn) == ("hub.test", "spn/1")


def test_server_names_are_compared_without_case(kit: Kit) -> None:
    """RFC 6066 section 3: host names don't differ by case."""
    assert any(isinstance(event, Connected) for event in Client(kit, NAMED, "HUB.Test").run())


def test_no_ticket_leads_around_the_certificate(kit: Kit) -> None:
    """The server issues no session ticket, so every handshake shows its certificate."""
    tickets: list[Any] = []
    client = Client(kit, NAMED)
    client.quic._session_ticket_handler = tickets.append
    client.run()
    assert client.quic._handshake_complete
    assert tickets == []


def test_close_packet_is_repeated_for_stragglers(kit: Kit) -> None:
    """A client that missed the close packet hears it again when it sends (D-19, RFC 9000 section 10.2.1)."""
    client = Client(kit, Authority.create("other").client("alice"))
    client.run()
    before = len(client.sent)
    late = QuicConnection(configuration=client.quic.configuration)
    late.connect(("192.0.2.1", 443), 1.0)
    # Any datagram to the closed connection's id will do.
    cid = pull_quic_header(Buffer(data=client.sent[0]), host_cid_length=8).source_cid
    for _ in range(4):
        client.engine.receive(b"\x40" + cid + bytes(30), CLIENT, 0, 0.5)
        client.sent += [data for data, _, _ in client.engine.transmit(0.5)]
    assert len(client.sent) - before == 3  # the 1st, 2nd and 4th straggler
    assert set(client.sent[before:]) == {client.sent[before - 1]}
