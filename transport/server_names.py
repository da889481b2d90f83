"""Whether a hub's certificate is for the name that it was reached by (RFC 9525).

Loaded by who connects: see :func:`spnhub.transport.certificates.load_names`.
"""

from __future__ import annotations

import service_identity
from cryptography import x509
from service_identity import cryptography as names

__all__ = ["fault"]


def fault(certificate: x509.Certificate, server_name: str) -> str | None:
    """Why a certificate isn't for this name; None: it is."""
    try:
        names.verify_certificate_hostname(certificate, server_name)
    except ValueError:
        # Extensions are parsed when they are looked at.
        return "hub certificate: extensions can't be read"
    except (service_identity.CertificateError, service_identity.VerificationError):
        return f"hub certificate does not cover {server_name}, but {_covered(certificate)}"
    return None


def _covered(certificate: x509.Certificate) -> str:
    """The names of a certificate, some of them."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "no DNS name"
    dns = found.get_values_for_type(x509.DNSName)
    more = f" and {len(dns) - 3} more" if len(dns) > 3 else ""
    return (", ".join(dns[:3]) + more) if dns else "no DNS name"
