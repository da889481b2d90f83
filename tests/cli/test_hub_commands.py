"""The ``spnhub`` command from outside: exit statuses, the one line on standard error, and every option's environment.

Processes that matter are real; what an option becomes is looked at inside, in front of the hub's process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path

import pytest
import typer

import spnhub
from spnhub import logging
from spnhub.actors.contract.options import ActorOptions
from spnhub.cli import hub
from spnhub.events.journal.options import JournalOptions
from spnhub.events.kafka.settings import KafkaSettings
from spnhub.hub_settings import HubSettings, default_hub_id, default_journal
from spnhub.transport.engine import Limits
from spnhub.transport.hub.memory import MemoryLimits
from tests.inventory.documents import sound, written
from tests.support.command import environment as environment_of
from tests.support.forked import BIN, run


def spnhub_command(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the real command to its end."""
    return run("spnhub", *arguments, env=environment_of(environment or {}))


@pytest.mark.outside
def test_check_of_a_sound_inventory(tmp_path: Path) -> None:
    """A summary, and status 0."""
    url = written(sound(), tmp_path).as_uri()
    done = spnhub_command("check", "-c", url)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{url}: 2 realms, 3 hubs, 3 services: no faults\n", "")


@pytest.mark.outside
def test_check_names_every_fault(tmp_path: Path) -> None:
    """A line each on standard error, and status 2; the URL may come from the environment."""
    document = sound()
    del document["realms"][0]["hubs"][0]["services"][0]["provider"]
    document["realms"][1]["cacert"] = "none"
    path = written(document, tmp_path)
    done = spnhub_command("check", environment={"SPNHUB_INVENTORY_URL": path.as_uri()})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"{path}:1: service acme/tokyo/web: provider is missing",
        f"{path}:1: realm beta: cacert is not a PEM certificate",
    ]


@pytest.mark.outside
def test_serve_and_check_a_file(tmp_path: Path) -> None:
    """The development server says where it listens, serves with its token, and ends with status 0 on SIGTERM."""
    file = written(sound(), tmp_path)
    server = subprocess.Popen(
        [str(BIN / "spnhub"), "inventory", str(file), "--listen", "127.0.0.1:0", "--token", "sesame"],
        env=environment_of({}),
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdout is not None
        ready = json.loads(server.stdout.readline())
        assert (ready["event"], ready["level"]) == ("inventory.ready", "info")
        with_token = spnhub_command("check", "-c", ready["url"], "--inventory-token", "sesame")
        without = spnhub_command("check", "-c", ready["url"])
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    assert (with_token.returncode, with_token.stderr) == (0, "")
    assert (without.returncode, without.stderr) == (
        2,
        f"spnhub: {ready['url']}/realms: status 401 (a bearer token is needed)\n",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--keepalive", "3"], "No such option: --keepalive (Possible options: --keep-alive)"),
        (["chekc"], "No such command 'chekc'. Did you mean 'check'?"),
        (["--datagram-size", "100"], "--datagram-size: 100 is not between 1200 and 16383 bytes"),
        (["--idle-timeout", "x"], "Invalid value for '--idle-timeout'"),
        (["--kafka", "broker"], "--kafka: 'broker' is not HOST:PORT"),
        (["--log-format", "xml"], "Invalid value for '--log-format'"),
        (["--hub-id", "h", "check"], "--hub-id belongs behind 'check'"),
        (["check", "-c", "ftp://x"], "--inventory: 'ftp://x' is not an http, https or file URL"),
        (["check", "-c", "file:///none", "--bind", "x"], "--bind: 'x' is not an IP address"),
        (
            ["check", "-c", "file:///none", "--diff"],
            "--ops is missing (--diff compares with the hub that answers there)",
        ),
        (["check", "-c", "file:///none", "--diff", "--ops", "x"], "--ops: 'x' is not HOST:PORT"),
        (["check", "-c", "file:///none", "--diff", "--ops", "127.0.0.1:1"], "--ops: http://127.0.0.1:1/state: "),
        (["--ops", "x", "--journal", "/tmp/x"], "--ops: 'x' is not HOST:PORT"),
        (["check", "-c", "file:///none"], "/none: can't be read: No such file or directory"),
        (["inventory"], "Missing argument 'FILE'."),
        (["inventory", "/none"], "/none: can't be read: No such file or directory"),
        (["inventory", "/none", "--listen", "8080"], "--listen: '8080' is not HOST:PORT"),
    ],
)
@pytest.mark.outside
def test_unusable_arguments(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 2 and one line that names what is wrong."""
    monkeypatch.setattr(sys, "argv", ["spnhub", *arguments])
    monkeypatch.setattr(logging, "configure", lambda *a, **k: None)
    status = hub.main()
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert captured.err.startswith(f"spnhub: {said}")
    assert captured.err.count("\n") == 1


@pytest.mark.outside
def test_unusable_arguments_of_the_real_command() -> None:
    """The same from outside: no traceback, no boxes."""
    done = spnhub_command("--kep-alive", "3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "spnhub: No such option: --kep-alive (Possible options: --keep-alive)\n"


def started(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> HubSettings:
    """The settings that the hub's process would be started with."""
    given: list[HubSettings] = []

    def run(settings: HubSettings) -> int:
        given.append(settings)
        return 7

    for name in ("hub_process", "hub_workers"):
        process = types.ModuleType(f"spnhub.{name}")
        process.__dict__["run"] = run
        monkeypatch.setitem(sys.modules, f"spnhub.{name}", process)
        monkeypatch.setattr(spnhub, name, process, raising=False)
    monkeypatch.setattr(logging, "configure", lambda *a, **k: None)
    monkeypatch.setattr(sys, "argv", ["spnhub", *arguments])
    assert hub.main() == 7
    (settings,) = given
    return settings


def test_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing given: what the interface says."""
    for name in [name for name in os.environ if name.startswith("SPNHUB_")]:
        monkeypatch.delenv(name)
    assert started([], monkeypatch) == HubSettings(
        inventory="http://localhost:8080",
        inventory_token=None,
        bind=None,
        hub_id=default_hub_id(),
        journal=default_journal(default_hub_id()),
        kafka=None,
        limits=Limits(idle_timeout=20, keep_alive=5, suspect_after=3, probe_timeout=1, datagram_size=1200),
        log_level="info",
        log_format=None,
    )


OPTIONS = {
    "--inventory": "https://inventory.test/api",
    "--inventory-token": "sesame",
    "--bind": "127.0.0.5,127.0.0.6",
    "--workers": "2",
    "--hub-id": "hub-5",
    "--journal": "/tmp/spnhub-journal",
    "--journal-size": "512M",
    "--journal-age": "30d",
    "--journal-sync": "0",
    "--alive-interval": "7.5",
    "--progress-interval": "12",
    "--kafka": "a:1,[::1]:2",
    "--topic": "other",
    "--topic-partitions": "12",
    "--topic-replication": "3",
    "--topic-min-insync": "2",
    "--topic-retention": "12h",
    "--schema-registry": "https://me:secret@registry.test",
    "--kafka-security-protocol": "SASL_SSL",
    "--kafka-sasl-mechanism": "SCRAM-SHA-256",
    "--kafka-sasl-username": "me",
    "--kafka-sasl-password": "secret",
    "--kafka-ssl-cafile": __file__,
    "--kafka-ssl-capath": str(Path(__file__).parent),
    "--kafka-ssl-certfile": __file__,
    "--kafka-ssl-keyfile": __file__,
    "--kafka-ssl-password": "secret-2",
    "--ops": "127.0.0.1:9100",
    "--ops-host": "hub.example,hub-5",
    "--ops-console": "https://console.example/",
    "--ops-token": "secret-3",
    "--idle-timeout": "30.5",
    "--keep-alive": "1.5",
    "--suspect-after": "4.5",
    "--probe-timeout": "0.5",
    "--gone-timeout": "2.5",
    "--identity-sessions": "77",
    "--identity-connections": "777",
    "--resume-timeout": "90",
    "--return-spread": "3",
    "--memory": "2G",
    "--realm-memory": "512M",
    "--identity-memory": "256M",
    "--session-memory": "64M",
    "--record": "/tmp/spnhub-record",
    "--record-size": "64",
    "--datagram-size": "1400",
    "--datagram-size-max": "1500",
    "--engine": "aioquic",
    "--log-level": "debug",
    "--log-format": "console",
}
SECRETS = ("--inventory-token", "--schema-registry", "--kafka-sasl-password", "--kafka-ssl-password", "--ops-token")
"""They may be in files of their own."""
SETTINGS = HubSettings(
    inventory="https://inventory.test/api",
    inventory_token="sesame",
    bind="127.0.0.5,127.0.0.6",
    workers=2,
    hub_id="hub-5",
    journal=Path("/tmp/spnhub-journal"),
    journal_options=JournalOptions(size=512 << 20, age=30 * 86_400, sync_interval=0),
    actors=ActorOptions(
        alive_interval=7.5,
        progress_interval=12,
        gone_timeout=2.5,
        resume_timeout=90,
        identity_sessions=77,
        identity_connections=777,
    ),
    kafka=KafkaSettings(
        bootstrap_servers="a:1,[::1]:2",
        topic="other",
        partitions=12,
        replication=3,
        min_insync=2,
        retention=43_200,
        schema_registry="https://me:secret@registry.test",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_username="me",
        sasl_password="secret",
        ssl_cafile=Path(__file__),
        ssl_capath=Path(__file__).parent,
        ssl_certfile=Path(__file__),
        ssl_keyfile=Path(__file__),
        ssl_password="secret-2",
    ),
    memory_limits=MemoryLimits(
        memory=2 << 30, realm_memory=512 << 20, identity_memory=256 << 20, session_memory=64 << 20
    ),
    ops="127.0.0.1:9100",
    ops_hosts=("hub.example", "hub-5"),
    ops_console="https://console.example/",
    ops_token="secret-3",
    limits=Limits(
        idle_timeout=30.5,
        keep_alive=1.5,
        suspect_after=4.5,
        probe_timeout=0.5,
        datagram_size=1400,
        datagram_size_max=1500,
    ),
    return_spread=3,
    engine="aioquic",
    record=Path("/tmp/spnhub-record"),
    record_size=64,
    log_level="debug",
    log_format="console",
)


def variable(option: str) -> str:
    """The environment variable of an option."""
    if option == "--inventory":
        return "SPNHUB_INVENTORY_URL"
    return "SPNHUB_" + option.removeprefix("--").upper().replace("-", "_")


def test_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each arrives in the settings."""
    arguments = [piece for pair in OPTIONS.items() for piece in pair]
    assert started(arguments, monkeypatch) == SETTINGS


def test_every_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same by the environment alone."""
    for option, value in OPTIONS.items():
        monkeypatch.setenv(variable(option), value)
    assert started([], monkeypatch) == SETTINGS


def test_an_option_wins_over_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """And an empty variable is none."""
    monkeypatch.setenv("SPNHUB_HUB_ID", "from-environment")
    monkeypatch.setenv("SPNHUB_BIND", "")
    settings = started(["--hub-id", "from-option", "--journal", "/tmp/x", "-c", "file:x"], monkeypatch)
    assert (settings.hub_id, settings.bind, settings.inventory) == ("from-option", None, "file:x")


def test_no_option_is_left_out_here() -> None:
    """The tests above know every option that the command has."""
    named = {parameter.opts[-1] for parameter in typer.main.get_command(hub.app).params}
    files = {f"{option}-file" for option in SECRETS}
    assert named == {
        *OPTIONS,
        *files,
        "--allow-process",
        "--config",
        "--version",
        "--install-completion",
        "--show-completion",
    }


def test_commands_of_the_inventory_must_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag, or its variable."""
    assert not started(["--journal", "/tmp/x"], monkeypatch).allow_process
    assert started(["--journal", "/tmp/x", "--allow-process"], monkeypatch).allow_process
    monkeypatch.setenv("SPNHUB_ALLOW_PROCESS", "1")
    assert started(["--journal", "/tmp/x"], monkeypatch).allow_process
