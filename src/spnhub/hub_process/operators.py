"""What a hub with ``--ops`` shows to its operators, and counts for them. Imported by such a hub only.

Counterparts: :mod:`spnhub.hub_process.process`, which it looks at; :mod:`spnhub.ops`, which answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from spnhub import logging
from spnhub.events.model import Recorded
from spnhub.http_server import HttpServer
from spnhub.hub_settings import HubSettings
from spnhub.ops.expiry import CertificateEnd, RevocationAge
from spnhub.ops.incidents import HubIncidents
from spnhub.ops.metrics import HubMetrics
from spnhub.ops.server import Ops
from spnhub.ops.state import Progress, Snapshot
from spnhub.options import parse_address

__all__ = ["Operators"]


class Operators:
    """The HTTP server, and what it answers with that has to be counted from the beginning."""

    def __init__(self, settings: HubSettings) -> None:
        self.incidents = HubIncidents()
        self._settings = settings
        self._metrics = HubMetrics()
        self._server: HttpServer | None = None

    def take(self, recorded: Recorded) -> None:
        """An event of this process."""
        self._metrics.count(recorded.event)
        self.incidents.take(recorded)

    async def start(
        self,
        *,
        is_ready: Callable[[], bool],
        snapshot: Callable[[], Snapshot],
        progress: Callable[[], Progress],
        fault_counts: Callable[[], Mapping[str, int]],
        ends: Callable[[], tuple[CertificateEnd, ...]],
        lists: Callable[[], tuple[RevocationAge, ...]],
        actor_count: Callable[[], int],
        first_expiries: Callable[[], Mapping[str, datetime]],
    ) -> str:
        """Listen, and answer from now on; the URL.

        :raises SettingsError: the address can't be listened on.
        """
        settings = self._settings
        assert settings.ops is not None
        answers = Ops(
            is_ready,
            snapshot,
            progress,
            self._metrics,
            logging.dropped,
            fault_counts,
            ends,
            lists,
            lambda: self.incidents,
            settings.ops_console,
            actor_count,
            first_expiries,
        )
        self._server = HttpServer(
            answers.application(),
            "--ops",
            names=settings.ops_hosts,
            names_option="--ops-host",
            token=settings.ops_token,
        )
        return await self._server.start(*parse_address(settings.ops))

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            await self._server.close()
