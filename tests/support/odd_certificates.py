"""Certificates that OpenSSL takes and other libraries don't: what no library here would make, signed all the same."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from spnhub.pki import Authority, IssuedCredentials

__all__ = ["BIT_STRING", "NEVER", "ODD", "T61_STRING", "UTF8_STRING", "odd_subject", "odd_version", "tlv"]

UTF8_STRING, T61_STRING, BIT_STRING = 0x0C, 0x14, 0x03
_SEQUENCE = 0x30
_NAME = "client"
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""What stands for no end (RFC 5280 section 4.1.2.5)."""
ODD: Final = {
    "T61String with an accent": (T61_STRING, b"cli\xe9nt"),
    "T61String": (T61_STRING, b"client"),
    "BIT STRING": (BIT_STRING, b"\0clien"),
    "UTF8String that is none": (UTF8_STRING, b"cli\xff\xfet"),
    "an INTEGER": (0x02, b"\0\1\2\3\4\5"),
    "NULL": (0x05, b"client"),
}
"""Names by which :func:`odd_subject` makes a common name."""


def tlv(tag: int, value: bytes) -> bytes:
    """One element of DER."""
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + value


def odd_subject(authority: Authority, tag: int, value: bytes) -> IssuedCredentials:
    """A client certificate whose common name is a value of six bytes, of another type."""
    return _changed(authority, tlv(UTF8_STRING, _NAME.encode()), tlv(tag, value))


def odd_version(authority: Authority, version: int) -> IssuedCredentials:
    """A client certificate of a version that there isn't; 2 stands for v3."""
    return _changed(authority, bytes.fromhex("a003020102"), bytes.fromhex("a0030201") + bytes([version]))


def _changed(authority: Authority, before: bytes, after: bytes) -> IssuedCredentials:
    whole = authority.client(_NAME, alternative_name=False)
    body = x509.load_pem_x509_certificate(whole.certificate).tbs_certificate_bytes
    assert body.count(before) == 1
    assert len(before) == len(after), "the lengths around it stay"
    body = body.replace(before, after)
    key = serialization.load_pem_private_key(authority.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signature = tlv(BIT_STRING, b"\0" + key.sign(body, ec.ECDSA(hashes.SHA256())))
    der = tlv(_SEQUENCE, body + _ECDSA_SHA256 + signature)
    return IssuedCredentials(ssl.DER_cert_to_PEM_cert(der).encode(), whole.key)
