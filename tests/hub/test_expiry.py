"""Certificates don't surprise: how many days are left is in the numbers, in the check, and in the log."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from spnhub.cli.command_line import run_command_line
from spnhub.cli.hub import app
from spnhub.exposition import text
from spnhub.ops import HubMetrics
from spnhub.ops.expiry import CertificateEnd
from spnhub.pki import Authority


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
        (40, ["--fail-days", "60"], 1, False),
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
    assert (f"of urn:chip-in:network:acme:tokyo expires in {days - 1}.9" in err or "expires in 20.0" in err) is warned
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
