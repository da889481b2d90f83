"""The Helm chart: linted and rendered by Helm, and what it sets is what the programs read."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import yaml

import spnhub
from tests.compose.files import COMPOSE, HELM, load
from tests.compose.test_environment import COMMANDS

CHART = COMPOSE / "helm" / "spnhub"
outside = [
    pytest.mark.outside,
    pytest.mark.skipif(HELM is None, reason="Helm is not installed (make helm)"),
]
VALUES: dict[str, Any] = {
    "hub": {
        "replicas": 3,
        "inventoryUrl": "https://inventory.example/",
        "inventoryTokenSecret": "inventory-token",
        "kafka": {"servers": "kafka:9092"},
        "env": {"SPNHUB_ENGINE": "native", "SPNHUB_SUSPECT_AFTER": 1},
        "journal": {"storageClass": "fast"},
    },
    "agents": {
        "web": {
            "role": "provider",
            "hubUrl": "https://hub.spn.example:4433",
            "serviceUrn": "urn:chip-in:service:acme:main:web",
            "secret": "spn-provider-web",
            "forwardAddress": "web.default.svc:8000",
            "replicas": 2,
            "env": {"SPN_HEALTH_CHECK": "tcp"},
        },
        "web-client": {
            "role": "consumer",
            "hubUrl": "https://hub.spn.example:4433",
            "serviceUrn": "urn:chip-in:service:acme:main:web",
            "secret": "spn-consumer-web",
            "port": 9000,
        },
    },
    "monitoring": {"serviceMonitor": True, "prometheusRule": True, "labels": {"release": "prometheus"}},
}


def helm(*arguments: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """Run Helm on the chart."""
    assert HELM is not None
    return subprocess.run(
        [HELM, *arguments, str(CHART), "--values", "-", "--kube-version", "1.31.0"],
        input=json.dumps(values or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def render(values: dict[str, Any] | None = None) -> dict[tuple[str, str], dict[str, Any]]:
    """Its objects by kind and name."""
    done = helm("template", "spn", values=values)
    assert done.returncode == 0, done.stderr
    found = [one for one in yaml.safe_load_all(done.stdout) if one]
    objects = {(one["kind"], one["metadata"]["name"]): one for one in found}
    assert len(objects) == len(found)
    return objects


def test_version() -> None:
    """The chart's and the programs' are one, and the rules are those of compose/."""
    chart = load(CHART / "Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (spnhub.__version__, spnhub.__version__)
    assert (CHART / "files" / "alerts.yml").resolve() == COMPOSE / "prometheus" / "alerts.yml"


class TestRendered:
    """What Helm makes of it."""

    pytestmark = outside

    @pytest.mark.parametrize("values", [{}, VALUES], ids=["default", "everything"])
    def test_lint(self, values: dict[str, Any]) -> None:
        """Nothing to say, warnings included."""
        done = helm("lint", "--strict", values=values)
        assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.parametrize("values", [{}, VALUES], ids=["default", "everything"])
    def test_containers(self, values: dict[str, Any]) -> None:
        """Every variable is one of its command; what is mounted is declared; nobody may do more than it needs."""
        workloads = [one for (kind, _), one in render(values).items() if kind in {"StatefulSet", "Deployment"}]
        assert len(workloads) == 1 + len(values.get("agents", ()))
        for workload in workloads:
            spec = workload["spec"]
            pod = spec["template"]["spec"]
            labels = spec["template"]["metadata"]["labels"]
            assert spec["selector"]["matchLabels"].items() <= labels.items()
            (container,) = pod["containers"]
            program, *words = container["command"]
            command = COMMANDS[program]
            known = {
                variable
                for one in (command.commands[words[0]] if words else command).params
                for variable in ([one.envvar] if isinstance(one.envvar, str) else one.envvar or [])
            }
            names = [one["name"] for one in container["env"]]
            assert set(names) <= known
            assert len(set(names)) == len(names)
            mounted = {one["name"] for one in container["volumeMounts"]}
            declared = {one["name"] for one in pod.get("volumes") or ()}
            declared |= {one["metadata"]["name"] for one in spec.get("volumeClaimTemplates", ())}
            assert mounted == declared
            assert pod["securityContext"]["runAsNonRoot"]
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            ports = {one["name"] for one in container["ports"]}
            for probe in ("livenessProbe", "readinessProbe"):
                assert container[probe]["httpGet"]["port"] in ports
            assert container["image"] == f"spnhub:{spnhub.__version__}"

    def test_services_find_their_pods(self) -> None:
        """Each hub has an address of its own; consumers' agents have one, providers' none."""
        objects = render(VALUES)
        services = {name: one["spec"] for (kind, name), one in objects.items() if kind == "Service"}
        assert services.keys() == {"spn-hub", *(f"spn-hub-{number}" for number in range(3)), "spn-web-client"}
        pods = {
            name: one["spec"]["template"]
            for (kind, name), one in objects.items()
            if kind in {"StatefulSet", "Deployment"}
        }
        for name, service in services.items():
            owner = pods["spn-web-client" if name == "spn-web-client" else "spn-hub"]
            selector = dict(service["selector"])
            assert selector.pop("statefulset.kubernetes.io/pod-name", name) == name
            assert selector.items() <= owner["metadata"]["labels"].items()
            ports = {one["name"]: one.get("protocol", "TCP") for one in owner["spec"]["containers"][0]["ports"]}
            for port in service["ports"]:
                assert ports[port["targetPort"]] == port.get("protocol", "TCP")

    def test_monitoring(self) -> None:
        """Prometheus scrapes the hubs as the job that the rules ask for; the rules are those that promtool tests."""
        objects = render(VALUES)
        monitor = objects["ServiceMonitor", "spn-hub"]["spec"]
        wanted = monitor["selector"]["matchLabels"].items()
        (scraped,) = (
            one
            for (kind, _), one in objects.items()
            if kind == "Service" and wanted <= one["metadata"]["labels"].items()
        )
        assert monitor["endpoints"][0]["port"] in {port["name"] for port in scraped["spec"]["ports"]}
        rules = objects["PrometheusRule", "spn"]
        assert rules["spec"] == load(COMPOSE / "prometheus" / "alerts.yml")
        assert rules["metadata"]["labels"]["release"] == "prometheus"
        assert not any(kind in {"ServiceMonitor", "PrometheusRule"} for kind, _ in render())

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"hub": {"inventorySecret": ""}}, "hub.inventorySecret or hub.inventoryUrl is needed"),
            ({"agents": {"a": {"role": "gateway"}}}, "agents.a.role is consumer or provider"),
            ({"agents": {"a": {"role": "consumer"}}}, "agents.a.hubUrl is needed"),
        ],
    )
    def test_what_is_missing_is_named(self, values: dict[str, Any], reason: str) -> None:
        """Before anything is installed."""
        done = helm("template", "spn", values=values)
        assert done.returncode != 0
        assert reason in done.stderr
