"""Certificates don't surprise: how many days are left is in the numbers, in the check, and in the log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from spnhub.cli.command_line import run_command_line
from spnhub.cli.hub import app
from spnhub.exposition import text
from spnhub.ops.expiry import CertificateEnd, revocation_of
from spnhub.ops.metrics import HubMetrics
from spnhub.pki import Authority
from spnhub.transport.engine import Revocation, ServerIdentity
from tests.support.crl import crl_of


def inventory(folder: Path, days: int) -> str:
    """One hub whose certificate expires after so many days; its CA after 400."""
    authority = Authority.create("Some CA", days=400)
    server = authority.server("localhost", days=days)
    hub = {
        "name": "tokyo",
        "title": "t",
        "fqdn": "localhost",
        "serverCert": server.certificate.decode(),
        "serverCertKey": server.key.decode(),
        "services": [],
    }
    realm = {
        "name": "acme",
        "title": "t",
        "disabled": False,
        "cacert": authority.certificate.decode(),
        "deviceIDSigningKey": "-",
        "deviceIDVerificationKey": "-",
        "hubs": [hub],
    }
    path = folder / "inventory.yaml"
    path.write_text(yaml.safe_dump({"realms": [realm]}))
    return f"file:{path}"


@pytest.mark.parametrize(
    ("days", "arguments", "status", "warned"),
    [
        (20, [], 0, True),
        (40, [], 0, False),
        (40, ["--fail-days", "60"], 1, True),
        (20, ["--fail-days", "10"], 0, True),
    ],
)
def test_check(
    days: int, arguments: list[str], status: int, warned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From 30 days before it warns; the status is as the caller asks for."""
    url = inventory(tmp_path, days)
    assert run_command_line(app, "spnhub", ["check", "-c", url, *arguments]) == status
    err = capsys.readouterr().err
    assert (
        f"of urn:chip-in:network:acme:tokyo expires in {days - 1}.9" in err or f"expires in {days}.0" in err
    ) is warned
    assert "Some CA" not in err
    assert run_command_line(app, "spnhub", ["check", "--json", "-c", url]) == 0
    found = json.loads(capsys.readouterr().out)["certificates"]
    assert [(one["kind"], round(one["days"])) for one in found] == [("hub", days), ("ca", 400)]


def test_metrics() -> None:
    """A gauge for each; of two with the same subject the next to expire."""
    now = datetime.now(UTC)
    first, second = (
        CertificateEnd("ca", "acme", "acme", "CN=Some CA", now + timedelta(days=days, minutes=1)) for days in (3, 90)
    )
    lines = text(HubMetrics().freeze({}, {}, (first, second))).decode().splitlines()
    (line,) = (one for one in lines if one.startswith("spnhub_certificate_expiry_days{"))
    assert 3.0 <= float(line.rpartition(" ")[2]) < 3.01
    assert 'kind="ca",name="acme",realm="acme",subject="CN=Some CA"' in line
    assert "expires in 3.0 days" in first.sentence(now)
    assert "expired 2.0 days ago" in first.sentence(now + timedelta(days=5))


def test_metrics_of_live_sessions() -> None:
    """A gauge for each network: its first to expire."""
    end = datetime.now(UTC) + timedelta(days=3)
    lines = text(HubMetrics().freeze({}, {}, sessions={"urn:chip-in:network:acme:tokyo": end})).decode().splitlines()
    (line,) = (one for one in lines if one.startswith("spnhub_session_certificate_expiry_days{"))
    assert line == 'spnhub_session_certificate_expiry_days{network="urn:chip-in:network:acme:tokyo"} 3.0'


def test_metrics_of_revocation_lists() -> None:
    """Age, time until it is due, and how many it revokes; a stale one has less than none left."""
    now = datetime.now(UTC)
    fresh, stale = Authority.create("Some CA"), Authority.create("Other CA")
    lists = revocation_of([_served("acme", crl_of(fresh, {1: None, 2: None}, now=now))]) + revocation_of(
        [_served("beta", crl_of(stale, {}, now=now - timedelta(days=3), days=1))] * 2
    )
    assert [one.to_json(now)["stale"] for one in lists] == [False, True]
    assert [one.to_json(now)["revoked"] for one in lists] == [2, 0]
    numbers = {
        name: float(value)
        for name, _, value in (
            line.rpartition(" ") for line in text(HubMetrics().freeze({}, {}, (), lists)).decode().splitlines()
        )
        if name.startswith("spnhub_crl")
    }
    acme, beta = '{issuer="CN=Some CA",realm="acme"}', '{issuer="CN=Other CA",realm="beta"}'
    assert numbers == pytest.approx(
        {
            f"spnhub_crl_age_seconds{acme}": 3600,
            f"spnhub_crl_age_seconds{beta}": 3600 + 3 * 86_400,
            f"spnhub_crl_next_update_seconds{acme}": 7 * 86_400,
            f"spnhub_crl_next_update_seconds{beta}": -2 * 86_400,
            f"spnhub_crl_revoked_certificates{acme}": 2,
            f"spnhub_crl_revoked_certificates{beta}": 0,
        },
        abs=60,
    )


@dataclass(frozen=True)
class _Network:
    realm: str
    network_urn: str
    identity: ServerIdentity


def _served(realm: str, crl: bytes) -> _Network:
    return _Network(realm, "", ServerIdentity(b"", b"", b"", (), Revocation(crl)))
