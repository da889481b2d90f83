"""PEM as people hand it over: read in whatever layout it survived, refused when something of it is missing.

Environment files, YAML, JSON, Windows editors and shells change line ends, add blanks, quotes or a BOM, or write a line
end as the two characters backslash and n. None of that can occur inside base64, so it is undone here, once for the
hub's inventory, the agents and the library. Text around the blocks is ignored. Messages never quote: it may be a key.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from spnhub.events.foreign_text import clipped_subject
from spnhub.transport.text import PEM_BEGIN

__all__ = [
    "AT_HAND",
    "CHAIN_LIMIT",
    "PrivateKey",
    "canonical",
    "certificate_name",
    "chain_size",
    "date_text",
    "holds_pem",
    "key_fault",
    "load_certificate",
    "load_chain",
    "load_key",
    "load_presented",
    "parsing",
    "subject_of",
    "weakness",
    "whole_subject",
]

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

CHAIN_LIMIT: Final = 65_531
"""Bytes of a chain that is presented, as :func:`chain_size` counts: what a message of 64 KiB has room for. It is read
before anybody has been verified, so it bounds what a handshake of an outsider may hold."""
_PER_CERTIFICATE: Final = 5
"""Bytes of lengths around each certificate (RFC 8446 section 4.4.2)."""

_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----(.*?)-----END \1-----", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\+[nrt]")
_NOISE: Final = re.compile(r"[\s\\\"'\ufeff\u200b\x00]+")
_LINE: Final = 64
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
_BITS: Final = 2048
"""The fewest of an RSA key (NIST SP 800-131A); rustls takes no fewer, either."""
_EC_BITS: Final = 224
"""The fewest of a key on a curve, likewise."""
AT_HAND: Final = 32
"""Certificates that stay parsed while their chains are judged, whoever has presented them."""


def holds_pem(value: str | bytes) -> bool:
    """Whether a block of PEM begins in it: it is no path."""
    return PEM_BEGIN in _text(value)


def canonical(pem: str | bytes) -> bytes:
    """The blocks of ``pem``, in order, laid out as RFC 7468 has it; empty: there is none.

    :raises ValueError: a block has no end, as in a file that is being written. The message lacks its subject.
    """
    text = _text(pem)
    blocks = []
    for match in _BLOCK.finditer(text):
        label, body = match[1], _ESCAPE.sub("\n", match[2])
        if PEM_BEGIN in body:
            raise ValueError("holds a PEM block that is cut short")
        if ":" in body:
            # Headers: an encrypted key of the old form, which the reader of the key reports as such.
            lines = [line.strip() for line in body.strip().splitlines()]
        else:
            data = _NOISE.sub("", body)
            lines = [data[at : at + _LINE] for at in range(0, len(data), _LINE)]
        blocks.append("\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")))
    if len(blocks) != text.count(PEM_BEGIN):
        raise ValueError("holds a PEM block that is cut short")
    return "".join(blocks).encode()


@contextlib.contextmanager
def parsing(refusal: str) -> Iterator[None]:
    """What a library raises about a text that others have made is a ValueError, with this message.

    No list of exceptions is complete: of a version that there isn't, of an extension that stands twice and of names of
    odd types the library's aren't ValueErrors. Its own words may quote the text or fill pages.
    """
    try:
        yield
    except Exception:
        raise ValueError(refusal) from None


def load_certificate(der: bytes) -> x509.Certificate:
    """A certificate as it comes over the network.

    :raises ValueError: it can't be read.
    """
    with parsing("a certificate can't be read"):
        return x509.load_der_x509_certificate(der)


def load_chain(pem: str | bytes) -> list[x509.Certificate]:
    """Certificates of a PEM text, each with a key that can be used.

    :raises ValueError: none in it, or one that can't be read. The message lacks its subject.
    """
    text = canonical(pem)
    if b"-----BEGIN CERTIFICATE-----" not in text and b"-----BEGIN X509 CERTIFICATE-----" not in text:
        raise ValueError("is not a PEM certificate")
    with parsing("holds a PEM certificate that can't be parsed"):
        chain = x509.load_pem_x509_certificates(text)
        for certificate in chain:
            # Parsed lazily: only a look shows that the key can be used.
            certificate.public_key()
    return chain


def load_key(pem: str | bytes) -> PrivateKey:
    """A private key that TLS 1.3 can sign with.

    :raises ValueError: it can't. The message lacks its subject, and never quotes the key.
    """
    text = canonical(pem)
    with parsing("is not a PEM private key"):
        try:
            key = load_pem_private_key(text, None)
        except TypeError:
            key = None
    if key is None:
        raise ValueError("is an encrypted private key")
    if not isinstance(key, PrivateKey):
        raise ValueError("is a private key of a kind that TLS can't sign with (RSA, EC and Ed25519 can be)")
    if (fault := key_fault(key.public_key())) is not None:
        raise ValueError(f"is {fault}")
    return key


def key_fault(key: object) -> str | None:
    """What a public key is that neither engine's TLS takes from either side; None: it is taken."""
    if isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(key.curve, _CURVES):
        return f"a key on the curve {key.curve.name}, which TLS can't use here (P-256 and P-384 can be)"
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        return "a key of a kind that TLS can't use here (RSA, EC and Ed25519 can be)"
    return weakness(key)


def weakness(key: object) -> str | None:
    """What a public key is that can be broken, so that what it signs proves nothing; None: it can't."""
    match key:
        case rsa.RSAPublicKey() | dsa.DSAPublicKey() if key.key_size < _BITS:
            return f"a key of {key.key_size} bits, which can be broken ({_BITS} are the least)"
        case ec.EllipticCurvePublicKey() if key.key_size < _EC_BITS:
            return f"a key of {key.key_size} bits, which can be broken ({_EC_BITS} are the least)"
    return None


@lru_cache(maxsize=AT_HAND)
def whole_subject(certificate: x509.Certificate) -> str | None:
    """The Subject as an RFC 4514 string (D-2), as long as it is; None if it can't be read.

    A name is parsed when it is looked at. Values that OpenSSL takes and this library doesn't: a T61String in Latin-1,
    a BIT STRING. So whoever shows or compares the name of a certificate that others have made asks here first.
    """
    try:
        return certificate.subject.rfc4514_string()
    except (ValueError, TypeError):
        return None


def subject_of(certificate: x509.Certificate) -> str | None:
    """:func:`whole_subject`, printable and clipped."""
    subject = whole_subject(certificate)
    return None if subject is None else clipped_subject(subject)


def certificate_name(certificate: x509.Certificate) -> str:
    """What a certificate is called where people are told of it: its subject, or else how to find it."""
    return subject_of(certificate) or f"with SHA-256 {certificate.fingerprint(hashes.SHA256()).hex()}"


def date_text(moment: datetime) -> str:
    """A certificate's date, or the time that it is compared with, for messages: ISO 8601, UTC, seconds."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def chain_size(chain: Iterable[x509.Certificate]) -> int:
    """Bytes that a chain takes in a handshake."""
    return sum(len(certificate.public_bytes(Encoding.DER)) + _PER_CERTIFICATE for certificate in chain)


def load_presented(pem: str | bytes) -> list[x509.Certificate]:
    """The same as :func:`load_chain`, of a chain that is to be presented.

    :raises ValueError: it can't be. The message lacks its subject.
    """
    chain = load_chain(pem)
    if (size := chain_size(chain)) > CHAIN_LIMIT:
        raise ValueError(f"takes {size} bytes in a handshake with its chain; the bound is {CHAIN_LIMIT}")
    return chain


def _text(value: str | bytes) -> str:
    if isinstance(value, str):
        return value
    if value.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return value.decode("utf-16", "replace")
    return value.decode("utf-8", "replace")
