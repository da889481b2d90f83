"""A small certificate authority for development: the demo and the tests make their certificates with it.

Not for production: keys are made unencrypted, and it issues no revocation lists. Everything is PEM, as bytes, with
P-256 keys. On cryptography, which the product needs in any case, and not on trustme: that gives every certificate the
usages of client, server and code signing, an organization of its own, and no names that are URIs, so it can make
neither a client that must be refused for its usage or for its missing common name, nor the URI that stands for any
common name here.

Counterpart: :mod:`spnhub.inventory.pem` judges what a real inventory brings.
"""

from __future__ import annotations

import ipaddress
from dataclasses import field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spnhub.dataclass import dataclass

__all__ = ["Authority", "IssuedCredentials"]

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class IssuedCredentials:
    """A certificate and its private key, PEM. The key is kept out of ``repr``."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that signs server and client certificates."""

    certificate: bytes
    """PEM: what the other side trusts (``cacert`` of a realm, ``SPN_TRUST`` of an agent)."""
    key: bytes = field(repr=False)

    @classmethod
    def create(cls, name: str = "SPN Hub development CA", *, days: int = 30, end: datetime | None = None) -> Authority:
        """Make a new, self-signed authority that is valid from yesterday on, for ``days`` from now or to ``end``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(end or now + days * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate=certificate.public_bytes(serialization.Encoding.PEM), key=_key_pem(key))

    def server(
        self, *names: str, days: int = 30, begin: datetime | None = None, end: datetime | None = None
    ) -> IssuedCredentials:
        """A server certificate for DNS names or IP addresses, the first of which is its common name.

        Valid from ``begin`` (yesterday) to ``end`` (in ``days``).
        """
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        now = datetime.now(UTC)
        return self._issue(
            [x509.NameAttribute(NameOID.COMMON_NAME, names[0])],
            alternatives,
            [ExtendedKeyUsageOID.SERVER_AUTH],
            begin or now - _DAY,
            end or now + days * _DAY,
        )

    def client(
        self,
        common_name: str | None,
        *,
        organization: str | None = None,
        expired: bool = False,
        not_yet_valid: bool = False,
        client_auth: bool = True,
        alternative_name: bool = True,
        days: int = 30,
        begin: datetime | None = None,
        end: datetime | None = None,
    ) -> IssuedCredentials:
        """A client certificate whose subject is ``common_name`` (None: a subject without one).

        ``expired`` ended an hour ago, ``not_yet_valid`` begins tomorrow; ``client_auth=False`` leaves the clientAuth
        usage out (serverAuth stands in its place); ``alternative_name=False`` leaves the subject alternative name out.
        Other dates: ``begin`` (yesterday) and ``end`` (in ``days``).
        """
        subject = []
        if organization is not None or common_name is None:
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization or "SPN Hub development"))
        if common_name is not None:
            subject.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
        now = datetime.now(UTC)
        begin, end = begin or now - _DAY, end or now + days * _DAY
        if expired:
            begin, end = now - 2 * _DAY, now - timedelta(hours=1)
        if not_yet_valid:
            begin, end = now + _DAY, now + (days + 1) * _DAY
        alternatives = None
        if alternative_name and common_name is not None:
            # A URI holds any common name; a DNS name would not.
            alternatives = x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(f"urn:cn:{_ascii(common_name)}")]
            )
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client_auth else ExtendedKeyUsageOID.SERVER_AUTH
        return self._issue(subject, alternatives, [usage], begin, end)

    def _issue(
        self,
        subject: list[x509.NameAttribute[str]],
        alternatives: x509.SubjectAlternativeName | None,
        usages: list[x509.ObjectIdentifier],
        begin: datetime,
        end: datetime,
    ) -> IssuedCredentials:
        issuer = x509.load_pem_x509_certificate(self.certificate)
        issuer_key = serialization.load_pem_private_key(self.key, password=None)
        assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
                critical=False,
            )
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        certificate = builder.sign(issuer_key, hashes.SHA256())
        return IssuedCredentials(certificate=certificate.public_bytes(serialization.Encoding.PEM), key=_key_pem(key))


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode().replace(" ", "%20")
