"""Certificates that a hub's libraries don't read alike, or that are too much: refused with a reason, or handled."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.actors.contract.packets import Opening, OpeningKind
from spnhub.events.foreign_text import REASON_LIMIT, SUBJECT_BYTES, clipped, clipped_subject, escaped
from spnhub.events.model import EndPointType, SessionRefused, SessionStarted
from spnhub.pki import Authority, IssuedCredentials
from spnhub.transport.certificates import check_chain, next_expiry
from spnhub.transport.engine import ChainFault, ClientTrust
from spnhub.transport.hub.certificates import Certificates
from tests.support.odd_certificates import NEVER, ODD, odd_subject
from tests.transport.hub.bench import SECRET, UID, Bench, Peer, authority


class Raised:
    """What was caught as a fault of ours."""

    def __init__(self) -> None:
        self.faults: list[BaseException] = []

    def __call__(self, where: str, fault: BaseException) -> None:
        self.faults.append(fault)


def bench_with(credentials: IssuedCredentials) -> tuple[Bench, Raised]:
    """A hub on real QUIC, and the certificate that "client" has."""
    raised = Raised()
    return Bench(on_fault=raised, real=True, credentials={"client": credentials}), raised


@pytest.mark.parametrize("name", ODD)
def test_a_subject_that_libraries_read_differently(name: str) -> None:
    """The handshake is refused, with an event that says why, or the session is there; nothing is a fault of ours."""
    bench, raised = bench_with(odd_subject(authority, *ODD[name]))
    bench.provider()
    peer = Peer(bench, EndPointType.CONSUMER, "client", "c1")
    bench.settle(1.0)
    refused = bench.events(SessionRefused)
    assert len(refused) + len(bench.events(SessionStarted)) == 2, "the provider's start, and this one's end or start"
    for event in refused:
        if event.code is None:
            assert (event.alert, event.reason[:18]) == (42, "client certificate")
            assert "can't be read" in event.reason
            assert peer.closed is not None
    assert raised.faults == []
    assert bench.engine.counts()["half_open"] == 0


class _Judge:
    check = staticmethod(check_chain)
    next_expiry = staticmethod(next_expiry)


def test_a_certificate_that_never_expires() -> None:
    """Neither does its CA: there is no date after this one, and nothing computes one."""
    issuer = Authority.create(end=NEVER)
    leaf = x509.load_pem_x509_certificate(issuer.client("client", end=NEVER).certificate)
    invalid: list[ChainFault] = []
    certificates = Certificates(_Judge(), lambda _, fault: invalid.append(fault))
    certificates.set_authorities({"n": ClientTrust(issuer.certificate)})
    now = round(datetime.now(UTC).timestamp() * 1_000_000)
    certificates.pass_time(0.0, now)
    certificates.add(7, "n", (leaf.public_bytes(Encoding.DER),))
    certificates.pass_time(60.0, now + 60_000_000)
    assert (len(certificates), invalid) == (1, [])


@pytest.mark.parametrize("size", [1_000, 1_100, 16_000])
def test_a_long_subject(size: int) -> None:
    """It passes whole up to 1 KiB; beyond that its beginning and a digest, in the events and the other's header."""
    bench, raised = bench_with(authority.client("client", organization="x" * size))
    provider, consumer = bench.provider(), bench.consumer()
    known = set(provider.streams)
    consumer.open(Opening(OpeningKind.OPEN, UID, SECRET))
    bench.settle()
    (ps,) = set(provider.streams) - known
    opening, _ = provider.header(ps, Opening)
    (started,) = (one for one in bench.events(SessionStarted) if one.end_point_type is EndPointType.CONSUMER)
    assert opening.peer == started.spn_end_point
    whole = f"CN=client,O={'x' * size}"
    if size == 1_000:
        assert opening.peer == whole
    else:
        assert opening.peer == clipped_subject(whole)
        assert len(opening.peer.encode()) <= SUBJECT_BYTES
        assert opening.peer.endswith(">")
    assert raised.faults == []


def test_a_subject_that_is_too_long() -> None:
    """Beyond 16 KiB the handshake is refused, and the event has its beginning."""
    bench, raised = bench_with(authority.client("client", organization="x" * 17_000))
    Peer(bench, EndPointType.CONSUMER, "client", "c1")
    bench.settle(1.0)
    (refused,) = bench.events(SessionRefused)
    assert (refused.alert, refused.reason) == (42, "client certificate: its subject is longer than 16384 characters")
    assert refused.spn_end_point is not None
    assert len(refused.spn_end_point) <= 257
    assert raised.faults == []


@settings(deadline=None)
@given(st.text(max_size=2000))
def test_text_of_others(text: str) -> None:
    """Whatever it holds: what comes out shows, steers no terminal, and is bounded."""
    shown = clipped(text)
    assert shown.isprintable()
    assert len(shown) <= REASON_LIMIT
    assert shown == text or text != escaped(text) or len(text) > REASON_LIMIT
    subject = clipped_subject(text)
    assert subject.isprintable()
    assert len(subject.encode()) <= SUBJECT_BYTES


@settings(deadline=None)
@given(st.text("ab\x1b\u202e\\", max_size=8), st.text("ab\x1b\u202e", max_size=8), st.integers(0, 2000))
def test_a_subject_stays_an_identity(one: str, other: str, padding: int) -> None:
    """Two that differ, wherever it is, are told apart by what is left of them."""
    # RFC 4514 escapes a backslash, so none stands alone.
    one, other = (text.replace("\\", "\\\\") for text in (one, other))
    same = clipped_subject("x" * padding + one) == clipped_subject("x" * padding + other)
    assert same is (one == other)
