"""Whether the native engine is there, and of the build that this side speaks to."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Final

__all__ = ["INTERFACE", "NotInstalled", "load", "why_not"]

INTERFACE: Final = 7
"""What both sides of the line agree on; ``src/python.rs`` has the same number."""


class NotInstalled(Exception):
    """The native engine can't be had; the message says why."""


def load() -> ModuleType:
    """The extension module.

    :raises NotInstalled: there is none, or one of another build.
    """
    try:
        module = import_module("spnhub_native")
    except ImportError as exc:
        absent = isinstance(exc, ModuleNotFoundError) and exc.name == "spnhub_native"
        raise NotInstalled("spnhub-native is not installed" if absent else f"spnhub-native: {exc}") from exc
    interface = getattr(module, "INTERFACE", None)
    if interface != INTERFACE:
        raise NotInstalled(
            f"spnhub-native {getattr(module, '__version__', '?')} has interface {interface}; {INTERFACE} is needed"
        )
    return module


def why_not() -> str | None:
    """Why the native engine can't be had; None: it can."""
    try:
        load()
    except NotInstalled as exc:
        return str(exc)
    return None
