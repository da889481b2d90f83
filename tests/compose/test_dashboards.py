"""Whatever a dashboard asks for is there: each metric with its labels, in what the hub and ``spnlog serve`` expose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.compose.exposed import exposed
from tests.compose.files import COMPOSE, load

FOLDER = COMPOSE / "grafana" / "dashboards"
BOARDS = sorted(path.name for path in FOLDER.glob("*.json"))
# Prometheus adds these to whatever it scrapes.
SCRAPED = {"job", "instance"}


def board(name: str) -> dict[str, Any]:
    """A dashboard."""
    found = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def expressions(name: str) -> list[str]:
    """All that a dashboard's panels ask."""
    return [target["expr"] for panel in board(name)["panels"] for target in panel["targets"]]


def parse(expression: str) -> Any:
    """The expression's tree.

    :raises ValueError: it isn't PromQL.
    """
    return promql.parse(expression.replace("$__rate_interval", "1m").replace("$__range", "30m"))


def parts(node: Any) -> Iterator[Any]:
    """A tree's nodes."""
    yield node
    match node:
        case promql.AggregateExpr() | promql.UnaryExpr() | promql.ParenExpr() | promql.SubqueryExpr():
            yield from parts(node.expr)
        case promql.BinaryExpr():
            yield from parts(node.lhs)
            yield from parts(node.rhs)
        case promql.Call():
            for argument in node.args:
                yield from parts(argument)
        case promql.MatrixSelector():
            yield from parts(node.vector_selector)


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """Labels of each sample, by its name."""
    found: dict[str, set[str]] = {}
    for text in exposed():
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("name", BOARDS)
def test_metrics_exist(name: str, known: dict[str, set[str]]) -> None:
    """Every metric, and every label that is selected or grouped by."""
    asked = expressions(name)
    assert asked
    for expression in asked:
        labels: set[str] = set()
        for part in parts(parse(expression)):
            if isinstance(part, promql.VectorSelector):
                assert part.name in known, expression
                labels = known[part.name] | SCRAPED
                assert {matcher.name for matcher in part.matchers.matchers} <= labels, expression
        for part in parts(parse(expression)):
            if isinstance(part, promql.AggregateExpr) and part.modifier is not None:
                assert set(part.modifier.labels) <= labels, expression


@pytest.mark.parametrize("name", BOARDS)
def test_variables(name: str, known: dict[str, set[str]]) -> None:
    """A variable takes its values from a metric's label that there is; each one that is used is defined, and used."""
    defined = set()
    for variable in board(name)["templating"]["list"]:
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
        assert found is not None
        assert found[2] in known[found[1]] | SCRAPED
        assert variable["query"]["query"] == variable["definition"]
        defined.add(variable["name"])
    used = set(re.findall(r"\$(\w+)", " ".join(expressions(name)))) - {"__rate_interval", "__range"}
    assert used == defined


@pytest.mark.parametrize("name", BOARDS)
def test_legends(name: str) -> None:
    """A legend's labels are those that its expression leaves."""
    for panel in board(name)["panels"]:
        for target in panel["targets"]:
            wanted = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            tree = parse(target["expr"])
            if isinstance(tree, promql.AggregateExpr):
                left = set(tree.modifier.labels) if tree.modifier is not None else set()
                assert wanted == left, target


@pytest.mark.parametrize("name", BOARDS)
def test_layout(name: str) -> None:
    """Panels have ids of their own, don't overlap, and ask the data source that is provisioned."""
    found = board(name)
    (source,) = load(COMPOSE / "grafana" / "datasources" / "prometheus.yml")["datasources"]
    panels = found["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells


def test_each_board_is_one(tmp_path: Path) -> None:
    """Uids and titles tell them apart."""
    assert len(BOARDS) >= 2
    for key in ("uid", "title"):
        assert len({board(name)[key] for name in BOARDS}) == len(BOARDS)
