"""``/`` of a running hub: a plain page that says what answers here, and where the console is."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Final

from spnhub.version import VERSION

__all__ = ["FRONT_HEADERS", "front_page"]

FRONT_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""It has no scripts, styles or frames, and nobody may give it any."""

_PATHS: Final = {
    "/healthz": "whether the process runs",
    "/readyz": "whether the hub takes traffic",
    "/metrics": "numbers for Prometheus",
    "/state": "what the hub holds, as JSON",
    "/incidents": "what went wrong since its start, as JSON",
}


def front_page(console: str | None) -> str:
    """The page, HTML.

    :param console: the console's URL; None: the command that starts one is shown.
    """
    if console is None:
        there = "<p>A console for people: <code>spnlog console JOURNAL --hub http://this-address</code></p>"
    else:
        there = f'<p><a href="{escape(console)}" rel="noreferrer">Console</a></p>'
    rows = "".join(f'<li><a href="{path}">{path}</a>: {what}</li>' for path, what in _PATHS.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport"'
        ' content="width=device-width"><meta name="color-scheme" content="light dark"><title>SPN hub</title></head>'
        f"<body><h1>SPN hub {escape(VERSION)}</h1>{there}<ul>{rows}</ul></body></html>\n"
    )
