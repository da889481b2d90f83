"""The environment's files fit each other, and the commands that they start."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from typing import Any

import pytest
import typer

from spnhub.cli import agent, hub, log
from tests.compose.files import COMPOSE, ROOT, SERVICES, Service, load

OURS = {name: one for name, one in SERVICES.items() if "build" in one}
DOCUMENT = load(COMPOSE / "compose.yml")
SITE = runpy.run_path(str(COMPOSE / "site.py"))
COMMANDS: dict[str, Any] = {
    "spnhub": typer.main.get_command(hub.app),
    "spnagent": typer.main.get_command(agent.app),
    "spnlog": typer.main.get_command(log.app),
}


def _parameters(service: Service) -> list[Any]:
    """What the command of a service can be told; nothing for a command that isn't ours."""
    program, *words = service.get("command", ["spnhub"])
    command = COMMANDS.get(program)
    if command is None:
        return []
    inner = getattr(command, "commands", {})
    return list(inner[words[0]].params if words and words[0] in inner else command.params)


@pytest.mark.parametrize("name", OURS)
def test_settings_are_known(name: str) -> None:
    """Each option and variable that a service sets is one of its command."""
    service = OURS[name]
    parameters = _parameters(service)
    options = {option for one in parameters for option in one.opts}
    variables: set[str] = set()
    for one in parameters:
        variables |= {one.envvar} if isinstance(one.envvar, str) else set(one.envvar or ())
    if parameters:
        assert {word for word in service.get("command", ()) if word.startswith("-")} <= options
    assert service.get("environment", {}).keys() <= variables


def test_images() -> None:
    """Others' images are pinned to a release; ours are built from the Dockerfile's targets."""
    targets = set(re.findall(r"^FROM \S+ AS (\w+)$", (COMPOSE / "Dockerfile").read_text(), re.MULTILINE))
    for name, service in SERVICES.items():
        if name in OURS:
            assert service["build"]["target"] in targets
            assert (COMPOSE / service["build"]["context"]).resolve() == ROOT
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        else:
            assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)+", service["image"]), name
    assert re.search(r"^ARG PYTHON=3\.11\.\d+-slim-\w+$", (COMPOSE / "Dockerfile").read_text(), re.MULTILINE)


def test_ours_may_do_nothing_else() -> None:
    """Not root, nothing written but in volumes, no capability."""
    assert "USER 10001:10001" in (COMPOSE / "Dockerfile").read_text()
    for name, service in OURS.items():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
        assert "user" not in service, name


def test_waiting() -> None:
    """A service waits for others that there are, in a way that they can fulfil, and of no other profile."""
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            condition = how["condition"]
            awaited = SERVICES[other]
            assert set(awaited.get("profiles", ())) <= set(service.get("profiles", ())), (name, other)
            if condition == "service_healthy":
                # The hub's is in its image.
                assert "healthcheck" in awaited or awaited.get("build", {}).get("target") == "hub", (name, other)
            else:
                assert (condition, awaited["restart"]) == ("service_completed_successfully", "no"), (name, other)


def test_volumes_and_networks() -> None:
    """What is mounted is in the repository or declared; what is declared is used."""
    mounted = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    files = {source for source in mounted if source.startswith(".")}
    assert [source for source in sorted(files) if not (COMPOSE / source).exists()] == []
    assert mounted - files == DOCUMENT["volumes"].keys()
    used = {network for service in SERVICES.values() for network in service.get("networks", ())}
    assert used == DOCUMENT["networks"].keys()


def test_each_end_has_its_own_key() -> None:
    """Nobody but the one-shot that makes them sees the keys of two."""
    for name, service in SERVICES.items():
        seen = {volume.split(":")[0] for volume in service.get("volumes", ())} & {"inventory", "provider", "consumer"}
        assert len(seen) <= 1 or name == "init", name
        if seen and name != "init":
            assert seen == {name}
            assert all(volume.endswith(":ro") for volume in service["volumes"])


def test_ports_are_of_the_loopback() -> None:
    """Nothing is offered to other machines; no port is taken twice."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.rpartition(":")[0] for port in ports}) == len(ports)


def test_hubs_share_a_name() -> None:
    """The one that is in the certificate and in the agents' URL; each has an id and a journal of its own."""
    hubs = [service for service in SERVICES.values() if service.get("build", {}).get("target") == "hub"]
    assert len(hubs) == 2
    assert all(one["networks"]["hub"]["aliases"] == [SITE["FQDN"]] for one in hubs)
    assert len({one["environment"]["SPNHUB_HUB_ID"] for one in hubs}) == 2
    assert len({one["volumes"][0].split(":")[0] for one in hubs}) == 2
    for name in SITE["ENDS"]:
        assert SERVICES[name]["environment"]["SPN_HUB_URL"] == f"https://{SITE['FQDN']}:{SITE['PORT']}"


def test_prometheus_asks_whom_there_is() -> None:
    """Its targets are services of the environment, on the port of their command, in its network."""
    ports = {"hub": re.search(r"SPNHUB_OPS=\S+:(\d+)", (COMPOSE / "Dockerfile").read_text()), "spnlog": None}
    jobs = load(COMPOSE / "prometheus" / "prometheus.yml")["scrape_configs"]
    assert {job["job_name"] for job in jobs} == ports.keys()
    for job in jobs:
        (found,) = job["dns_sd_configs"]
        for name in found["names"]:
            port = ports[job["job_name"]]
            listening = port[1] if port else SERVICES[name]["command"][-1].rpartition(":")[2]
            assert str(found["port"]) == listening
            assert "operations" in SERVICES[name]["networks"]
    assert {name for name, one in OURS.items() if one["build"]["target"] == "hub"} == set(
        jobs[0]["dns_sd_configs"][0]["names"]
    )


def test_the_health_check_asks_where_the_hub_answers() -> None:
    """The image's check and the image's setting name the same port."""
    text = (COMPOSE / "Dockerfile").read_text()
    port = re.search(r"SPNHUB_OPS=0\.0\.0\.0:(\d+)", text)
    assert port is not None
    assert f"http://127.0.0.1:{port[1]}/healthz" in text


def test_grafana_finds_its_files() -> None:
    """Data source and dashboards are where the provisioning says, and the first page is there."""
    grafana = SERVICES["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    (provider,) = load(COMPOSE / "grafana" / "providers" / "spnhub.yml")["providers"]
    folder = next(source for source, target in mounts.items() if target == provider["options"]["path"])
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (COMPOSE / folder / home.removeprefix(f"{provider['options']['path']}/")).is_file()
    (source,) = load(COMPOSE / "grafana" / "datasources" / "prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in SERVICES


def test_the_build_context_holds_what_is_built() -> None:
    """`.dockerignore` lets through what the project is made of, and what isn't in the repository stays out."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert {"actors", "events", "schemas", "src", "transport", "pyproject.toml", "requirements.lock"} <= let_in
    assert [name for name in sorted(let_in) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("file", ["compose.yml", "kafka.yml"])
@pytest.mark.outside
def test_compose_takes_it(file: str) -> None:
    """`docker compose config` has nothing to say."""
    if not _has_compose():
        pytest.skip("`docker compose` is not installed")
    every = ("--profile", "analytics", "--profile", "two-hubs") if file == "compose.yml" else ()
    done = subprocess.run(
        ["docker", "compose", "-f", str(COMPOSE / file), *every, "config", "--quiet"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def _has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=20, check=False)
    return asked.returncode == 0
