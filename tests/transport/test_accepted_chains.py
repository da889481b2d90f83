"""Chains that were accepted are remembered: never beyond their time, another trust, or what has been taken back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto

from spnhub.pki import Authority, IssuedCredentials
from spnhub.transport import certificates
from spnhub.transport.certificates import CertificateRefused, verify_client, verify_server
from spnhub.transport.engine import CertificateAlert, ClientTrust, Revocation
from tests.support.crl import crl_of

OURS, THEIRS = Authority.create("ours"), Authority.create("theirs")
NOW = datetime.now(UTC).replace(microsecond=0)
MINUTE = timedelta(minutes=1)


def der(credentials: IssuedCredentials) -> tuple[bytes, ...]:
    return (x509.load_pem_x509_certificate(credentials.certificate).public_bytes(Encoding.DER),)


def serial(credentials: IssuedCredentials) -> int:
    return x509.load_pem_x509_certificate(credentials.certificate).serial_number


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that OpenSSL was asked about a chain."""
    calls: list[int] = []
    real = crypto.X509StoreContext

    def counted(*args: Any) -> crypto.X509StoreContext:
        calls.append(1)
        return real(*args)

    monkeypatch.setattr("spnhub.transport.certificates.crypto.X509StoreContext", counted)
    return calls


@pytest.fixture
def me() -> IssuedCredentials:
    """Nobody has seen it before."""
    return OURS.client("me", begin=NOW - MINUTE, end=NOW + MINUTE)


def refused(check: Callable[[], None]) -> CertificateAlert:
    with pytest.raises(CertificateRefused) as caught:
        check()
    return caught.value.alert


def test_verified_once(verified: list[int], me: IssuedCredentials) -> None:
    """However often it comes, for as long as all of it is valid; clocks that are set are heeded both ways."""
    trust = ClientTrust(OURS.certificate)
    for _ in range(3):
        verify_client(der(me), trust, NOW)
        verify_client(der(me), trust, NOW + MINUTE / 2)
    assert len(verified) == 1
    for late in (MINUTE, 2 * MINUTE, timedelta(days=20_000)):
        assert refused(lambda late=late: verify_client(der(me), trust, NOW + late + MINUTE)) is (  # type: ignore[misc]  # bound
            CertificateAlert.CERTIFICATE_EXPIRED
        )
    assert refused(lambda: verify_client(der(me), trust, NOW - 2 * MINUTE)) is CertificateAlert.CERTIFICATE_EXPIRED
    before = len(verified)
    verify_client(der(me), trust, NOW)
    assert len(verified) == before


def test_another_trust_asks_anew(verified: list[int], me: IssuedCredentials) -> None:
    """A reload with the same content remembers; with another CA, or what is revoked, nothing is known."""
    verify_client(der(me), ClientTrust(OURS.certificate), NOW)
    verify_client(der(me), ClientTrust(bytes(bytearray(OURS.certificate)), Revocation()), NOW)
    assert len(verified) == 1
    assert refused(lambda: verify_client(der(me), ClientTrust(THEIRS.certificate), NOW)) is CertificateAlert.UNKNOWN_CA
    for revocation in (
        Revocation(crl_of(OURS, {serial(me): None}, now=NOW)),
        Revocation(certificates=frozenset({f"{serial(me):x}"})),
    ):
        for _ in range(2):
            alert = refused(lambda r=revocation: verify_client(der(me), ClientTrust(OURS.certificate, r), NOW))  # type: ignore[misc]  # bound
            assert alert is CertificateAlert.CERTIFICATE_REVOKED
    assert len(verified) == 6, "refusals aren't remembered"
    verify_client(der(me), ClientTrust(OURS.certificate), NOW)


def test_a_list_that_becomes_stale(verified: list[int]) -> None:
    """Where that is refused, what was accepted by it isn't any more."""
    leaf = OURS.client("long")
    crl = crl_of(OURS, {}, now=NOW)
    strict, lax = (ClientTrust(OURS.certificate, Revocation(crl, refuse_stale=one)) for one in (True, False))
    for trust in (strict, lax):
        for _ in range(2):
            verify_client(der(leaf), trust, NOW)
    assert len(verified) == 2
    later = NOW + timedelta(days=7, seconds=1)
    verify_client(der(leaf), lax, later)
    assert refused(lambda: verify_client(der(leaf), strict, later)) is CertificateAlert.CERTIFICATE_EXPIRED


def test_a_hub_is_known_by_the_name_that_was_called(verified: list[int]) -> None:
    chain = der(OURS.server("hub.test"))
    for _ in range(2):
        verify_server(chain, OURS.certificate, "hub.test", NOW)
    assert len(verified) == 1
    assert refused(lambda: verify_server(chain, OURS.certificate, "other.test", NOW)) is (
        CertificateAlert.BAD_CERTIFICATE
    )
    assert refused(lambda: verify_server(chain, THEIRS.certificate, "hub.test", NOW)) is CertificateAlert.UNKNOWN_CA


def test_bounded(verified: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest make room, and a large chain isn't kept at all."""
    monkeypatch.setattr(certificates, "KEPT", 2)
    trust = ClientTrust(OURS.certificate)
    chains = [der(OURS.client(name)) for name in "abc"]
    for chain in chains:
        verify_client(chain, trust, NOW)
    for chain, known in zip(reversed(chains), (True, True, False), strict=True):
        before = len(verified)
        verify_client(chain, trust, NOW)
        assert (len(verified) == before) is known
    large = der(OURS.client("large", organization="x" * 9000))
    before = len(verified)
    for _ in range(2):
        verify_client(large, trust, NOW)
    assert len(verified) == before + 2


def test_parsed_once(me: IssuedCredentials) -> None:
    """Whatever looks at a certificate while its chain is judged and its session begins."""
    chain, trust = der(me), ClientTrust(OURS.certificate)
    verify_client(der(OURS.client("another")), trust, NOW)
    parsed: list[str] = []

    def called(_frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and function.__name__ == "load_der_x509_certificate":
            parsed.append(event)

    sys.setprofile(called)
    try:
        verify_client(chain, trust, NOW)
        certificates.identify(chain[0])
        certificates.next_expiry(chain, trust, NOW)
    finally:
        sys.setprofile(None)
    assert len(parsed) == 1
