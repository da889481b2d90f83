"""One name, one owner: a public class of the product has a name that no other class has."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import spnhub
from spnhub.transport import errors
from tests.docs.pages import ROOT

ROOMS = ("src/spnhub", "transport", "actors", "events", "schemas")


def _public_classes(path: Path) -> list[str]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return [node.name for node in body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


def test_each_public_class_name_has_one_owner() -> None:
    """A name that two modules define means two things: in ``except``, in a traceback, in a search."""
    owners: dict[str, list[str]] = defaultdict(list)
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):  # doesn't follow the symlinks of src/spnhub
            for name in _public_classes(path):
                owners[name].append(str(path.relative_to(ROOT)))
    assert len(owners) > 400
    assert {name: paths for name, paths in owners.items() if len(paths) > 1} == {}


def test_former_names_of_errors_still_work() -> None:
    """A program that catches ``spnhub.SessionRefused`` catches the same error as before."""
    assert spnhub.SessionRefused is errors.SessionRejected
    assert spnhub.ConnectionRefused is errors.ConnectionRejected
