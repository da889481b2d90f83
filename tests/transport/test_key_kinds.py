"""Which kinds of keys both engines take, each with each, and what is said of those that only one takes."""

from __future__ import annotations

import dataclasses
import functools
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID
from OpenSSL import crypto

from spnhub.transport.engine import Closed, Connected, HandshakeRefused, Limits
from spnhub.transport.pem import PrivateKey
from tests.support.engine_pair import Credentials, EnginePair, Kit, Side
from tests.support.engines import REAL, each_name, make_real

HOUR = timedelta(hours=1)
CA = ec.generate_private_key(ec.SECP256R1())


@functools.cache
def key(kind: str) -> PrivateKey:
    """One of each kind."""
    match kind:
        case "P-256" | "P-384":
            return ec.generate_private_key(ec.SECP256R1() if kind == "P-256" else ec.SECP384R1())
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "Ed448":
            return ed448.Ed448PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind.removeprefix("RSA ")))


def issue(subject: str, mine: PrivateKey, *, ca: bool = False) -> bytes:
    """A certificate, PEM."""
    now, name = datetime.now(UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(mine.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - HOUR)
    builder = builder.not_valid_after(now + HOUR).add_extension(x509.BasicConstraints(ca, None), True)
    if not ca:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("hub.test")]), False)
    return builder.sign(CA, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


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


def shake_hands(hub: str, agent: str, server: str, client: str) -> EnginePair:
    """Both with keys of these kinds, until one side has said what came of it."""
    kit = Kit(hub, REAL[hub]().make, credentials(server), credentials(client), credentials(client), anchor(), anchor())
    pair = EnginePair(dataclasses.replace(kit))
    pair.client = Side(pair.network, make_real(agent, Limits()))
    pair.begin()
    kinds = (Connected, HandshakeRefused)
    pair.run_until(lambda: any(isinstance(event, kinds) for event in pair.server.events))
    pair.run_for(1.0)
    return pair


@pytest.mark.parametrize("agent", each_name(REAL))
@pytest.mark.parametrize("hub", each_name(REAL))
@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA 2048", "RSA 4096", "Ed25519"])
def test_what_both_take(hub: str, agent: str, kind: str) -> None:
    """On either side, whatever engine the other has."""
    pair = shake_hands(hub, agent, kind, kind)
    assert len(pair.server.of(Connected)) == len(pair.client.of(Connected)) == 1
    assert pair.client.of(Closed) == []


@pytest.mark.parametrize("engine", [one for one in each_name(REAL) if one.id == "native"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("RSA 1024", "an RSA key of 1024 bits, which the native engine can't use (2048 and more it can)"),
        ("Ed448", "an Ed448 key, which the native engine can't use (RSA, EC and Ed25519 it can)"),
    ],
)
def test_what_the_native_engine_does_not_take(engine: str, kind: str, said: str) -> None:
    """Said as such: of one's own before anything is sent, of the other's in the refusal."""
    with pytest.raises(ValueError, match="server certificate holds an ") as caught:
        shake_hands(engine, "aioquic", kind, "P-256")
    assert str(caught.value).endswith(said)
    with pytest.raises(ValueError, match="certificate holds an ") as caught:
        shake_hands("aioquic", engine, "P-256", kind)
    assert str(caught.value).endswith(said)
    if kind == "RSA 1024":
        (refused,) = shake_hands(engine, "aioquic", "P-256", kind).server.of(HandshakeRefused)
        assert (refused.alert, refused.reason) == (43, f"certificate: {said}")


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
