"""Libraries that an installation may lack: each comes with an extra (``pip install 'spnhub[kafka]'``).

Where a user asks for what needs one, :func:`check_extra` says what to install, before anything is imported.
Counterpart: ``[project.optional-dependencies]`` of ``pyproject.toml``.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

__all__ = ["EXTRAS", "MissingExtra", "check_extra"]

EXTRAS: Final = {"console": "htpy", "kafka": "aiokafka", "docker": "docker", "kubernetes": "lightkube"}
"""The package that an extra brings, by the extra's name."""


class MissingExtra(Exception):
    """An extra isn't installed; the text says how it can be."""


def check_extra(extra: str) -> None:
    """Whether what ``extra`` brings can be imported; it isn't yet.

    :param extra: one of :data:`EXTRAS`.
    :raises MissingExtra: it can't.
    """
    try:
        found = find_spec(EXTRAS[extra]) is not None
    except ValueError:  # a program forbids the import (None in sys.modules)
        found = False
    if not found:
        raise MissingExtra(f"{EXTRAS[extra]} is not installed: pip install 'spnhub[{extra}]'")
