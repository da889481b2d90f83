"""``spnhub init`` makes a network that works, and nothing that others may read; services tell systemd what they do."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from spnhub.cli.command_line import run_command_line
from spnhub.cli.hub import app
from spnhub.demo.site import free_port
from spnhub.service_manager import ServiceManager
from tests.support.forked import begin


def spnhub(*arguments: str) -> int:
    return run_command_line(app, "spnhub", arguments)


def test_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys are their owner's, the CA warns in its subject, `check` has nothing to say; nothing is overwritten."""
    folder = tmp_path / "net"
    assert spnhub("init", "acme/tokyo/hello", "--dir", str(folder), "--systemd") == 0
    out = capsys.readouterr().out
    assert f"spnhub --inventory file:{folder}/inventory.yaml" in out
    assert (
        "spnagent provider --hub-url https://localhost:4433 --service-urn urn:chip-in:service:acme:tokyo:hello" in out
    )
    secret = {path.name for path in folder.iterdir() if stat.S_IMODE(path.stat().st_mode) == 0o600}
    assert secret == {"ca.key", "provider.key", "consumer.key", "inventory.yaml"}
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    assert "DEVELOPMENT ONLY" in ca.subject.rfc4514_string()
    assert spnhub("check", "-c", f"file:{folder}/inventory.yaml") == 0
    before = (folder / "ca.key").read_bytes()
    capsys.readouterr()
    assert spnhub("init", "acme/tokyo/hello", "--dir", str(folder)) == 2
    assert "is there already" in capsys.readouterr().err
    assert (folder / "ca.key").read_bytes() == before


@pytest.mark.parametrize("name", ["acme", "acme/tokyo", "a/b/c/d", "acme//x", "ac me/tokyo/hello", "acme/tokyo/hel lo"])
def test_names_that_cannot_be(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and not a file."""
    assert spnhub("init", name, "--dir", str(tmp_path / "net")) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "value_error" not in said and "Value error" not in said
    assert not (tmp_path / "net").exists()


@pytest.mark.outside
def test_units(tmp_path: Path) -> None:
    """Hardened, with credentials; systemd itself finds no fault, where it is there."""
    assert spnhub("init", "acme/tokyo/hello", "--dir", str(tmp_path / "a%b"), "--systemd") == 0
    units = sorted((tmp_path / "a%b" / "systemd").iterdir())
    assert [unit.name for unit in units] == ["spnagent-consumer.service", "spnagent-provider.service", "spnhub.service"]
    for unit in units:
        text = unit.read_text()
        for line in ("Type=notify", "DynamicUser=yes", "ProtectSystem=strict", "WatchdogSec=30", "LoadCredential="):
            assert line in text
        assert "a%%b" in text
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here")
    checked = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.outside
async def test_a_hub_tells_its_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready, alive, reloading, ready again, stopping: over the socket that the environment names."""
    assert (
        spnhub("init", "acme/tokyo/hello", "--dir", str(tmp_path / "net"), "--port", str(free_port(socket.SOCK_DGRAM)))
        == 0
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        heard: list[str] = []

        async def until(fact: str) -> None:
            async with asyncio.timeout(60):
                while fact not in heard:
                    heard.extend((await asyncio.get_running_loop().sock_recv(told, 4096)).decode().splitlines())

        inventory = f"file:{tmp_path}/net/inventory.yaml"
        options = ("-c", inventory, "--hub-id", "h", "--journal", str(tmp_path / "journal"))
        hub = await begin("spnhub", *options, env=os.environ, stdout=asyncio.subprocess.DEVNULL)
        try:
            await until("READY=1")
            assert any(fact.startswith("STATUS=takes packets at") for fact in heard)
            await until("WATCHDOG=1")
            heard.clear()
            hub.send_signal(signal.SIGHUP)
            await until("RELOADING=1")
            await until("READY=1")
            hub.send_signal(signal.SIGTERM)
            await until("STOPPING=1")
            assert await hub.wait() == 0
        finally:
            if hub.returncode is None:
                hub.kill()
                await hub.wait()


@pytest.mark.outside
async def test_a_manager_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fails; and programs that a service starts don't inherit its voice."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    manager = ServiceManager()
    with manager.served():
        assert "NOTIFY_SOCKET" not in os.environ
        manager.ready("a\nb")
        manager.reloading()
    manager.stopping()
