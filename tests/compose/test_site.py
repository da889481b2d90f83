"""The environment's certificates and inventory: made once, used as long as they last."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spnhub.inventory import load_inventory
from spnhub.pki import Authority
from tests.compose.files import COMPOSE, SERVICES

pytestmark = pytest.mark.outside


def _make(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(COMPOSE / "site.py"), str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_a_hub_takes_it(tmp_path: Path) -> None:
    """No fault; the service is the agents' one; keys are for their owner only."""
    _make(tmp_path)
    found = await load_inventory((tmp_path / "inventory" / "inventory.yaml").as_uri())
    assert (found.faults, found.warnings) == ((), ())
    urns = [service.urn for realm in found.realms for network in realm.networks for service in network.services]
    agents = [SERVICES[name]["environment"] for name in ("provider", "consumer")]
    assert [one["SPN_SERVICE_URN"] for one in agents] == urns * 2
    for one in agents:
        for name in ("SPN_CERTIFICATE", "SPN_CERTIFICATE_KEY", "SPN_TRUST"):
            assert (tmp_path / one[name].removeprefix("/var/lib/spnhub/")).is_file()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()} == {0o600}


def test_once(tmp_path: Path) -> None:
    """Another start leaves it as it is; what is about to expire, or not all there, is made anew as a whole."""
    assert "new" in _make(tmp_path)
    first = _content(tmp_path)
    assert len(first) == 7
    assert "stay" in _make(tmp_path)
    assert _content(tmp_path) == first

    (tmp_path / "consumer" / "certificate.pem").write_bytes(Authority.create().client("x", days=3).certificate)
    assert "new" in _make(tmp_path)
    second = _content(tmp_path)
    assert second.keys() == first.keys()
    assert all(second[name] != first[name] for name in first)

    (tmp_path / "inventory" / "inventory.yaml").unlink()
    assert "new" in _make(tmp_path)
    assert all(_content(tmp_path)[name] != second[name] for name in second)
