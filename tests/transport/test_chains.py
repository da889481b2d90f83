"""Certificate chains: one rule for both sides, whatever is wrong with time told as such, and how large they may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from aioquic import tls
from aioquic.quic.connection import QuicConnectionError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import crypto

from spnhub.transport.engine import (
    Closed,
    CloseKind,
    Connected,
    Engine,
    EngineEvent,
    HandshakeRefused,
    Limits,
    Revocation,
    ServerIdentity,
    ServerPolicy,
)
from spnhub.transport.pem import CHAIN_LIMIT, chain_size, load_chain
from tests.support.aioquic_inside import connection_of, take_crypto, unparsed
from tests.support.engine_pair import Credentials, EnginePair, Kit
from tests.support.engines import REAL, each_name, make_real

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
UNKNOWN_CA, BAD, UNSUPPORTED, EXPIRED = 48, 42, 43, 45


@dataclass(frozen=True)
class Node:
    """A certificate with its key, and who issued it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def make(
    name: str,
    issuer: Node | None = None,
    *,
    ca: bool = True,
    begin: datetime = NOW - 24 * HOUR,
    end: datetime = NOW + 24 * HOUR,
    names: tuple[str, ...] = ("hub.test",),
    padding: int = 0,
    more: Sequence[x509.NameAttribute[str]] = (),
    usages: Sequence[x509.ObjectIdentifier] = (),
) -> Node:
    """A certificate; ``issuer`` None: self-signed. ``padding``: bytes of an extension that nobody reads.

    ``more``: of its subject; ``usages``: extended ones.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), *more])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        usages = usages or (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if padding:
        unread = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), bytes(padding))
        builder = builder.add_extension(unread, critical=False)
    signer = key if issuer is None else issuer.key
    return Node(builder.sign(signer, hashes.SHA256()), key)


@cache
def nodes() -> dict[str, Node]:
    """What the tables are made of."""
    root = make("root")
    intermediate = make("intermediate", root)
    issuing = make("issuing", intermediate)
    past = make("past", root, end=NOW - HOUR)
    coming = make("coming", root, begin=NOW + HOUR)
    servers = make("servers", root, usages=(ExtendedKeyUsageOID.SERVER_AUTH,))
    return {
        "root": root,
        "intermediate": intermediate,
        "issuing": issuing,
        "leaf": make("leaf", issuing, ca=False),
        "self": make("self", ca=False),
        "past": past,
        "of past": make("leaf", past, ca=False),
        "coming": coming,
        "of coming": make("leaf", coming, ca=False),
        "expired": make("leaf", issuing, ca=False, end=NOW - HOUR),
        "early": make("leaf", issuing, ca=False, begin=NOW + HOUR),
        "stranger": make("stranger"),
        "servers": servers,
        "of servers": make("leaf", servers, ca=False),
        "of no ca": make("leaf", make("leaf", issuing, ca=False), ca=False),
    }


TABLE: list[tuple[str, str, int | None]] = [
    # what is presented, leaf first; what is trusted; the alert
    ("leaf issuing intermediate", "root", None),
    ("leaf issuing intermediate root", "root", None),
    ("leaf intermediate issuing", "root", None),
    ("leaf issuing intermediate", "root intermediate issuing", None),
    # Partial chains: any that is given is an anchor.
    ("leaf issuing intermediate", "intermediate", None),
    ("leaf issuing intermediate", "issuing", None),
    ("leaf", "issuing", None),
    ("leaf", "issuing intermediate", None),
    ("leaf", "issuing intermediate root", None),
    ("leaf", "leaf", None),
    ("self", "self", None),
    ("self", "stranger self", None),
    # Something is missing, or somebody else's.
    ("leaf", "root", UNKNOWN_CA),
    ("leaf issuing", "root", UNKNOWN_CA),
    ("leaf", "intermediate", UNKNOWN_CA),
    ("leaf issuing intermediate", "stranger", UNKNOWN_CA),
    ("leaf issuing intermediate root", "stranger", UNKNOWN_CA),
    ("self", "root", UNKNOWN_CA),
    ("leaf", "self", UNKNOWN_CA),
    # Time: of the leaf, of an issuer, of the anchor.
    ("expired issuing intermediate", "root", EXPIRED),
    ("early issuing intermediate", "root", EXPIRED),
    ("expired", "expired", EXPIRED),
    ("of past past", "root", EXPIRED),
    ("of coming coming", "root", EXPIRED),
    ("of past", "past", EXPIRED),
    # What is wrong for good is told first.
    ("expired issuing intermediate", "stranger", UNKNOWN_CA),
    ("expired", "root", UNKNOWN_CA),
    ("of past past", "stranger", UNKNOWN_CA),
]


def pems(text: str) -> bytes:
    """The certificates that a row of the table names."""
    known = nodes()
    words, found = text.replace("of past", "of_past").replace("of coming", "of_coming").split(), b""
    for word in words:
        found += known[word.replace("_", " ")].pem
    return found


def key_of(text: str) -> bytes:
    """The key of the first of them."""
    known = nodes()
    return known[next(name for name in sorted(known, key=len, reverse=True) if text.startswith(name))].key_pem


def shake_hands(
    engine: str,
    server: Credentials,
    client: Credentials,
    client_ca: bytes,
    trust: bytes,
    *,
    server_name: str = "hub.test",
    revoked: frozenset[str] = frozenset(),
    client_engine: str = "",
    loss: float = 0.0,
    jitter: float = 0.0,
) -> tuple[list[EngineEvent], list[EngineEvent], EnginePair]:
    """What the client and the hub had to say, and where it was said.

    :param engine: the hub's; the client's, too, without one of its own.
    :param jitter: seconds; with it or with loss, packets overtake others.
    """
    engines = iter((engine, client_engine or engine))

    def make(limits: Limits, *, reset_key: bytes | None = None) -> Engine:
        return make_real(next(engines), limits, clock=lambda: NOW, reset_key=reset_key)

    pair = EnginePair(Kit(engine, make, server, client, client, client_ca, trust))
    revocation = Revocation(certificates=revoked)
    pair.server.engine.set_policy(
        ServerPolicy({server_name: ServerIdentity(server.chain, server.key, client_ca, ("spn/1",), revocation)})
    )
    pair.network.loss, pair.network.jitter, pair.network.reorder = loss, jitter, bool(loss or jitter)
    pair.begin(server_name=server_name)
    kinds = (Connected, Closed, HandshakeRefused)
    pair.run_until(lambda: any(isinstance(event, kinds) for event in pair.server.events), 30.0)
    pair.run_for(1.0)
    return pair.client.events, pair.server.events, pair


@pytest.fixture(params=each_name(REAL))
def engine(request: pytest.FixtureRequest) -> str:
    """Each real engine's name in turn."""
    return str(request.param)


@cache
def good() -> tuple[Credentials, bytes]:
    """Credentials that the other side's anchors accept."""
    return Credentials(pems("leaf issuing intermediate"), key_of("leaf")), pems("root")


@pytest.mark.parametrize(("presented", "trusted", "alert"), TABLE)
def test_both_sides_have_the_same_rule(engine: str, presented: str, trusted: str, alert: int | None) -> None:
    """A hub judges a client's chain as a client judges a hub's."""
    mine, anchors = Credentials(pems(presented), key_of(presented)), pems(trusted)
    other, root = good()
    client, server, _ = shake_hands(engine, server=other, client=mine, client_ca=anchors, trust=root)
    refused = [event.alert for event in server if isinstance(event, HandshakeRefused)]
    assert refused == ([] if alert is None else [alert])
    # A chain takes several datagrams: what comes after the refusal completes nothing.
    assert any(isinstance(event, Connected) for event in server) is (alert is None)
    closed = [(event.kind, event.code) for event in client if isinstance(event, Closed)]
    assert closed == ([] if alert is None else [(CloseKind.PEER_TRANSPORT, 0x100 + alert)])

    client, server, _ = shake_hands(engine, server=mine, client=other, client_ca=root, trust=anchors)
    closed = [(event.kind, event.code) for event in client if isinstance(event, Closed)]
    assert closed == ([] if alert is None else [(CloseKind.VIOLATION, 0x100 + alert)])
    refused = [event.alert for event in server if isinstance(event, HandshakeRefused)]
    assert refused == ([] if alert is None else [alert])


@pytest.mark.parametrize("trusted", ["root", "servers", "root servers"])
def test_a_ca_for_servers_makes_no_client(engine: str, trusted: str) -> None:
    """What it issues may be a hub, whatever the leaf says of itself."""
    mine, anchors = Credentials(pems("of_servers servers"), nodes()["of servers"].key_pem), pems(trusted)
    other, root = good()
    client, server, _ = shake_hands(engine, server=other, client=mine, client_ca=anchors, trust=root)
    reason = "client certificate's issuer CN=servers: extended key usage does not allow clientAuth"
    refused = [(event.alert, event.reason) for event in server if isinstance(event, HandshakeRefused)]
    assert refused == [(UNSUPPORTED, reason)]
    client, server, _ = shake_hands(engine, server=mine, client=other, client_ca=root, trust=anchors)
    assert [type(event) for event in (*client, *server)] == [Connected, Connected]


@pytest.mark.parametrize(
    ("usage", "client_alert", "server_alert"),
    [
        (ExtendedKeyUsageOID.CLIENT_AUTH, None, 43),
        (ExtendedKeyUsageOID.SERVER_AUTH, 43, None),
        (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, None, None),
        (ExtendedKeyUsageOID.CODE_SIGNING, 43, 43),
    ],
)
def test_each_for_its_use(
    engine: str, usage: x509.ObjectIdentifier, client_alert: int | None, server_alert: int | None
) -> None:
    """A client's certificate is no hub's, nor the other way round."""
    other, root = good()
    leaf = make("leaf", nodes()["issuing"], ca=False, usages=(usage,))
    mine = Credentials(leaf.pem + pems("issuing intermediate"), leaf.key_pem)
    _, server, _ = shake_hands(engine, server=other, client=mine, client_ca=root, trust=root)
    alerts = [event.alert for event in server if isinstance(event, HandshakeRefused)]
    assert alerts == ([] if client_alert is None else [client_alert])
    _, server, _ = shake_hands(engine, server=mine, client=other, client_ca=root, trust=root)
    alerts = [event.alert for event in server if isinstance(event, HandshakeRefused)]
    assert alerts == ([] if server_alert is None else [server_alert])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # cryptography signs with neither
@pytest.mark.parametrize(("algorithm", "told"), [("md5", "MD5"), ("sha1", "SHA1"), ("sha256", None)])
def test_signatures_that_can_be_forged(engine: str, algorithm: str, told: str | None) -> None:
    """Of a leaf or of an issuer (RFC 8446 section 4.4.2.4); an anchor is trusted without its own."""
    key = rsa.generate_private_key(65537, 2048)

    def sign(node: Node, by: str) -> bytes:
        made = crypto.X509.from_cryptography(node.certificate)
        if node is anchor:
            made.set_pubkey(crypto.PKey.from_cryptography_key(key))
        made.sign(crypto.PKey.from_cryptography_key(key), by)
        return crypto.dump_certificate(crypto.FILETYPE_PEM, made)

    anchor = make("anchor")
    root = sign(anchor, "md5")
    leaf, middle = make("leaf", anchor, ca=False), make("middle", anchor)
    below = make("leaf", middle, ca=False)
    other, others = good()
    for chain, node, which in (
        (sign(leaf, algorithm), leaf, ""),
        (below.pem + sign(middle, algorithm), below, "'s issuer CN=middle"),
    ):
        mine = Credentials(chain, node.key_pem)
        client, server, _ = shake_hands(engine, server=other, client=mine, client_ca=root, trust=others)
        refused = [(event.alert, event.reason) for event in server if isinstance(event, HandshakeRefused)]
        reason = f"client certificate{which} is signed with {told}, which can be forged"
        assert refused == ([] if told is None else [(BAD, reason)])
        client, _, _ = shake_hands(engine, server=mine, client=other, client_ca=others, trust=root)
        closed = [(event.code, event.reason) for event in client if isinstance(event, Closed)]
        reason = f"hub certificate{which} is signed with {told}, which can be forged"
        assert closed == ([] if told is None else [(0x100 + BAD, reason)])


def test_revoked(engine: str) -> None:
    """Both sides hear of it in TLS's own word."""
    other, root = good()
    leaf = x509.load_pem_x509_certificate(pems("leaf"))
    revoked = frozenset({leaf.fingerprint(hashes.SHA256()).hex()})
    client, server, _ = shake_hands(engine, other, other, root, root, revoked=revoked)
    assert [event.alert for event in server if isinstance(event, HandshakeRefused)] == [44]
    assert [event.code for event in client if isinstance(event, Closed)] == [0x100 + 44]


def test_a_wrong_name_is_told_before_a_wrong_time(engine: str) -> None:
    """Waiting wouldn't help."""
    other, root = good()
    expired = Credentials(pems("expired issuing intermediate"), key_of("expired"))
    client, _, _ = shake_hands(engine, expired, other, root, root, server_name="other.test")
    closed = [event for event in client if isinstance(event, Closed)]
    assert [event.code for event in closed] == [0x100 + BAD]
    assert closed[0].reason == "hub certificate does not cover other.test, but hub.test"


def test_whose_certificate_and_whose_clock(engine: str) -> None:
    """The reason has the dates, and the clock that judged."""
    other, root = good()
    for presented, said in (
        ("expired issuing intermediate", "has expired at 2030-01-01T11:00:00Z"),
        ("early issuing intermediate", "is not valid before 2030-01-01T13:00:00Z"),
    ):
        mine = Credentials(pems(presented), key_of(presented))
        client, server, _ = shake_hands(engine, mine, other, root, root)
        reasons = [event.reason for event in client if isinstance(event, Closed)]
        assert reasons == [f"hub certificate {said}; the clock here says 2030-01-01T12:00Z"]
        client, server, _ = shake_hands(engine, other, mine, root, root)
        reasons = [event.reason for event in server if isinstance(event, HandshakeRefused)]
        assert reasons == [f"client certificate {said}; the hub's clock says 2030-01-01T12:00Z"]
        assert [event.reason for event in client if isinstance(event, Closed)] == reasons
    mine = Credentials(pems("of past past"), key_of("of past"))
    client, _, _ = shake_hands(engine, mine, other, root, root)
    reasons = [event.reason for event in client if isinstance(event, Closed)]
    assert reasons[0].startswith("hub certificate's issuer CN=past has expired at")


def test_a_subject_as_long_as_a_chain(engine: str) -> None:
    """A stranger's fills no log, nor does that of a client whose CA has signed it."""
    other, root = good()
    for issuer, reason in (
        (nodes()["issuing"], "client certificate: its subject is longer than 16384 characters"),
        (None, "client certificate: self-signed certificate"),
    ):
        names = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 60) for _ in range(300)]
        leaf = make("leaf", issuer, ca=False, more=names)
        mine = Credentials(leaf.pem + pems("issuing intermediate"), leaf.key_pem)
        _, server, _ = shake_hands(engine, other, mine, root, root)
        (refused,) = (event for event in server if isinstance(event, HandshakeRefused))
        assert refused.reason == reason
        assert refused.subject is not None
        assert len(refused.subject) == 257


def padded(size: int) -> tuple[Credentials, bytes]:
    """A chain of two that takes ``size`` bytes in a handshake, and its root."""
    issuer = make("issuer")

    def presented(padding: int) -> tuple[Node, bytes]:
        leaf = make("leaf", issuer, ca=False, padding=padding)
        return leaf, leaf.pem + issuer.pem

    padding = size - 1200
    for _ in range(20):
        leaf, chain = presented(padding)
        difference = size - chain_size(load_chain(chain))
        if not difference:
            return Credentials(chain, leaf.key_pem), issuer.pem
        # A signature's length varies by two.
        padding += difference
    raise AssertionError("no chain of that size")


@pytest.mark.parametrize("size", [15_000, 16_384, 17_000, 40_000, CHAIN_LIMIT])
def test_large_chains_work_on_both_sides(engine: str, size: int) -> None:
    """Up to the bound that is stated, beside each other."""
    large, root = padded(size)
    client, server, pair = shake_hands(engine, large, large, root, root)
    assert [type(event) for event in client] == [Connected]
    assert [type(event) for event in server] == [Connected]
    assert pair.clock.now() < 5.0


@pytest.mark.parametrize("client_engine", each_name(REAL))
@pytest.mark.parametrize(("loss", "jitter"), [(0.0, 0.0), (0.0, 0.05), (0.05, 0.0), (0.05, 0.05)])
def test_large_chains_of_others(engine: str, client_engine: str, loss: float, jitter: float) -> None:
    """A client may repeat what it has lost in any order: what comes ahead of what is missing waits for that."""
    large, root = padded(CHAIN_LIMIT)
    found = shake_hands(engine, large, large, root, root, client_engine=client_engine, loss=loss, jitter=jitter)
    client, server, pair = found
    assert [type(event) for event in (*client, *server)] == [Connected, Connected]
    assert pair.clock.now() < 8.0


def test_many_names_and_many_issuers(engine: str) -> None:
    """700 names, and eleven certificates in a row: what was reported."""
    issuers = [make("issuer 0")]
    for number in range(1, 10):
        issuers.append(make(f"issuer {number}", issuers[-1], padding=900))
    names = ("hub.test", *(f"service-{number:04}.customers.example.com" for number in range(700)))
    leaf = make("leaf", issuers[-1], ca=False, names=names)
    large = Credentials(b"".join(one.pem for one in (leaf, *reversed(issuers))), leaf.key_pem)
    client, server, _ = shake_hands(engine, large, large, issuers[0].pem, issuers[0].pem)
    assert [type(event) for event in (*client, *server)] == [Connected, Connected]


def test_beyond_the_bound(engine: str) -> None:
    """Who has such a chain is told which bound, before anything is sent."""
    large, root = padded(CHAIN_LIMIT + 1)
    other, _ = good()
    message = "takes 65532 bytes in a handshake with its chain; the bound is 65531"
    with pytest.raises(ValueError, match=f"certificate {message}"):
        shake_hands(engine, other, large, root, root)
    with pytest.raises(ValueError, match=f"hub.test: server certificate {message}"):
        shake_hands(engine, large, other, root, root)


def test_a_chain_beyond_the_bound_that_comes_nevertheless(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From somebody else's program: the handshake ends with a reason for both, and no traceback."""
    large, root = padded(2 * CHAIN_LIMIT)
    other, others = good()
    monkeypatch.setattr("spnhub.transport.pem.CHAIN_LIMIT", 10 * CHAIN_LIMIT)
    client, server, _ = shake_hands(engine, server=other, client=large, client_ca=root, trust=others)
    largest = {"aioquic": 73_723, "native": 65_535}[engine]
    reason = f"a handshake message is larger than {largest} bytes; a certificate chain may take 65531"
    refused = [(event.alert, event.reason) for event in server if isinstance(event, HandshakeRefused)]
    assert refused == [(None, reason)]
    closed = [(event.kind, event.code, event.reason) for event in client if isinstance(event, Closed)]
    assert closed == [(CloseKind.PEER_TRANSPORT, 0x0D, reason)]


@pytest.mark.parametrize(
    ("epoch", "bound"),
    [(tls.Epoch.INITIAL, 16_384), (tls.Epoch.HANDSHAKE, 73_723), (tls.Epoch.ONE_RTT, 16_384)],
)
def test_what_a_stranger_can_make_a_side_hold(epoch: tls.Epoch, bound: int) -> None:
    """What has come behind a gap, and what is there of an incomplete message, count together."""
    other, root = good()
    _, _, pair = shake_hands("aioquic", other, other, root, root)
    quic = connection_of(pair.server.engine)
    unparsed(quic, bytes(1000))
    for end, fits in ((bound - 1000, True), (bound - 999, False)):
        if fits:
            take_crypto(quic, epoch, end)
        else:
            with pytest.raises(QuicConnectionError, match=f"larger than {bound} bytes"):
                take_crypto(quic, epoch, end)
