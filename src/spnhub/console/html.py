"""Pages as HTML. Every text passes htpy, which escapes it: what peers have written is never markup.

Counterparts: :mod:`spnhub.console.page`, :mod:`spnhub.console.story`, ``static/``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import htpy as h

from spnhub.console.drawing import drawn, timeline
from spnhub.console.page import Page, Rows
from spnhub.console.story import Picture
from spnhub.console.text import (
    CONDITIONS,
    bytes_per_second,
    clock,
    day_and_clock,
    hub_numbers,
    service_numbers,
    size_text,
)
from spnhub.events.analysis.flow import SPAN
from spnhub.events.analysis.incidents import Incident
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.analysis.narrative import seconds_text
from spnhub.events.analysis.segment_index import MinuteFlow
from spnhub.plain_text import printable

__all__ = ["Frame", "fault_page", "main_part", "page", "story_page", "waiting_page"]

_ENDS = re.compile("[^:,]+[:,]?|[:,]")
_SPEEDS = {"10": "10×", "60": "1 min/s", "600": "10 min/s", "3600": "1 h/s"}


class Frame:
    """What is around a page.

    :param at: the moment as the address has it; None: now.
    :param first: the earliest moment, and ``last`` the latest, microseconds since 1970.
    :param note: what a reader has to know of the page: it isn't complete yet, say.
    """

    def __init__(self, at: str | None, first: int, last: int, note: str = "") -> None:
        self.at = at
        self.first = first
        self.last = last
        self.note = note


def page(of: Page, frame: Frame, flow: Sequence[MinuteFlow]) -> str:
    """The whole page."""
    return _document(
        "SPN Hub console",
        _header(of.query, of.scope, frame.at),
        h.div(".around")[
            h.header[_time(of, frame, flow)],
            h.main("#main", tabindex="-1")[_main(of, frame)],
        ],
        frame.at,
    )


def main_part(of: Page, frame: Frame) -> str:
    """What changes with the moment."""
    return str(h.fragment[_main(of, frame)])


def story_page(of: Picture, scope: str | None, more: int, note: str = "") -> str:
    """The story of a conversation or session."""
    body = h.main("#main.story", tabindex="-1")[
        h.p[h.a(href="/")["← Console"]],
        h.section(".wide")[
            h.h2[f"{of.kind.capitalize()} ", h.code[_text(of.name)]],
            h.p[_text(of.summary)],
            note and h.p(".warn")[note],
            h.div("#picture.scroll", tabindex="0", role="region", aria_label="Picture")[drawn(of)],
            _legs(of),
        ],
        h.br,
        h.section(".wide")[
            h.h2["What happened"],
            h.ol(".lines")[
                (
                    h.li[
                        line.time is not None
                        and [
                            h.a(href=_link(at=_moment(line.time)))[
                                f"{day_and_clock(line.time)[:10]} {clock(line.time)}"
                            ],
                            " ",
                            h.span(".warn")[line.gap],
                            " ",
                            h.span(".soft")[_text(line.hub_id)],
                            " ",
                        ],
                        _text(line.text),
                    ]
                    for line in of.lines
                )
            ],
            more > 0 and h.p(".soft")[f"and {more} further legs with this name: ask for one by its connectionUid"],
        ],
    ]
    return _document(f"{of.name} · SPN Hub console", _header("", scope, None), body, None)


def fault_page(text: str, scope: str | None) -> str:
    """A sentence."""
    body = h.main("#main", tabindex="-1")[h.section[h.p(".fault")[_text(text)], h.p[h.a(href="/")["Console"]]]]
    return _document("SPN Hub console", _header("", scope, None), body, None)


def waiting_page(events: int) -> str:
    """Before what is there has been read."""
    body = h.main("#main", tabindex="-1")[h.section[h.p[f"Reading what is there: {events:,} events so far."]]]
    return _document("SPN Hub console", None, body, None, refresh=True)


# ---- parts ---------------------------------------------------------------------------------------------------------


def _text(text: str) -> str:
    """What others have written, without signs that turn, hide or end lines."""
    return printable(text)


def _name(text: str) -> h.Node:
    """A URN or a subject: where it is too long, it goes on in another line behind a colon or comma."""
    return h.fragment[((piece, h.wbr) for piece in _ENDS.findall(_text(text)))]


def _moment(time: int) -> str:
    return format_time(time)


def _link(path: str = "/", **parameters: str | None) -> str:
    given = urlencode({name: value for name, value in parameters.items() if value})
    return f"{path}?{given}" if given else path


def _document(title: str, header: h.Node, body: h.Node, at: str | None, *, refresh: bool = False) -> str:
    return str(
        h.html(lang="en")[
            h.head[
                h.meta(charset="utf-8"),
                h.meta(name="viewport", content="width=device-width, initial-scale=1"),
                h.meta(name="color-scheme", content="light dark"),
                refresh and h.meta(http_equiv="refresh", content="1"),
                h.title[_text(title)],
                h.link(rel="stylesheet", href="/static/console.css"),
                h.link(rel="icon", href="data:,"),
                h.script(src="/static/console.js", defer=True),
            ],
            h.body({"class": "past" if at else None, "data-at": at})[
                h.a(".skip", href="#main")["To what is shown"], header, body
            ],
        ]
    )


def _header(query: str, scope: str | None, at: str | None) -> h.Node:
    return h.header[
        h.div(".bar")[
            h.h1["SPN Hub ", h.span(".soft")["console" if scope is None else f"realm {_text(scope)}"]],
            h.form(".search", action="/", role="search")[
                h.input(
                    type="search",
                    name="q",
                    value=query,
                    aria_label="Search",
                    placeholder="uid, subject, address, service …",
                    maxlength="200",
                ),
                at and h.input(type="hidden", name="at", value=at),
                h.button["Search"],
            ],
        ]
    ]


def _time(of: Page, frame: Frame, flow: Sequence[MinuteFlow]) -> h.Node:
    first, last, now = frame.first // 1000, frame.last // 1000, of.time // 1000
    return h.form(".time", action="/")[
        h.div(".bar")[
            h.a("#live", href=_link(q=of.query), role="button", aria_pressed="false" if frame.at else "true")[
                h.b["Live"]
            ],
            h.button("#play", type="button", hidden=True, data_script=True, aria_pressed="false")["Play"],
            h.label(hidden=True, data_script=True)[
                "at ", h.select("#speed")[(h.option(value=value)[text] for value, text in _SPEEDS.items())]
            ],
            h.output("#moment", for_="slider")[
                f"{day_and_clock(of.time)} UTC" if frame.at else f"live, {day_and_clock(of.time)}"
            ],
        ],
        timeline(flow, frame.first, frame.last),
        h.input(
            "#slider",
            type="range",
            min=str(first),
            max=str(max(last, first + 1)),
            step="1000",
            value=str(now),
            aria_label="Moment that is shown",
            list=None,
        ),
        h.noscript[
            h.label["Moment ", h.input(name="at", value=frame.at or "", placeholder="2026-01-02T03:04:05Z")],
            h.button["Show"],
        ],
    ]


def _main(of: Page, frame: Frame) -> h.Node:
    flow = of.totals
    tiles = (
        (f"{of.services.total:,}", "services"),
        (f"{of.sessions:,}", "sessions"),
        (f"{of.connections:,}", "connections"),
        (f"{flow.opened / SPAN:.1f}/s", "new connections"),
        (f"{flow.failed:,}", "failed in the last minute"),
        (f"{size_text(flow.sent / SPAN)}/s", "to providers"),
        (f"{size_text(flow.received / SPAN)}/s", "back"),
    )
    return [
        h.div(
            data_first=str(frame.first // 1000),
            data_last=str(frame.last // 1000),
            data_time=day_and_clock(of.time),
        )[
            frame.note and h.p(".warn", role="status")[frame.note],
            of.query
            and h.p[
                f"Rows with “{_text(of.query)}”. ",
                h.a(href=_story(of.query))["Its story, if it is an id"],
                " · ",
                h.a(href=_link(at=frame.at))["All rows"],
            ],
        ],
        h.ul(".tiles")[(h.li[h.b[number], h.span[what]] for number, what in tiles)],
        h.div(".cards")[
            _incidents(of),
            _services(of),
            _hubs(of),
            _networks(of),
            _connections(of),
            _endpoints(of),
            _certificates(of),
        ],
    ]


def _story(name: str) -> str:
    return f"/story/{quote(name, safe='')}"


_Cell = h.Node
_Row = Sequence[_Cell]


def _table(
    name: str,
    title: str,
    heads: Sequence[str],
    rows: Iterable[_Row],
    of: Rows[Any],
    *,
    none: str,
    wide: bool = False,
) -> h.Node:
    """Columns that begin with ``#`` are numbers, with ``@`` names, with ``!`` times."""
    kinds = {"#": "n", "@": "name", "!": "t"}
    shown = [
        h.tr[(h.td(class_=kinds.get(head[0]))[cell] for head, cell in zip(heads, row, strict=True))] for row in rows
    ]
    return h.section({"class": "wide" if wide else None, "aria-labelledby": f"h-{name}"})[
        h.h2(id=f"h-{name}")[title, " ", h.span(".soft")[f"{of.total:,}"]],
        h.p(".soft")[none]
        if not shown
        else h.div(f"#t-{name}.scroll", tabindex="0", role="region", aria_labelledby=f"h-{name}")[
            h.table[
                h.thead[h.tr[(h.th(scope="col", class_=kinds.get(head[0]))[head.lstrip("#@!")] for head in heads)]],
                h.tbody[shown],
            ]
        ],
        of.more > 0 and h.p(".soft")[f"… and {of.more:,} more: search for one"],
    ]


def _is(condition: str) -> h.Node:
    return h.span(class_=f"is {CONDITIONS.get(condition, '')}")[condition]


def _lasted(one: Incident, now: int) -> str:
    end = one.over if one.over is not None else now if one.state == "open" else one.last
    return seconds_text(max(0, end - one.since) / 1_000_000)


def _incidents(of: Page) -> h.Node:
    rows = (
        (
            _is({"open": "going on"}.get(one.state, one.state)),
            h.a(href=_link(at=_moment(one.since), q=of.query))[day_and_clock(one.since)],
            _lasted(one, of.time),
            one.kind,
            _name(one.who),
            _text(one.why),
            f"{one.count:,}",
            h.fragment[((h.a(href=_story(uid))[f"{_text(uid[:8])}…"], " ") for uid in one.uids)],
            _text(one.recovered),
        )
        for one in of.incidents.rows
    )
    heads = ("is", "!since", "!for", "what", "@who", "@why", "#count", "connections", "ended by")
    return _table("incidents", "Incidents", heads, rows, of.incidents, none="None.", wide=True)


def _services(of: Page) -> h.Node:
    rows = (
        (
            h.a(href=_link(q=row.urn))[_name(row.urn)],
            _is(row.condition),
            *service_numbers(row),
        )
        for row in of.services.rows
    )
    heads = ("@service", "is", "#providers", "#consumers", "#connections", "#new/s", "#failed", "#bytes/s")
    return _table("services", "Services", heads, rows, of.services, none="None.", wide=True)


def _hubs(of: Page) -> h.Node:
    rows = (
        (
            _text(row.hub_id),
            _is(row.condition),
            _text(row.version),
            _text(", ".join(row.addresses)),
            *hub_numbers(row, of.time),
        )
        for row in of.hubs.rows
    )
    heads = ("@hub", "is", "version", "@addresses", "#sessions", "#connections", "#last event")
    return _table("hubs", "Hubs", heads, rows, of.hubs, none="None.")


def _networks(of: Page) -> h.Node:
    rows = (
        (
            _text(row.realm),
            _name(row.urn),
            f"{row.services:,}",
            f"{row.sessions:,}",
            f"{row.connections:,}",
            bytes_per_second(row.rates),
        )
        for row in of.networks.rows
    )
    heads = ("realm", "@network", "#services", "#sessions", "#connections", "#bytes/s")
    return _table("networks", "Realms and networks", heads, rows, of.networks, none="None.")


def _connections(of: Page) -> h.Node:
    rows = (
        (
            h.a(href=_story(row.uid))[f"{_text(row.uid[:8])}…"],
            _name(row.service_urn),
            _name(row.consumer),
            _name(row.provider),
            _text(row.hub_id),
            str(row.epoch),
            seconds_text(max(0, of.time - row.since) / 1_000_000),
            size_text(row.sent),
            size_text(row.received),
        )
        for row in of.open_connections.rows
    )
    heads = ("uid", "@service", "@consumer", "@provider", "hub", "#leg", "#for", "#sent", "#received")
    return _table("connections", "Open connections", heads, rows, of.open_connections, none="None.")


def _endpoints(of: Page) -> h.Node:
    rows = (
        (
            h.a(href=_story(row.session))[_name(row.subject)],
            _is(row.condition),
            row.role,
            _name(row.service_urn),
            _text(row.hub_id),
            _text(row.address),
            f"{row.weight:,}" if row.ended is None else "",
            f"{row.connections:,}" if row.ended is None else "",
            seconds_text(max(0, (row.ended or of.time) - row.since) / 1_000_000),
        )
        for row in of.endpoints.rows
    )
    heads = ("@endpoint", "is", "role", "@service", "hub", "address", "#weight", "#connections", "#for")
    return _table("endpoints", "Endpoints", heads, rows, of.endpoints, none="None.")


def _certificates(of: Page) -> h.Node:
    rows = (
        (
            h.span(class_=f"is {'bad' if row.days < 7 else 'warn' if row.days < 30 else 'good'}")[
                f"{row.days:.0f} days" if row.days >= 0 else "expired"
            ],
            row.not_after,
            row.kind,
            _name(row.subject),
            _name(row.name),
        )
        for row in of.certificates.rows
    )
    heads = ("left", "!expires", "of", "@subject", "@name")
    none = "Not known: a running hub says it (--hub URL)."
    return _table("certificates", "Certificates by expiry", heads, rows, of.certificates, none=none)


def _legs(of: Picture) -> h.Node:
    rows = (
        (
            str(leg.epoch),
            _text(leg.hub_id),
            clock(leg.start),
            "open" if leg.end is None else seconds_text(max(0, leg.end - leg.start) / 1_000_000),
            _name(leg.consumer),
            _name(leg.provider),
            f"{leg.start_sent:,}",
            f"{leg.sent:,}",
            f"{leg.start_received:,}",
            f"{leg.received:,}",
            _text(leg.how),
        )
        for leg in of.legs
    )
    heads = (
        "#leg",
        "hub",
        "!start",
        "#for",
        "@consumer",
        "@provider",
        "#from",
        "#sent",
        "#back from",
        "#received",
        "@end",
    )
    pauses = h.ul[
        (
            h.li[
                f"{clock(one.start)}: still for {seconds_text(max(0, one.end - one.start) / 1_000_000)}, ",
                _text(f"{one.from_hub} → {one.to_hub}: {one.reason}"),
                one.asked and _text(f"; {one.asked} asked to go on"),
            ]
            for one in of.pauses
        )
    ]
    table = Rows(tuple(of.legs))
    return [_table("legs", "Legs", heads, rows, table, none="None."), pauses if of.pauses else None]
