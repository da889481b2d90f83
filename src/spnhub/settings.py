"""The error about arguments and configuration that can't be used, and what an inventory's URL may be.

Counterparts: :mod:`spnhub.options`, :mod:`spnhub.hub_settings` and :mod:`spnhub.agent_settings`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = [
    "SettingsError",
    "check_inventory_url",
]


class SettingsError(Exception):
    """Arguments or configuration that can't be used: exit status 2. The text is one line and names what is wrong."""


def check_inventory_url(url: str) -> None:
    """Whether ``url`` is an http, https or file URL.

    :raises ValueError: it isn't.
    """
    try:
        parts = urlsplit(url)
        usable = (parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1) > 0) or (
            parts.scheme == "file" and parts.path and parts.netloc in {"", "localhost"}
        )
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{url!r} is not an http, https or file URL")


def check_http_url(url: str) -> None:
    """Whether ``url`` is an http or https URL.

    :raises ValueError: it isn't.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{url!r} is not an http or https URL")
