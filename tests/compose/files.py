"""The files of ``compose/`` as the tests read them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["COMPOSE", "HELM", "ROOT", "SERVICES", "Service", "load"]

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final = ROOT / "compose"
HELM: Final = shutil.which("helm", path=f"{os.environ['PATH']}:{ROOT / 'build' / 'bin'}")
"""Where Helm is: the machine's, or what ``make helm`` has built; None: there is none."""

Service = dict[str, Any]


class _Strict(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        own = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for name in own:
            if own.count(name) > 1:
                raise AssertionError(f"{name!r} twice at {node.start_mark}")
        return super().construct_mapping(node, deep)


def load(path: Path) -> dict[str, Any]:
    """A YAML file."""
    found = yaml.load(path.read_text(encoding="utf-8"), _Strict)
    assert isinstance(found, dict), path
    return found


def _services() -> dict[str, Service]:
    found: dict[str, Service] = {}
    for name, service in load(COMPOSE / "compose.yml")["services"].items():
        base = service.pop("extends", None)
        inherited = load(COMPOSE / base["file"])["services"][base["service"]] if base else {}
        found[name] = inherited | service
    return found


SERVICES: Final = _services()
"""The services of the environment, by name, with what they extend taken in."""
