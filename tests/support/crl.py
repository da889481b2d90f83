"""Revocation lists as a CA issues them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from spnhub.pki import Authority

__all__ = ["crl_of"]


def crl_of(
    authority: Authority,
    revoked: Mapping[int, x509.ReasonFlags | None],
    *,
    now: datetime,
    days: int = 7,
    extension: x509.ExtensionType | None = None,
) -> bytes:
    """A list of ``authority``, PEM: serial numbers, revoked a day ago. Next update in ``days``."""
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    key = serialization.load_pem_private_key(authority.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - timedelta(hours=1))
        .next_update(now + timedelta(days=days))
    )
    for number, reason in revoked.items():
        entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now - timedelta(days=1))
        if reason is not None:
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
