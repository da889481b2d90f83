"""What an endpoint says where its program takes no changes itself: to the standard library's logger ``spnhub``.

Counterpart: the agents have lines of their own (:mod:`spnhub.transport.agent.session_manager`).
"""

from __future__ import annotations

import logging
from typing import Final

from spnhub.transport.endpoint.core.listener import ConnectionChange
from spnhub.transport.endpoint.session.credentials import CredentialsChange
from spnhub.transport.endpoint.session.hub_target import SessionChange
from spnhub.transport.endpoint.session.states import SessionState
from spnhub.transport.log import NAME
from spnhub.transport.system.ip import host_port

__all__ = ["Notes"]

_log: Final = logging.getLogger(NAME)


class Notes:
    """Of one endpoint."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}
        """What each address failed at last: a hub that is away is tried again and again."""

    def on_session(self, change: SessionChange) -> None:
        """A session is there, has ended, or can't be had."""
        address = host_port(*change.address)
        if change.new is SessionState.ESTABLISHED:
            self._told.pop(address, None)
            _log.info("session %s with %s at %s", change.spn_session_id, change.hub_id, address)
        elif change.error is not None:
            reason = str(change.error).partition(";")[0]
            news = self._told.get(address) != reason
            self._told[address] = reason
            _log.log(logging.WARNING if news else logging.DEBUG, "no session at %s: %s", address, change.error)
        elif change.new is SessionState.CLOSED:
            _log.info("session %s at %s has ended", change.spn_session_id, address)

    def on_connection(self, change: ConnectionChange) -> None:
        """A connection is paused, goes on, or is lost."""
        level = logging.WARNING if change.kind == "lost" else logging.INFO
        _log.log(level, "connection %s %s: %s", change.connection_uid, change.kind, change.reason or "in order")

    def on_credentials(self, change: CredentialsChange) -> None:
        """Files have changed, or should."""
        level = logging.INFO if change.kind in ("renewed", "usable") else logging.WARNING
        _log.log(level, "certificate %s: %s", change.kind, change.detail)
