"""Which kinds of keys both engines take, each with each, and what is said of those that neither takes."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID
from OpenSSL import crypto

from spnhub.transport.engine import Closed, Connected, HandshakeRefused, Limits
from spnhub.transport.pem import PrivateKey, load_chain
from tests.support.aioquic_inside import connection_of, show_certificate
from tests.support.engine_pair import Credentials, EnginePair, Kit, Side
from tests.support.engines import REAL, each_name, make_real

HOUR = timedelta(hours=1)
DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM
CA = ec.generate_private_key(ec.SECP256R1())


@functools.cache
def key(kind: str) -> PrivateKey:
    """One of each kind."""
    match kind:
        case "P-256" | "P-384" | "P-521":
            curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
            return ec.generate_private_key(curves[kind])
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "Ed448":
            return ed448.Ed448PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind.removeprefix("RSA ")))


def issue(subject: str, mine: PrivateKey, *, ca: bool = False, by: rsa.RSAPrivateKey | None = None) -> bytes:
    """A certificate, PEM."""
    now, name = datetime.now(UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(mine.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - HOUR)
    builder = builder.not_valid_after(now + HOUR).add_extension(x509.BasicConstraints(ca, None), True)
    if not ca:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("hub.test")]), False)
    return builder.sign(by or CA, hashes.SHA256()).public_bytes(PEM)


@functools.cache
def credentials(kind: str) -> Credentials:
    """With a key of that kind."""
    mine = key(kind)
    pem = mine.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Credentials(issue(kind, mine), pem)


@functools.cache
def anchor() -> bytes:
    return issue("CA", CA, ca=True)


def begin(hub: str, agent: str, server: str, client: str) -> EnginePair:
    """A handshake of both with keys of these kinds."""
    kit = Kit(hub, REAL[hub]().make, credentials(server), credentials(client), credentials(client), anchor(), anchor())
    pair = EnginePair(kit)
    pair.client = Side(pair.network, make_real(agent, Limits()))
    pair.begin()
    return pair


def settled(pair: EnginePair) -> EnginePair:
    """The same, once one side has said what came of it."""
    kinds = (Connected, HandshakeRefused)
    pair.run_until(lambda: any(isinstance(event, kinds) for event in pair.server.events))
    pair.run_for(1.0)
    return pair


def shake_hands(hub: str, agent: str, server: str, client: str) -> EnginePair:
    """Both together."""
    return settled(begin(hub, agent, server, client))


@pytest.mark.parametrize("agent", each_name(REAL))
@pytest.mark.parametrize("hub", each_name(REAL))
@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA 2048", "RSA 4096", "Ed25519"])
def test_what_both_take(hub: str, agent: str, kind: str) -> None:
    """On either side, whatever engine the other has."""
    pair = shake_hands(hub, agent, kind, kind)
    assert len(pair.server.of(Connected)) == len(pair.client.of(Connected)) == 1
    assert pair.client.of(Closed) == []


@pytest.mark.parametrize("engine", each_name(REAL))
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("RSA 1024", "a key of 1024 bits, which can be broken (2048 are the least)"),
        ("Ed448", "a key of a kind that TLS can't use here (RSA, EC and Ed25519 can be)"),
        ("P-521", "a key on the curve secp521r1, which TLS can't use here (P-256 and P-384 can be)"),
    ],
)
def test_what_neither_takes(engine: str, kind: str, said: str) -> None:
    """Said as such: of one's own before anything is sent, of the other's in the refusal (D-41)."""
    with pytest.raises(ValueError, match="server key is a ") as caught:
        shake_hands(engine, "aioquic", kind, "P-256")
    assert str(caught.value).endswith(said)
    with pytest.raises(ValueError, match="certificate key is a ") as caught:
        shake_hands("aioquic", engine, "P-256", kind)
    assert str(caught.value).endswith(said)
    # A client that shows it all the same.
    pair = begin(engine, "aioquic", "P-256", "P-256")
    show_certificate(connection_of(pair.client.engine), load_chain(issue(kind, key(kind)))[0].public_bytes(DER))
    (refused,) = settled(pair).server.of(HandshakeRefused)
    assert (refused.alert, refused.reason) == (43, f"client certificate has {said}")


@pytest.mark.parametrize("engine", each_name(REAL))
def test_a_ca_whose_key_can_be_broken(engine: str) -> None:
    """Whoever has broken it is whom he likes, whatever key he has himself; on either side."""
    weak, leaf = rsa.generate_private_key(65537, 1024), key("P-256")
    pem = leaf.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    mine = Credentials(issue("leaf", leaf, by=weak), pem)
    root = issue("CA", weak, ca=True, by=weak)
    good = credentials("P-256")
    for server, client, client_ca, trust, what in (
        (good, mine, root, anchor(), "client"),
        (mine, good, anchor(), root, "hub"),
    ):
        pair = EnginePair(Kit(engine, REAL[engine]().make, server, client, client, client_ca, trust))
        pair.begin()
        said = settled(pair).client.of(Closed)[-1]
        reason = f"{what} certificate's issuer CN=CA has a key of 1024 bits, which can be broken (2048 are the least)"
        assert (said.code, said.reason) == (0x100 + 43, reason)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # cryptography makes none of version 1
@pytest.mark.parametrize("hub", each_name(REAL))
def test_a_certificate_of_version_1(hub: str) -> None:
    """As `openssl x509 -req` makes them without an extension file; many clients have such a one."""
    mine = key("P-256")
    old = crypto.X509()
    old.set_version(0)
    old.set_serial_number(7)
    old.get_subject().CN = "old"
    old.set_issuer(crypto.load_certificate(crypto.FILETYPE_PEM, anchor()).get_subject())
    old.gmtime_adj_notBefore(-3600)
    old.gmtime_adj_notAfter(3600)
    old.set_pubkey(crypto.PKey.from_cryptography_key(mine))
    old.sign(crypto.PKey.from_cryptography_key(CA), "sha256")
    chain = crypto.dump_certificate(crypto.FILETYPE_PEM, old)
    who = Credentials(chain, credentials("P-256").key)
    pair = EnginePair(Kit(hub, REAL[hub]().make, credentials("P-256"), who, who, anchor(), anchor())).connect()
    assert pair.client.of(Closed) == []
