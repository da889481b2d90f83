"""A real Prometheus: alert rules with promtool, and dashboards and rules on what hubs and ``spnlog serve`` expose."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from spnhub.demo.site import free_port
from tests.compose.exposed import exposed
from tests.compose.files import COMPOSE, ROOT, load
from tests.compose.test_dashboards import BOARDS, board, expressions, known, parse, parts  # noqa: F401

FOLDER = COMPOSE / "prometheus"
RULES = {rule["alert"]: rule for group in load(FOLDER / "alerts.yml")["groups"] for rule in group["rules"]}

installed = pytest.mark.skipif(
    None in (shutil.which("prometheus"), shutil.which("promtool")), reason="Prometheus is not installed"
)


def test_alerts_ask_for_what_there_is(known: dict[str, set[str]]) -> None:  # noqa: F811
    """Every metric, and every label in an expression or a text; ``up`` is Prometheus's own."""
    for name, rule in RULES.items():
        labels = {"job", "instance"}
        for part in parts(parse(rule["expr"])):
            if isinstance(part, promql.VectorSelector):
                assert part.name == "up" or part.name in known, name
                labels |= known.get(part.name, set())
                assert {matcher.name for matcher in part.matchers.matchers} <= labels, name
        assert set(re.findall(r"\$labels\.(\w+)", json.dumps(rule))) <= labels, name


def test_each_alert_is_tested_and_explained() -> None:
    """In the file for promtool, and with what to do in the operators' guide."""
    tested = {test["name"] for test in load(FOLDER / "alerts_test.yml")["tests"]} - {"all is well"}
    guide = (ROOT / "docs" / "operators" / "alerts.md").read_text(encoding="utf-8")
    assert tested == RULES.keys() == set(re.findall(r"^\| `(\w+)` \|", guide, re.MULTILINE))
    assert {rule["labels"]["severity"] for rule in RULES.values()} == {"critical", "warning"}


@installed
@pytest.mark.outside
@pytest.mark.parametrize("command", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")])
def test_promtool(command: tuple[str, ...]) -> None:
    """The configuration is right, with its rules; each is silent while all is well, and fires when it should."""
    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class _Exposed(ThreadingHTTPServer):
    """What the two programs expose, as two targets; a counter has moved with each scrape."""

    def __init__(self) -> None:
        texts = exposed()
        turns = [0, 0]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                which = int(self.path == "/serve")
                turns[which] += 1
                body = _moved(texts[which], turns[which]).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


def _moved(text: str, turn: int) -> str:
    """Every counter and bucket times a number that grows."""
    return re.sub(
        r"^(\w+(?:_total|_bucket|_count|_sum)(?:\{.*\})?) ([-+.e\d]+)$",
        lambda found: f"{found[1]} {float(found[2]) * turn}",
        text,
        flags=re.MULTILINE,
    )


class Prometheus:
    """A server that has scraped both a few times."""

    def __init__(self, folder: Path, target: str) -> None:
        config = load(FOLDER / "prometheus.yml")
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        shutil.copy(FOLDER / "alerts.yml", folder)
        for job, path in zip(config["scrape_configs"], ("/hub", "/serve"), strict=True):
            del job["dns_sd_configs"]
            job["static_configs"] = [{"targets": [target]}]
            job["metrics_path"] = path
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.address = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
        self.process = subprocess.Popen(
            [
                *(
                    "prometheus",
                    "--config.file",
                    str(folder / "prometheus.yml"),
                    "--storage.tsdb.path",
                    str(folder / "data"),
                ),
                *("--web.listen-address", self.address, "--log.level", "error"),
            ]
        )

    def get(self, path: str, **parameters: str) -> Any:
        """The ``data`` of an answer; None while it isn't there."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{query}", timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def wait(self) -> None:
        """Until each target was scraped often enough for a rate, and every rule was evaluated."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = self.get("query", query="min(count_over_time(up[5m]))")
            groups = self.get("rules") if found and found["result"] else None
            if groups and float(found["result"][0]["value"][1]) >= 3:
                health = {rule["health"] for group in groups["groups"] for rule in group["rules"]}
                if "unknown" not in health:
                    return
            threading.Event().wait(0.2)
        raise AssertionError("Prometheus has not scraped in a minute")


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It runs with the environment's configuration, at other targets."""
    with _Exposed() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        one = Prometheus(tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{server.server_address[1]}")
        try:
            one.wait()
            yield one
        finally:
            one.process.terminate()
            one.process.wait()
            server.shutdown()


def _query(expression: str) -> str:
    """As Grafana fills it in, with every choice at "All"."""
    for variable, value in {"$__rate_interval": "1m", "$__range": "30m", "$hub": ".*", "$service": ".*"}.items():
        expression = expression.replace(variable, value)
    return expression


@installed
@pytest.mark.outside
@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_is_empty(name: str, prometheus: Prometheus) -> None:
    """Every query of every panel has an answer, and none of them is no number."""
    for expression in expressions(name):
        found = prometheus.get("query", query=_query(expression))
        assert found is not None, expression
        assert found["result"], expression
        assert all(value["value"][1] != "NaN" for value in found["result"]), expression


@installed
@pytest.mark.outside
def test_rules_are_evaluated(prometheus: Prometheus) -> None:
    """Without an error; on what a hub exposes after a day with every fault nothing that isn't there is reported."""
    groups = prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == RULES.keys()
    assert [rule["lastError"] for rule in rules if rule["health"] != "ok"] == []
    firing = {alert["labels"]["alertname"] for alert in prometheus.get("alerts")["alerts"]}
    assert not firing & {"HubGone", "NoHub", "JournalFailing", "KafkaUnreachable", "LogReaderGone"}
