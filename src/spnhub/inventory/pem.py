"""Judges the PEM texts of an inventory, so that what passes here can be served.

Counterparts: :mod:`spnhub.inventory.model` calls these for its fields; the engine takes the result as
:class:`spnhub.transport.engine.ServerIdentity`. Messages never quote the text: it may be a key.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

__all__ = ["check_certificates", "check_key", "doubts", "fingerprint", "matches"]

_ServerKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)


def check_certificates(text: str) -> str:
    """Check that ``text`` holds one or more certificates, and give it back.

    :raises ValueError: it doesn't.
    """
    _certificates(text)
    return text


def check_key(text: str) -> str:
    """Check that ``text`` is a private key that TLS 1.3 servers can sign with here, and give it back.

    :raises ValueError: it isn't.
    """
    _key(text)
    return text


def matches(key: str, certificates: str) -> bool:
    """Whether the first certificate is that of the key. Both have been checked."""
    ours = _key(key).public_key()
    return ours == _certificates(certificates)[0].public_key()


def fingerprint(certificates: str) -> str:
    """SHA-256 (hex) of the certificates themselves, however their text is laid out. They have been checked."""
    digest = hashlib.sha256()
    for certificate in _certificates(certificates):
        digest.update(certificate.public_bytes(serialization.Encoding.DER))
    return digest.hexdigest()


def doubts(certificates: str, fqdn: str, now: datetime) -> list[str]:
    """Why endpoints that reach a server by ``fqdn`` won't trust its certificate, as far as the hub can know."""
    certificate = _certificates(certificates)[0]
    found = []
    if certificate.not_valid_after_utc < now:
        found.append(f"expired at {certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")
    if certificate.not_valid_before_utc > now:
        found.append(f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}")
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = alternatives.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        names = []
    _, _, parent = fqdn.partition(".")
    if not {fqdn, f"*.{parent}"} & {name.lower() for name in names}:
        found.append(f"does not cover {fqdn}")
    return found


def _certificates(text: str) -> list[x509.Certificate]:
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise ValueError("is not a PEM certificate")
    try:
        certificates = x509.load_pem_x509_certificates(text.encode())
        for certificate in certificates:
            # Parsed lazily: only a look shows that the key can be used.
            certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        # The library's own words may quote the text or fill pages.
        raise ValueError("holds a PEM certificate that can't be parsed") from None
    return certificates


def _key(text: str) -> _ServerKey:
    try:
        key = serialization.load_pem_private_key(text.encode(), password=None)
    except TypeError:
        raise ValueError("is an encrypted private key") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is not a PEM private key") from None
    if isinstance(key, ec.EllipticCurvePrivateKey) and not isinstance(key.curve, _CURVES):
        raise ValueError(f"is a key on the curve {key.curve.name}, which TLS can't use here (P-256 and P-384 can be)")
    if not isinstance(key, _ServerKey):
        raise ValueError("is a private key of a kind that TLS can't sign with (RSA, EC and Ed25519 can be)")
    return key
