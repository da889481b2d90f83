"""The settings of ``spnlog``: one class for all commands, so that one file serves them all.

Each command says which of the options are flags of its own. Counterparts: :mod:`spnhub.cli.log` and its companions
``log_…``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from spnhub.cli.options import takes
from spnhub.dataclass import dataclass
from spnhub.events.analysis.point_in_time import Moment
from spnhub.events.analysis.selection import EventSelection, moment_or_ago
from spnhub.events.model import EVENT_CLASSES
from spnhub.options import UnusableOption, host_names, option, parse_address
from spnhub.settings import SettingsError, check_http_url
from spnhub.transport.text import meant, quoted

__all__ = ["LogSettings", "hub_urls", "selection_of", "takes_log_options"]

_selection = partial(option, group="What is read")
_output = partial(option, group="What is shown")
_serving = partial(option, group="Serving")


_TYPES: Final = frozenset(cls.event_type for cls in EVENT_CLASSES.values())


def _moment(text: str) -> Moment:
    return moment_or_ago(text, time.time_ns() // 1000)


def _types(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in _TYPES:
            near = meant(name, _TYPES)
            raise ValueError(f"{quoted(name)} is no type of event" + (f"; did you mean {near}?" if near else ""))
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Of one run of ``spnlog``."""

    at: str | None = _selection(
        None, "A time (ISO 8601; UTC, unless it says otherwise), or a sequence.", metavar="TIME|SEQUENCE"
    )
    hub: str | None = _selection(
        None,
        "Only this hub: its hubId, or a journalId. Of console and top: running hubs' URLs (--ops), with commas.",
    )
    index: Path | None = _selection(
        None,
        "Folder for the indexes of journals, which explain, incidents, state, top and console use.",
        metavar="DIR",
        default_text="in the user's cache",
    )
    last: int = _selection(10, "How many of the present events to begin with.", at_least=0)
    since: Moment | None = _selection(
        None,
        "Only from here on: a time, a sequence, or how long ago (90s, 15m, 1h, 2d).",
        metavar="TIME|SEQUENCE|AGO",
        parse=_moment,
    )
    until: Moment | None = _selection(
        None,
        "Go no further than this: a time, a sequence, or how long ago.",
        metavar="TIME|SEQUENCE|AGO",
        parse=_moment,
    )
    service: str | None = _selection(None, "Only this service: its URN, or its name.", metavar="SERVICE")
    realm: str | None = _selection(None, "Only this realm.", metavar="REALM")
    type: tuple[str, ...] = _selection(
        (),
        "Only events of these types (eventType), separated by commas; with all their fields.",
        metavar="TYPE,…",
        parse=_types,
    )
    every: bool = _output(False, "Every event with all its fields, not only the lifecycle lines.", flag="all")
    by: str | None = _output(None, "Only bytes, by service and hour (UTC).", metavar="[hour]", choices=("hour",))
    step: bool = _output(False, "Show each step and what it changes; on a terminal, wait for Enter.")
    as_json: bool = _output(False, "For programs: JSON, with the names of the spec.", flag="json")
    listen: tuple[str, int] | None = _serving(
        None,
        "Where numbers, or the console, are served over HTTP; port 0: any that is free.",
        metavar="HOST:PORT",
        parse=parse_address,
        default_text="127.0.0.1:9700, of console 127.0.0.1:9710",
    )
    hosts: tuple[str, ...] = host_names("host", "Serving")
    token: str | None = _serving(
        None, "Token that requests must bring: as a bearer token, or as a password.", secret=True, from_file=True
    )
    realm_tokens: Path | None = _serving(
        None,
        "File with a realm and a token on each line: who brings one sees that realm only.",
        metavar="FILE",
        default_text="none",
    )
    hub_token: str | None = _selection(
        None, "Bearer token of the hubs' HTTP (--ops-token), where one is asked.", secret=True, from_file=True
    )
    consumer_group: str = _serving("spnlog", "Kafka's consumer group: its members share the partitions.", flag="group")

    def __post_init__(self) -> None:
        if not self.consumer_group.strip():
            raise UnusableOption("consumer_group", " is empty")


def selection_of(settings: LogSettings) -> EventSelection:
    """The events that the options select."""
    types = frozenset(settings.type) or None
    return EventSelection(settings.since, settings.until, settings.realm, settings.service, types)


def hub_urls(settings: LogSettings) -> tuple[str, ...]:
    """The running hubs that ``--hub`` names.

    :raises SettingsError: it names something else.
    """
    urls = tuple(piece.strip() for piece in (settings.hub or "").split(",") if piece.strip())
    for url in urls:
        try:
            check_http_url(url)
        except ValueError as exc:
            raise SettingsError(f"--hub: {exc}") from None
    return urls


def takes_log_options(*names: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command of ``spnlog`` these options, ``--json`` and ``--config``; see :func:`spnhub.cli.options.takes`."""
    return takes(LogSettings, "SPNLOG_", (*names, "as_json"))
