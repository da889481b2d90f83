"""``spnlog console``: the past and the present in a browser. Counterpart: :mod:`spnhub.console`."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Final

import structlog
import typer

from spnhub.cli.log_reading import Sources, run
from spnhub.cli.log_settings import LogSettings, hub_urls, takes_log_options
from spnhub.cli.options import Reader
from spnhub.extras import MissingExtra, check_extra
from spnhub.settings import SettingsError

__all__ = ["console"]

_ADDRESS: Final = ("127.0.0.1", 9710)


@takes_log_options("listen", "hosts", "token", "realm_tokens", "hub", "hub_token", "index")
def console(_: typer.Context, settings_of: Reader[LogSettings], sources: Sources) -> int:
    """Serve a console for browsers, until interrupted: what there is, what flows and what went wrong, at any time."""
    try:
        check_extra("console")
    except MissingExtra as exc:
        raise SettingsError(str(exc)) from None
    from spnhub import logging, signals  # noqa: PLC0415 - these take a while to load
    from spnhub.console import server  # noqa: PLC0415
    from spnhub.console.hubs import RunningHubs  # noqa: PLC0415
    from spnhub.console.sight import Sight  # noqa: PLC0415
    from spnhub.console.tokens import Tokens, read_realm_tokens  # noqa: PLC0415
    from spnhub.events.analysis.journal_index import default_index_folder  # noqa: PLC0415
    from spnhub.transport.faults import Faults  # noqa: PLC0415
    from spnhub.transport.system.descriptors import raise_limit  # noqa: PLC0415

    settings = settings_of()
    realms = {} if settings.realm_tokens is None else read_realm_tokens(settings.realm_tokens)
    urls = hub_urls(settings)
    tokens = Tokens(settings.token, realms)
    host, port = settings.listen or _ADDRESS
    if not tokens.needed and not _is_loopback(host):
        raise SettingsError(f"--listen: {host} can be reached by others, so a token is needed (--token-file)")
    logging.configure("info", "json" if settings.as_json else None)
    raise_limit()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(Faults().on_loop_error)
        log = structlog.get_logger("spnhub.console")
        hubs = RunningHubs(
            urls, settings.hub_token, lambda url, reason: log.warning("console.hub_silent", url=url, reason=reason)
        )
        sight = Sight(sources, settings.index or default_index_folder(), hubs)
        stop = asyncio.Event()
        with signals.taken(lambda _: stop.set()):
            await server.serve(sight, tokens, host, port, stop, names=settings.hosts)

    return run(main)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
