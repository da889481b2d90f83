"""Which engine a choice comes to, and what is said where it can't be had."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from spnhub.options import UnusableOption, check_options
from spnhub.transport import engines
from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.endpoint.options import EndpointOptions
from spnhub.transport.engine import Limits
from spnhub.transport.native_engine import NotInstalled, why_not
from spnhub.transport.native_engine.installed import INTERFACE

ABSENT = "spnhub-native is not installed"


def installed(monkeypatch: pytest.MonkeyPatch, interface: int | None) -> None:
    """As if such a build were there; None: none."""
    module = None
    if interface is not None:
        module = ModuleType("spnhub_native")
        vars(module).update(__version__="9.9", INTERFACE=interface)
    monkeypatch.setitem(sys.modules, "spnhub_native", module)


def test_auto_takes_the_native_one_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says why."""
    installed(monkeypatch, INTERFACE)
    assert engines.select_engine("auto") == ("native", "spnhub-native is installed")


def test_auto_takes_aioquic_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of another interface counts as none."""
    installed(monkeypatch, None)
    assert engines.select_engine("auto") == ("aioquic", ABSENT)
    assert isinstance(engines.make_engine(Limits()), AioquicEngine)
    installed(monkeypatch, INTERFACE + 1)
    reason = f"spnhub-native 9.9 has interface {INTERFACE + 1}; {INTERFACE} is needed"
    assert engines.select_engine("auto") == ("aioquic", reason)


def test_what_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """aioquic beside the native one; the native one never silently replaced."""
    installed(monkeypatch, INTERFACE)
    assert engines.select_engine("aioquic") == ("aioquic", "it was asked for")
    assert isinstance(engines.make_engine(Limits(), "aioquic"), AioquicEngine)
    installed(monkeypatch, None)
    with pytest.raises(UnusableOption, match=f"engine: {ABSENT}"):
        check_options(EndpointOptions(engine="native"))
    with pytest.raises(UnusableOption, match="engine: 'other' is none of auto, native, aioquic"):
        check_options(EndpointOptions(engine="other"))


def test_the_native_engine_is_not_loaded_for_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes one where it isn't installed is told so."""
    installed(monkeypatch, None)
    assert why_not() == ABSENT
    monkeypatch.delitem(sys.modules, "spnhub.transport.native_engine.engine", raising=False)
    with pytest.raises(NotInstalled, match=ABSENT):
        engines.make_engine(Limits(), "native")
