"""Chains of live sessions: judged again at their end and at a change of CA, in slices, and each once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spnhub.events.model import from_datetime, to_datetime
from spnhub.pki import Authority
from spnhub.transport.certificates import check_chain, next_expiry
from spnhub.transport.engine import ChainFault, ClientTrust, Revocation
from spnhub.transport.hub import Certificates

NETWORK, OTHER = "urn:chip-in:network:r:h", "urn:chip-in:network:other:h"
CA, NEW_CA = ClientTrust(b"ca"), ClientTrust(b"new ca")
WALL = from_datetime(datetime(2030, 1, 1, tzinfo=UTC))


class FakeJudge:
    """Chains are accepted by the CAs they name; each ends at a moment of its own."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[bytes, ...], ClientTrust, datetime]] = []
        self.ends: dict[bytes, datetime] = {}

    def check(self, certificates: tuple[bytes, ...], trust: ClientTrust, moment: datetime) -> ChainFault | None:
        self.asked.append((certificates, trust, moment))
        if certificates[0] in self.ends and self.ends[certificates[0]] < moment:
            return ChainFault("expired", True)
        return None if trust.client_ca in certificates else ChainFault(f"not of {trust.client_ca.decode()}", False)

    def next_expiry(self, certificates: tuple[bytes, ...], trust: ClientTrust, moment: datetime) -> datetime | None:
        end = self.ends.get(certificates[0])
        return None if end is None or end <= moment else end


class Bench:
    """Certificates with a clock by hand."""

    def __init__(self) -> None:
        self.judge = FakeJudge()
        self.cut: list[tuple[int, str]] = []
        self.certificates = Certificates(
            self.judge, lambda connection_id, fault: self.cut.append((connection_id, fault.reason))
        )
        self.now = 0.0
        self.pass_time(0)
        self.certificates.set_authorities({NETWORK: CA, OTHER: CA})

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.certificates.pass_time(self.now, WALL + int(self.now * 1_000_000))

    def run(self, limit: float) -> list[float]:
        """Follow the timer until ``limit`` seconds from the start; the moments that it named."""
        moments = []
        while (when := self.certificates.timer()) is not None and when <= limit:
            moments.append(when)
            self.pass_time(max(0.0, when - self.now))
        return moments


def test_nothing_to_watch_takes_no_time() -> None:
    """No timer without an end of anything."""
    bench = Bench()
    bench.certificates.add(1, NETWORK, (b"a", CA.client_ca))
    assert (bench.certificates.timer(), bench.judge.asked, len(bench.certificates)) == (None, [], 1)


def test_the_first_of_a_network_that_expires() -> None:
    """To the hour, of sessions that are there; one that never expires is none."""
    bench = Bench()
    ends = bench.judge.ends
    ends[b"a"], ends[b"b"] = (to_datetime(WALL) + timedelta(days=days) for days in (9, 5))
    ends[b"never"] = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    hours = {name: end.replace(minute=0, second=0, microsecond=0) for name, end in ends.items()}
    for number, (network, leaf) in enumerate(
        ((NETWORK, b"a"), (NETWORK, b"b"), (NETWORK, b"b"), (OTHER, b"c"), (OTHER, b"never"))
    ):
        bench.certificates.add(number, network, (leaf, CA.client_ca))
    assert bench.certificates.first_expiries() == {NETWORK: hours[b"b"], OTHER: hours[b"never"]}
    bench.certificates.forget(1)
    bench.certificates.forget(4)
    assert bench.certificates.first_expiries() == {NETWORK: hours[b"b"]}
    bench.certificates.forget(2)
    assert bench.certificates.first_expiries() == {NETWORK: hours[b"a"]}
    # Verified again after a change: there once.
    bench.certificates.set_authorities({NETWORK: ClientTrust(CA.client_ca, Revocation(certificates=frozenset({"1"})))})
    bench.run(5.0)
    assert bench.certificates.first_expiries() == {NETWORK: hours[b"a"]}
    bench.certificates.forget(0)
    assert bench.certificates.first_expiries() == {}


def test_an_expired_chain_ends_its_session() -> None:
    """After its last second, and not before; the others stay."""
    bench = Bench()
    bench.judge.ends[b"a"] = to_datetime(WALL) + timedelta(seconds=90)
    bench.certificates.add(1, NETWORK, (b"a", CA.client_ca))
    bench.certificates.add(2, NETWORK, (b"b", CA.client_ca))
    assert bench.run(90.5) == [60.0]
    assert bench.cut == []
    bench.run(200)
    assert (bench.cut, bench.now) == ([(1, "expired")], 91.0)


def test_a_clock_that_is_set_is_noticed() -> None:
    """The wall clock is looked at every minute, whatever the timer was set for."""
    bench = Bench()
    bench.judge.ends[b"a"] = to_datetime(WALL) + timedelta(days=30)
    bench.certificates.add(1, NETWORK, (b"a", CA.client_ca))
    assert bench.certificates.timer() == 60.0
    bench.certificates.pass_time(60.0, WALL + 31 * 86_400_000_000)
    assert bench.cut == [(1, "expired")]


def test_another_ca_is_asked_for_its_networks_only_and_in_slices() -> None:
    """100 sessions with chains of their own take several slices; those of the other network aren't judged."""
    bench = Bench()
    for connection_id in range(100):
        bench.certificates.add(
            connection_id,
            NETWORK,
            (b"%d" % connection_id, CA.client_ca, *([NEW_CA.client_ca] if connection_id % 2 else [])),
        )
    bench.certificates.add(1000, OTHER, (b"x", CA.client_ca))
    bench.certificates.set_authorities({NETWORK: NEW_CA, OTHER: CA})
    assert bench.cut == []
    moments = bench.run(10)
    assert len(moments) >= 5
    assert bench.cut == [(connection_id, "not of new ca") for connection_id in range(0, 100, 2)]
    assert len(bench.judge.asked) == 100


def test_equal_chains_are_judged_once() -> None:
    """A thousand sessions of one certificate cost one verification."""
    bench = Bench()
    for connection_id in range(1000):
        bench.certificates.add(connection_id, NETWORK, (b"a", CA.client_ca))
    bench.certificates.set_authorities({NETWORK: NEW_CA, OTHER: CA})
    bench.run(10)
    assert (len(bench.cut), len(bench.judge.asked)) == (1000, 1)


def test_a_handshake_that_the_old_ca_has_judged_is_judged_again() -> None:
    """It was under way during the change; later ones have met the new CA."""
    bench = Bench()
    bench.certificates.set_authorities({NETWORK: NEW_CA, OTHER: CA})
    bench.certificates.add(1, NETWORK, (b"a", CA.client_ca))
    bench.certificates.add(2, NETWORK, (b"b", NEW_CA.client_ca))
    bench.run(1)
    assert bench.cut == [(1, "not of new ca")]
    bench.pass_time(30)
    bench.certificates.add(3, NETWORK, (b"c", NEW_CA.client_ca))
    assert len(bench.judge.asked) == 2


def test_who_has_gone_is_not_judged() -> None:
    """Neither at their end nor after a change; nothing is kept of them."""
    bench = Bench()
    for connection_id in range(500):
        bench.judge.ends[b"%d" % connection_id] = to_datetime(WALL) + timedelta(seconds=5)
        bench.certificates.add(connection_id, NETWORK, (b"%d" % connection_id, CA.client_ca))
    bench.certificates.set_authorities({NETWORK: NEW_CA, OTHER: CA})
    for connection_id in range(500):
        bench.certificates.forget(connection_id)
    bench.run(100)
    assert (bench.cut, bench.judge.asked, len(bench.certificates)) == ([], [], 0)
    assert bench.certificates.chain(1) == ()


def test_the_real_judge() -> None:
    """What TLS judges in a handshake: the CA, and the dates of everything in the chain."""
    ours, theirs = Authority.create("ours", days=60), Authority.create("theirs")
    der = x509.load_pem_x509_certificate(ours.client("me").certificate).public_bytes(Encoding.DER)
    now = datetime.now(UTC)
    assert check_chain((der,), ClientTrust(ours.certificate), now) is None
    assert check_chain((der,), ClientTrust(theirs.certificate + ours.certificate), now) is None
    assert check_chain((der,), ClientTrust(theirs.certificate), now) == ChainFault(
        "client certificate: unable to get local issuer certificate", False
    )
    end = next_expiry((der,), ClientTrust(ours.certificate), now)
    assert end is not None and now < end < now + timedelta(days=31)
    late = end + timedelta(seconds=1)
    assert check_chain((der,), ClientTrust(ours.certificate), late) == ChainFault(
        f"client certificate has expired at {end:%Y-%m-%dT%H:%M:%SZ}; the hub's clock says {late:%Y-%m-%dT%H:%M}Z", True
    )
    assert next_expiry((der,), ClientTrust(ours.certificate), now + timedelta(days=61)) is None
