"""Whether a certificate was taken back: by a revocation list of its CA (RFC 5280 section 5), or by name.

A list counts for the certificates whose issuer has signed it, intermediate ones included; a CA without a list has
revoked nothing. Lists that say something else than "these serials of mine" (delta lists, lists for other CAs) are not
read as if they did. Counterpart: :mod:`spnhub.transport.certificates` calls this with verified chains.
"""

from __future__ import annotations

import contextlib
import re
from base64 import b64decode
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from spnhub.dataclass import dataclass
from spnhub.transport.engine import ChainFault, Revocation
from spnhub.transport.pem import canonical, date_text, holds_pem, parsing, whole_subject

__all__ = ["RevocationList", "crl_pem", "is_of", "lists_of", "next_update", "parse_name", "revoked", "signed_by"]

_CRL_BLOCK: Final = re.compile(rb"-----BEGIN X509 CRL-----\n.*?-----END X509 CRL-----\n", re.DOTALL)
_SERIAL_DIGITS: Final = 40
"""A serial number has 20 bytes at most (RFC 5280 section 4.1.2.2)."""
_FINGERPRINT_DIGITS: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class RevocationList:
    """One CRL, ready to be asked."""

    crl: x509.CertificateRevocationList
    serials: frozenset[int]
    issuer: str
    """RFC 4514."""
    next_update: datetime | None
    """From when on it is stale; None: the CA doesn't say."""


def crl_pem(data: str | bytes) -> bytes:
    """CRLs as PEM blocks, from PEM (any layout, several), DER, or DER in base64.

    :raises ValueError: there is none, or one that can't be used. The message lacks its subject.
    """
    if holds_pem(data):
        found = b"".join(_CRL_BLOCK.findall(canonical(data)))
    else:
        try:
            der = data if isinstance(data, bytes) and data[:1] == b"\x30" else b64decode(data, validate=False)
            with parsing("it can't be read"):
                found = x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
        except ValueError:
            found = b""
    if not found:
        raise ValueError("holds no certificate revocation list (X509 CRL)")
    lists_of(found)
    return found


@lru_cache(maxsize=1024)
def lists_of(pem: bytes) -> tuple[RevocationList, ...]:
    """The lists of :func:`crl_pem`. Parsed once.

    :raises ValueError: one can't be used. The message lacks its subject.
    """
    return tuple(_list(block) for block in _CRL_BLOCK.findall(pem))


def _list(block: bytes) -> RevocationList:
    with parsing("holds a revocation list that can't be parsed"):
        crl = x509.load_pem_x509_crl(block)
        serials = frozenset(one.serial_number for one in crl)
        extensions = [one.value for one in crl.extensions]
        issuer, end = crl.issuer.rfc4514_string(), crl.next_update_utc
    for value in extensions:
        if isinstance(value, x509.DeltaCRLIndicator):
            raise ValueError(f"holds a delta list of {issuer}; complete ones are needed")
        if isinstance(value, x509.IssuingDistributionPoint) and value.indirect_crl:
            raise ValueError(f"holds an indirect list of {issuer}, which speaks for other CAs; their own are needed")
    return RevocationList(crl, serials, issuer, end)


def parse_name(text: str) -> str:
    """A serial number or SHA-256 fingerprint as hex digits, as OpenSSL prints them, without colons and zeros in front.

    :raises ValueError: it is neither. The message lacks its subject.
    """
    digits = re.sub(r"[\s:]", "", text).lower().removeprefix("0x")
    if re.fullmatch(r"[0-9a-f]+", digits) is None or _SERIAL_DIGITS < len(digits) != _FINGERPRINT_DIGITS:
        raise ValueError("is neither a serial number nor a SHA-256 fingerprint in hexadecimal digits")
    return digits if len(digits) == _FINGERPRINT_DIGITS else (digits.lstrip("0") or "0")


def next_update(revocation: Revocation) -> datetime | None:
    """When the first list becomes stale."""
    return min((one.next_update for one in lists_of(revocation.crl) if one.next_update is not None), default=None)


def revoked(verified: Sequence[x509.Certificate], revocation: Revocation, moment: datetime) -> ChainFault | None:
    """Why a chain that is valid otherwise isn't accepted; None: nothing of it is revoked.

    :param verified: leaf first, up to its anchor.
    :param moment: aware.
    """
    lists = lists_of(revocation.crl)
    stale: ChainFault | None = None
    for depth, certificate in enumerate(verified):
        if not _names(certificate).isdisjoint(revocation.certificates):
            return ChainFault(f"{_shown(certificate)} is revoked by the inventory", False)
        if depth + 1 == len(verified):
            break
        for one in lists:
            if one.crl.issuer != certificate.issuer or not signed_by(one, verified[depth + 1]):
                continue
            if certificate.serial_number in one.serials:
                return ChainFault(
                    f"{_shown(certificate)} is revoked by {one.issuer}{_details(one, certificate)}", False
                )
            if revocation.refuse_stale and one.next_update is not None and one.next_update < moment:
                text = f"the revocation list of {one.issuer} is stale since {date_text(one.next_update)}"
                stale = ChainFault(text, True)
    return stale


def is_of(one: RevocationList, issuer: x509.Certificate) -> bool:
    """Whether the list says that it is this issuer's. Lists whose own name can't be read aren't taken."""
    return whole_subject(issuer) is not None and one.crl.issuer == issuer.subject


@lru_cache(maxsize=4096)
def signed_by(one: RevocationList, issuer: x509.Certificate) -> bool:
    """Whether the list is really its issuer's. Verified once."""
    if not is_of(one, issuer):
        return False
    try:
        return one.crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # any other kind raises TypeError
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _names(certificate: x509.Certificate) -> frozenset[str]:
    return frozenset((f"{certificate.serial_number:x}", certificate.fingerprint(hashes.SHA256()).hex()))


def _shown(certificate: x509.Certificate) -> str:
    return f"the certificate with serial {certificate.serial_number:X}"


def _details(one: RevocationList, certificate: x509.Certificate) -> str:
    entry = one.crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
    assert entry is not None, "its serial is in the list"
    reason = ""
    with contextlib.suppress(ValueError), parsing("none, or one that can't be read"):
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    return f" since {date_text(entry.revocation_date_utc)}{f' ({reason})' if reason else ''}"
