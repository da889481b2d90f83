"""Judges the PEM texts of an inventory, so that what passes here can be served.

How PEM is read is the affair of :mod:`spnhub.transport.pem`. Counterparts: :mod:`spnhub.inventory.model` calls these
for its fields; the engine takes the result as :class:`spnhub.transport.engine.ServerIdentity`. Messages never quote the
text: it may be a key.
"""

from __future__ import annotations

import contextlib
import hashlib
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from spnhub.transport.engine import Revocation
from spnhub.transport.pem import (
    PrivateKey,
    canonical,
    certificate_name,
    date_text,
    load_chain,
    load_key,
    load_presented,
    parsing,
    weakness,
)
from spnhub.transport.revocation import crl_pem, is_of, lists_of, signed_by

__all__ = [
    "authority_doubts",
    "check_certificates",
    "check_crl",
    "check_key",
    "check_presented",
    "crl_doubts",
    "doubts",
    "fingerprint",
    "matches",
    "trust_fingerprint",
]


def check_certificates(text: str) -> str:
    """Check that ``text`` holds one or more certificates, and give it back in the usual layout.

    :raises ValueError: it doesn't.
    """
    _certificates(text)
    return canonical(text).decode()


def check_presented(text: str) -> str:
    """The same of a chain that a hub presents, which has a bound.

    :raises ValueError: it can't be presented.
    """
    load_presented(text)
    return canonical(text).decode()


def check_key(text: str) -> str:
    """Check that ``text`` is a private key that TLS 1.3 servers can sign with here; give it back in the usual layout.

    :raises ValueError: it isn't.
    """
    _key(text)
    return canonical(text).decode()


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


def check_crl(text: str) -> str:
    """Check that ``text`` holds revocation lists that can be used; they are given back as PEM.

    :raises ValueError: it doesn't.
    """
    return crl_pem(text).decode()


def trust_fingerprint(certificates: str, revocation: Revocation) -> str:
    """:func:`fingerprint` of CAs; what is revoked changes it."""
    plain = fingerprint(certificates)
    if not revocation:
        return plain
    parts = [plain.encode(), revocation.crl, *sorted(name.encode() for name in revocation.certificates)]
    return hashlib.sha256(b"\n".join((*parts, b"%d" % revocation.refuse_stale))).hexdigest()


def authority_doubts(certificates: str, now: datetime) -> list[str]:
    """Why no chain that ends at a CA of these will be accepted, as far as the hub can know (D-41)."""
    found = []
    for one in _certificates(certificates):
        name = certificate_name(one)
        if (weak := weakness(one.public_key())) is not None:
            found.append(f"has the CA {name} with {weak}: no chain that ends there is accepted")
        if one.not_valid_after_utc < now:
            found.append(f"has the CA {name}, which expired at {date_text(one.not_valid_after_utc)}")
    return found


def crl_doubts(certificates: str, crl: bytes, now: datetime) -> list[str]:
    """Why revocation lists won't have the effect that they are meant to have, as far as the hub can know."""
    found = []
    authorities = _certificates(certificates)
    for one in lists_of(crl):
        named = [ca for ca in authorities if is_of(one, ca)]
        if not named:
            found.append(
                f"has a list of {one.issuer}, which is not in cacert: it counts for chains that lead through it"
            )
        elif not any(signed_by(one, ca) for ca in named):
            found.append(
                f"has a list of {one.issuer} with the signature of another key: it counts for nothing of cacert"
            )
        if one.next_update is not None and one.next_update < now:
            found.append(f"has a list of {one.issuer} that is stale since {date_text(one.next_update)}")
    return found


def doubts(certificates: str, fqdn: str, now: datetime) -> list[str]:
    """Why endpoints that reach a server by ``fqdn`` won't trust its certificate, as far as the hub can know."""
    certificate = _certificates(certificates)[0]
    found = []
    if certificate.not_valid_after_utc < now:
        found.append(f"expired at {certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")
    if certificate.not_valid_before_utc > now:
        found.append(f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}")
    names: list[str] = []
    with contextlib.suppress(ValueError), parsing("none, or some that can't be read"):
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = alternatives.get_values_for_type(x509.DNSName)
    _, _, parent = fqdn.partition(".")
    if not {fqdn, f"*.{parent}"} & {name.lower() for name in names}:
        found.append(f"does not cover {fqdn}")
    return found


def _certificates(text: str) -> list[x509.Certificate]:
    return load_chain(text)


def _key(text: str) -> PrivateKey:
    return load_key(text)
