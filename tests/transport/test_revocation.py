"""What a CA has taken back: its lists, certificates named one by one, and what is not a list that could be used."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from spnhub.pki import Authority, IssuedCredentials
from spnhub.transport.certificates import check_chain, next_expiry
from spnhub.transport.engine import ChainFault, ClientTrust, Revocation
from spnhub.transport.revocation import crl_pem, parse_name
from tests.support.crl import crl_of

OURS, THEIRS = Authority.create("ours"), Authority.create("theirs")
NOW = datetime.now(UTC).replace(microsecond=0)
ME, OTHER = OURS.client("me"), OURS.client("other")


def serial(credentials: IssuedCredentials | Authority) -> int:
    return x509.load_pem_x509_certificate(credentials.certificate).serial_number


def verdict(
    credentials: IssuedCredentials, revocation: Revocation, *chain: bytes, ca: bytes = OURS.certificate
) -> ChainFault | None:
    ders = [x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER) for pem in (credentials.certificate, *chain)]
    return check_chain(ders, ClientTrust(ca, revocation), NOW)


def test_a_list_counts_for_what_it_names() -> None:
    """With the date and the reason that the CA gives; all others are accepted."""
    revocation = Revocation(crl_of(OURS, {serial(ME): x509.ReasonFlags.key_compromise}, now=NOW))
    assert verdict(ME, revocation) == ChainFault(
        f"client certificate: the certificate with serial {serial(ME):X} is revoked by CN=ours since "
        f"{NOW - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ} (keyCompromise)",
        False,
    )
    assert verdict(OTHER, revocation) is None


def test_a_list_of_another_key_counts_for_nothing() -> None:
    """Neither another CA's, nor one that only bears the name."""
    namesake = Authority.create("ours")
    for authority in (THEIRS, namesake):
        assert verdict(ME, Revocation(crl_of(authority, {serial(ME): None}, now=NOW))) is None


def test_several_lists_each_for_its_ca() -> None:
    theirs = THEIRS.client("me")
    lists = crl_of(OURS, {serial(ME): None}, now=NOW) + crl_of(THEIRS, {serial(theirs): None}, now=NOW)
    both = OURS.certificate + THEIRS.certificate
    for credentials in (ME, theirs):
        fault = verdict(credentials, Revocation(lists), ca=both)
        assert fault is not None and "is revoked by" in fault.reason
    assert verdict(OTHER, Revocation(lists), ca=both) is None


def test_an_intermediate_that_is_revoked_counts() -> None:
    """In the root's list, or by name, with everything below it."""
    root, root_key = _root()
    middle = _below(root, root_key)
    leaf = middle.client("below")
    for revocation in (
        Revocation(_signed(root, root_key, serial(middle))),
        Revocation(certificates=frozenset({f"{serial(middle):x}"})),
        Revocation(crl_of(middle, {serial(leaf): None}, now=NOW)),
    ):
        pem = root.public_bytes(Encoding.PEM)
        fault = verdict(leaf, revocation, middle.certificate, ca=pem)
        assert fault is not None and not fault.about_time and "is revoked by" in fault.reason
        assert verdict(middle.client("me"), Revocation(), middle.certificate, ca=pem) is None
        # Also where the intermediate one is trusted itself, beside its root or before it.
        for anchors in (pem + middle.certificate, middle.certificate + pem):
            fault = verdict(leaf, revocation, middle.certificate, ca=anchors)
            assert fault is not None and not fault.about_time and "is revoked by" in fault.reason
            assert verdict(middle.client("me"), Revocation(), middle.certificate, ca=anchors) is None
    by_name = Revocation(certificates=frozenset({f"{root.serial_number:x}"}))
    fault = verdict(leaf, by_name, middle.certificate, ca=middle.certificate + root.public_bytes(Encoding.PEM))
    assert fault is not None and fault.reason.endswith("is revoked by the inventory")


@pytest.mark.parametrize(
    "name", [lambda one: f"{one.serial_number:x}", lambda one: one.fingerprint(hashes.SHA256()).hex()]
)
def test_by_name(name: Callable[[x509.Certificate], str]) -> None:
    """A serial number or a fingerprint; the anchor's too."""
    for pem in (ME.certificate, OURS.certificate):
        named = Revocation(certificates=frozenset({name(x509.load_pem_x509_certificate(pem))}))
        fault = verdict(ME, named)
        assert fault is not None and fault.reason.endswith("is revoked by the inventory")
    assert verdict(ME, Revocation(certificates=frozenset({"1"}))) is None


def test_stale() -> None:
    """Accepted, or refused as something that time mends; a revoked one is revoked by a stale list as well."""
    stale = crl_of(OURS, {serial(OTHER): None}, now=NOW - timedelta(days=10))
    assert verdict(ME, Revocation(stale)) is None
    fault = verdict(ME, Revocation(stale, refuse_stale=True))
    assert fault == ChainFault(
        "client certificate: the revocation list of CN=ours is stale since "
        f"{NOW - timedelta(days=3):%Y-%m-%dT%H:%M:%SZ}",
        True,
    )
    for refuse in (True, False):
        fault = verdict(OTHER, Revocation(stale, refuse_stale=refuse))
        assert fault is not None and not fault.about_time


def test_when_a_list_becomes_stale_a_chain_is_verified_again() -> None:
    der = x509.load_pem_x509_certificate(ME.certificate).public_bytes(Encoding.DER)
    crl = crl_of(OURS, {}, now=NOW)
    assert next_expiry((der,), ClientTrust(OURS.certificate, Revocation(crl, refuse_stale=True)), NOW) == (
        NOW + timedelta(days=7)
    )
    assert next_expiry((der,), ClientTrust(OURS.certificate, Revocation(crl)), NOW) == next_expiry(
        (der,), ClientTrust(OURS.certificate), NOW
    )


def test_forms() -> None:
    """PEM in any layout, several, DER, DER in base64."""
    one, two = crl_of(OURS, {1: None}, now=NOW), crl_of(THEIRS, {}, now=NOW)
    der = x509.load_pem_x509_crl(one).public_bytes(Encoding.DER)
    assert crl_pem(one + two) == one + two
    assert crl_pem((one + two).decode().replace("\n", "\r\n")) == one + two
    assert crl_pem(der) == crl_pem(base64.b64encode(der)) == crl_pem(base64.encodebytes(der).decode()) == one


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "holds no certificate revocation list (X509 CRL)"),
        (b"<html>not found</html>", "holds no certificate revocation list (X509 CRL)"),
        (OURS.certificate, "holds no certificate revocation list (X509 CRL)"),
        (crl_of(OURS, {}, now=NOW)[:200], "holds a PEM block that is cut short"),
        (
            b"-----BEGIN X509 CRL-----\nMTIz\n-----END X509 CRL-----\n",
            "holds a revocation list that can't be parsed",
        ),
        (
            crl_of(OURS, {}, now=NOW, extension=x509.DeltaCRLIndicator(1)),
            "holds a delta list of CN=ours; complete ones are needed",
        ),
        (
            crl_of(
                OURS, {}, now=NOW, extension=x509.IssuingDistributionPoint(None, None, False, False, None, True, False)
            ),
            "holds an indirect list of CN=ours, which speaks for other CAs; their own are needed",
        ),
    ],
    ids=["nothing", "a page", "a certificate", "cut", "nonsense", "delta", "indirect"],
)
def test_no_list(text: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(fault)}$"):
        crl_pem(text)


def test_names() -> None:
    """As OpenSSL and browsers print them."""
    assert parse_name("0A:1B") == parse_name("0x0a1b") == parse_name(" a1b\n") == "a1b"
    assert parse_name("00") == "0"
    assert parse_name("AB:" * 31 + "CD") == "ab" * 31 + "cd"
    for wrong in ("", "serial=1", "1.5", "f" * 41, "f" * 65, "-1"):
        with pytest.raises(ValueError, match="is neither a serial number nor"):
            parse_name(wrong)


def _root() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    return _ca("root", "root", key, key), key


def _below(root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Authority(_ca("middle", "root", key, root_key).public_bytes(Encoding.PEM), pem)


def _ca(
    name: str, issuer: str, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def _signed(ca: x509.Certificate, key: ec.EllipticCurvePrivateKey, revoked: int) -> bytes:
    pem = key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return crl_of(Authority(ca.public_bytes(Encoding.PEM), pem), {revoked: None}, now=NOW)
