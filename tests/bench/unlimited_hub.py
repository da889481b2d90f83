"""A hub that bounds nobody: the zero from which the cost of the limits is counted.

``python -m tests.bench.unlimited_hub OPTIONS`` is the hub's command line without rates and memory budgets, and with
events handled as they come, not session by session. Not for use: what one peer sends then costs all others. With
``--limited`` before the options it is the product's, started in the same way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from spnhub.cli.hub import main
from spnhub.hub_process import process
from spnhub.transport.engine import EngineEvent
from spnhub.transport.hub import server, sessions
from spnhub.transport.hub.rates import Rates

__all__ = ["LIMITED", "lift_limits"]

LIMITED: Final = "--limited"


def _handle_all(self: Any, events: list[EngineEvent]) -> None:
    for event in events:
        self._handle_one(event)
    while self._backlog.count:  # what is left of a long read
        self._handle_one(self._backlog.take())


def _admit(*_: Any, **__: Any) -> bool:
    return True


def _nothing(*_: Any, **__: Any) -> None:
    """No reason to refuse anything."""


_LIMITS: Final[tuple[tuple[Any, str, Any], ...]] = (
    (server.HubServer, "_handle_all", _handle_all),
    (sessions.Sessions, "admit", _admit),
    (sessions.Sessions, "admit_more", _nothing),
    (Rates, "refuse_session", _nothing),
    (Rates, "refuse_more", _nothing),
    # As far as a session likes.
    (process, "INITIAL_WINDOW", 0),
    (process, "INITIAL_SEND_WINDOW", 0),
)
"""Where they are, and what is there without them."""


def lift_limits(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Bound nobody from now on; ``put``: as :func:`setattr`, to take it back later."""
    for owner, name, instead in _LIMITS:
        assert hasattr(owner, name), name
        put(owner, name, instead)


if __name__ == "__main__":
    if LIMITED in sys.argv:
        sys.argv.remove(LIMITED)
    else:
        lift_limits()
    main()
