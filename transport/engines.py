"""Where an engine is chosen: nothing else names one.

Counterpart: :mod:`spnhub.transport.engine`, what each of them does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from spnhub.options import option
from spnhub.transport import native_engine
from spnhub.transport.engine import Engine, Limits

__all__ = ["ENGINES", "EngineChoice", "engine_option", "make_engine", "select_engine"]

ENGINES = ("auto", "native", "aioquic")
"""What can be chosen; auto: native where it is installed."""


def engine_option() -> Any:
    """A field that chooses one."""
    return option(
        "auto",
        "QUIC engine: native or aioquic; auto: native where spnhub-native is installed.",
        group="Connections",
        choices=ENGINES,
        check=_check,
    )


def _check(choice: str) -> None:
    if choice == "native" and (missing := native_engine.why_not()) is not None:
        raise ValueError(missing)


class EngineChoice(NamedTuple):
    """Which engine a choice comes to."""

    name: str
    reason: str


def select_engine(choice: str) -> EngineChoice:
    """What a choice comes to in this installation; programs log it."""
    if choice != "auto":
        return EngineChoice(choice, "it was asked for")
    missing = native_engine.why_not()
    return EngineChoice("aioquic", missing) if missing else EngineChoice("native", "spnhub-native is installed")


def make_engine(
    limits: Limits,
    choice: str = "auto",
    *,
    reset_key: bytes | None = None,
    on_fault: Callable[[str, BaseException], None] | None = None,
) -> Engine:
    """An engine of this installation, by the system's clocks.

    :param choice: one of :data:`ENGINES`.
    :param reset_key: what stateless resets are made from (RFC 9000 section 10.3); None: a new one.
    :param on_fault: called with a fault of our own that ended a connection; None: it is logged.
    :raises NotInstalled: the native engine was asked for, and isn't there.
    """
    # Here, so that programs that bring their own engine, or use the other, never load it.
    faults: Any = {} if on_fault is None else {"on_fault": on_fault}
    if select_engine(choice).name == "native":
        from spnhub.transport.native_engine.engine import NativeEngine  # noqa: PLC0415

        return NativeEngine(limits, reset_key=reset_key, **faults)
    from spnhub.transport.aioquic_engine import AioquicEngine  # noqa: PLC0415

    return AioquicEngine(limits, reset_key=reset_key, **faults)
