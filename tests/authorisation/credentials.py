"""The certificates and revocation lists that the table names, made for real."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import crypto

from spnhub.transport.engine import Revocation
from spnhub.transport.pem import PrivateKey
from tests.authorisation.axes import AUTHORITIES, CHAINS, REVOCATIONS, SUBJECTS, USAGES, VALIDITIES, Cell, Usage
from tests.support.engine_pair import Credentials
from tests.support.odd_certificates import BIT_STRING, tlv

__all__ = ["NOW", "authority", "client", "key_of", "leaf_of", "pem_of", "revocation_of", "standing", "standing_ca"]

NOW: Final = datetime(2030, 1, 1, 12, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
_SEQUENCE: Final = 0x30
_RSA_SHA256: Final = bytes.fromhex("300d06092a864886f70d01010b0500")
_PERIODS: Final = {
    "now": (NOW - _DAY, NOW + 7 * _DAY),
    "past": (NOW - 2 * _DAY, NOW - _DAY),
    "coming": (NOW + _DAY, NOW + 2 * _DAY),
    "from now": (NOW, NOW + _DAY),
    "until now": (NOW - _DAY, NOW),
}
_HASHES: Final[dict[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "SHA-256": hashes.SHA256(),
    "SHA-384": hashes.SHA384(),
    "SHA-512": hashes.SHA512(),
}
_EXTENDED: Final = {
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "codeSigning": ExtendedKeyUsageOID.CODE_SIGNING,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
}
_KEY_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_STRINGS: Final = {
    "UTF8String": _ASN1Type.UTF8String,
    "PrintableString": _ASN1Type.PrintableString,
    "BMPString": _ASN1Type.BMPString,
    "T61String": _ASN1Type.T61String,
}


def key_of(kind: str, number: int = 0) -> Any:
    """A private key of a kind: ``RSA`` with its bits, a curve's name, or ``Ed…``; the same for the same number."""
    return _key(kind, number)


@cache
def _key(kind: str, _number: int) -> Any:
    match kind:
        case "P-256":
            return ec.generate_private_key(ec.SECP256R1())
        case "P-384":
            return ec.generate_private_key(ec.SECP384R1())
        case "P-521":
            return ec.generate_private_key(ec.SECP521R1())
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "Ed448":
            return ed448.Ed448PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind.removeprefix("RSA ")))


@contextmanager
def _as_deprecated() -> Iterator[None]:
    """Neither MD5 nor SHA-1 is signed with by cryptography; pyOpenSSL does, and says that one shouldn't."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _signed(builder: x509.CertificateBuilder, key: PrivateKey, signature: str) -> x509.Certificate:
    if signature == "RSA-PSS":
        assert isinstance(key, rsa.RSAPrivateKey)
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
        return builder.sign(key, hashes.SHA256(), rsa_padding=pss)
    made = builder.sign(key, _HASHES.get(signature, hashes.SHA256()))
    if signature in _HASHES:
        return made
    with _as_deprecated():
        old = crypto.X509.from_cryptography(made)
        old.sign(crypto.PKey.from_cryptography_key(key), signature.replace("-", "").lower())
        return old.to_cryptography()


def _usage(builder: x509.CertificateBuilder, usage: Usage) -> x509.CertificateBuilder:
    if usage.extended is not None:
        extended = x509.ExtendedKeyUsage([_EXTENDED[one] for one in usage.extended])
        builder = builder.add_extension(extended, usage.critical)
    if usage.key is not None:
        builder = builder.add_extension(x509.KeyUsage(**{name: name in usage.key for name in _KEY_USAGES}), True)
    return builder


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _key_of_authority(name: str) -> Any:
    return key_of(AUTHORITIES[name].key, 1 + list(AUTHORITIES).index(name))


@cache
def authority(name: str) -> x509.Certificate:
    """A CA of the table."""
    one = AUTHORITIES[name]
    begin, end = _PERIODS[one.period]
    issuer = AUTHORITIES[one.issuer]
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(one.name or name))
        .issuer_name(_name(issuer.name or one.issuer))
        .public_key(_key_of_authority(name).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(one.ca, one.path_length), True)
    )
    return _signed(_usage(builder, one.usage), _key_of_authority(one.issuer), one.signature)


def pem_of(name: str) -> bytes:
    """A CA of the table, PEM."""
    return authority(name).public_bytes(Encoding.PEM)


def _subject(cell: Cell) -> x509.Name:
    asked = SUBJECTS[cell.subject]
    encoding = _STRINGS.get(asked.encoding, _ASN1Type.UTF8String)
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, one, _type=encoding) for one in asked.common_names]
    more = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, asked.organization)] if asked.organization else []
    if asked.one_element:
        return x509.Name([x509.RelativeDistinguishedName([*parts, *more])])
    return x509.Name([*more, *parts])


def _alternative(text: str) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    if kind == "uri":
        return x509.UniformResourceIdentifier(value)
    return x509.DNSName(value) if kind == "dns" else x509.RFC822Name(value)


@cache
def _leaf(subject: str, issuer: str, key: str, signature: str, usage: str, validity: str) -> x509.Certificate:
    cell = Cell(subject=subject, usage=usage)
    mine = key_of(key)
    signer = _key_of_authority(issuer) if issuer else mine
    if not isinstance(signer, rsa.RSAPrivateKey):
        # Only RSA is signed with by each of the table's algorithms.
        signature = signature if signature in {"SHA-384", "SHA-512"} else "SHA-256"
    begin, end = _PERIODS[VALIDITIES[validity].period]
    name = _subject(cell)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(_name(AUTHORITIES[issuer].name or issuer) if issuer else name)
        .public_key(mine.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(False, None), True)
    )
    if alternatives := SUBJECTS[subject].alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_alternative, alternatives))), False)
    builder = _usage(builder, USAGES[usage])
    if isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return builder.sign(signer, None)
    return _signed(builder, signer, signature)


def leaf_of(cell: Cell) -> x509.Certificate:
    """The client's certificate, before its subject is spoilt."""
    return _leaf(cell.subject, CHAINS[cell.chain].issuer, cell.key, cell.signature, cell.usage, cell.validity)


@cache
def _spoilt(leaf: x509.Certificate, issuer: str) -> bytes:
    """The same with a common name that is no UTF-8, DER, signed all the same."""
    body = leaf.tbs_certificate_bytes
    assert body.count(b"\x06client") == 1
    body = body.replace(b"\x06client", b"\x06cli\xff\xfet")
    signature = _key_of_authority(issuer).sign(body, padding.PKCS1v15(), hashes.SHA256())
    return tlv(_SEQUENCE, body + _RSA_SHA256 + tlv(BIT_STRING, b"\0" + signature))


def client(cell: Cell) -> tuple[list[x509.Certificate], PrivateKey | None]:
    """What the client of a cell presents, and the key with which it signs."""
    leaf, chain = leaf_of(cell), CHAINS[cell.chain]
    if chain.nothing:
        return [], None
    if SUBJECTS[cell.subject].encoding == "invalid UTF-8":
        leaf = x509.load_der_x509_certificate(_spoilt(leaf, chain.issuer))
    # aioquic can't sign with these, and would show nothing: a client that lies shows them all the same.
    signs = key_of("P-256" if cell.key in {"P-521", "Ed448"} else cell.key)
    return [leaf, *map(authority, chain.presented)], signs


@cache
def _pem_of(kind: str) -> bytes:
    key: PrivateKey = key_of(kind)
    return key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def revocation_of(cell: Cell) -> Revocation:
    """What the realm of a cell's revocation has of this client's certificate."""
    asked, leaf = REVOCATIONS[cell.revocation], leaf_of(cell)
    serials = {"leaf": leaf.serial_number, "issuing": authority("issuing").serial_number, "another": 7}
    named: frozenset[str] = frozenset()
    if asked.named == "fingerprint of leaf":
        der = _spoilt(leaf, CHAINS[cell.chain].issuer) if cell.subject == "invalid UTF-8" else None
        digest = hashes.Hash(hashes.SHA256())
        digest.update(der or leaf.public_bytes(Encoding.DER))
        named = frozenset({digest.finalize().hex()})
    elif asked.named:
        named = frozenset({f"{serials[asked.named.rpartition(' ')[2]]:x}"})
    crl = b""
    if asked.list_of:
        issuer = CHAINS[cell.chain].issuer or "root"
        of = {"issuer": issuer, "root": "root", "stranger": "stranger", "namesake of the issuer": issuer}[asked.list_of]
        key = key_of("RSA 2048") if asked.list_of == "namesake of the issuer" else _key_of_authority(of)
        start = NOW - 5 * _DAY if asked.stale else NOW - timedelta(hours=1)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority(of).subject)
            .last_update(start)
            .next_update(start + 2 * _DAY)
        )
        if asked.listed != "nothing":
            entry = x509.RevokedCertificateBuilder().serial_number(serials[asked.listed]).revocation_date(start)
            if asked.reason:
                entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags[asked.reason]), False)
            builder = builder.add_revoked_certificate(entry.build())
        crl = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return Revocation(crl, named, asked.refuse_stale)


@cache
def standing(name: str, *dns: str) -> Credentials:
    """Credentials of whoever is there for the cells' clients: the hub, if it has DNS names, and other endpoints."""
    return Credentials(_standing(name, dns).public_bytes(Encoding.PEM), _pem_of("P-256"))


@cache
def standing_ca() -> bytes:
    """What has issued them, PEM."""
    return _standing("standing", (), ca=True).public_bytes(Encoding.PEM)


def _standing(name: str, dns: tuple[str, ...], *, ca: bool = False) -> x509.Certificate:
    begin, end = _PERIODS["now"]
    mine = key_of("P-256", -1 if ca else 0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name("standing"))
        .public_key(mine.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca, None), True)
    )
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, dns))), False)
    return builder.sign(key_of("P-256", -1), hashes.SHA256())
