"""Where an engine is chosen: nothing else names one.

Counterpart: :mod:`spnhub.transport.engine`, what each of them does.
"""

from __future__ import annotations

from collections.abc import Callable

from spnhub.transport.engine import Engine, Limits

__all__ = ["make_engine"]


def make_engine(
    limits: Limits, *, reset_key: bytes | None = None, on_fault: Callable[[str, BaseException], None] | None = None
) -> Engine:
    """An engine of this installation, by the system's clocks.

    :param reset_key: what stateless resets are made from (RFC 9000 section 10.3); None: a new one.
    :param on_fault: called with a fault of our own that ended a connection; None: it is logged.
    """
    # Here, so that programs that bring their own engine never load it.
    from spnhub.transport.aioquic_engine import AioquicEngine  # noqa: PLC0415

    if on_fault is None:
        return AioquicEngine(limits, reset_key=reset_key)
    return AioquicEngine(limits, reset_key=reset_key, on_fault=on_fault)
