"""Tests use what they test by the front door: no private name of another object or module, read, written or patched.

Where the product shows too little, it gets a public look (``counts()``, a property), which whoever debugs has, too.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest

from tests.docs.pages import ROOT

_FOREIGN: Final = {
    "tests/transport/test_aioquic_private.py": 58,
    "tests/transport/test_aioquic_tls.py": 7,
    "tests/support/aioquic_inside.py": 27,
    "tests/authorisation/credentials.py": 1,
    "tests/transport/agent/test_faults.py": 1,
}
"""Lines about what a library has no door for, by file: aioquic is pinned by them; which sockets asyncio watches;
the kinds of string in a certificate's name."""
_PUBLIC: Final = frozenset({"_replace", "_asdict", "_fields", "_make"})
"""Of named tuples."""
_PATCHING: Final = frozenset({"setattr", "delattr", "getattr", "hasattr", "inject", "fail_once"})


def _private(name: str) -> bool:
    return name.startswith("_") and name.strip("_") != "" and not name.startswith("__") and name not in _PUBLIC


def private_lines(source: str) -> set[int]:
    """The lines that reach into something."""
    return set(_found(ast.parse(source)))


def _found(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                continue
            case ast.Attribute(attr=name) if _private(name):
                yield node.lineno
            case ast.ImportFrom(module=module, names=names):
                if any(map(_private, [*(module or "").split("."), *(one.name for one in names)])):
                    yield node.lineno
            case ast.Call(func=ast.Attribute(attr=called) | ast.Name(id=called), args=args) if called in _PATCHING:
                if any(isinstance(one, ast.Constant) and _private(str(one.value).split(".")[-1]) for one in args):
                    yield node.lineno


def test_nothing_private_is_touched() -> None:
    """Each file has exactly what is allowed to it: who needs less takes it from the list."""
    found = Counter[str]()
    for path in sorted((ROOT / "tests").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if lines := private_lines(path.read_text(encoding="utf-8")):
            found[name] = len(lines)
            if name not in _FOREIGN:
                print(name, sorted(lines))
    assert found == _FOREIGN


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("thing._x", True),
        ("thing.inner._x.y = 1", True),
        ("super()._x()", True),
        ("from module import _x", True),
        ("from _module import x", True),
        ("monkeypatch.setattr(thing, '_x', 1)", True),
        ("getattr(thing, '_x')", True),
        ("self._x = cls._y", False),
        ("thing.__class__", False),
        ("point._replace(x=1)", False),
        ("_ = name.removesuffix('_total')", False),
    ],
)
def test_what_counts(source: str, found: bool) -> None:
    """Reading, writing, importing and patching."""
    assert bool(private_lines(source)) is found
