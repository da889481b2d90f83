"""What several programs' settings are made of: addresses, sizes, times, and the error about what can't be used.

Counterparts: :mod:`spnhub.hub_settings` and :mod:`spnhub.cli.agent_settings`.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

__all__ = [
    "ConfigurationError",
    "check_inventory_url",
    "parse_address",
    "parse_addresses",
    "parse_age",
    "parse_size",
]

_SIZES: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_AGES: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class ConfigurationError(Exception):
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


def parse_size(text: str) -> int | None:
    """Bytes, from a number that K, M, G or T may follow (of 1,024); None for 0: no bound.

    :raises ValueError: it isn't one.
    """
    return _number(text, _SIZES, "a size: bytes, or a number with K, M, G or T") or None


def parse_age(text: str) -> int | None:
    """Seconds, from a number that s, m, h or d may follow; None for 0: no bound.

    :raises ValueError: it isn't one.
    """
    return _number(text, _AGES, "a time: seconds, or a number with s, m, h or d") or None


def _number(text: str, units: dict[str, int], what: str) -> int:
    digits = text.strip().rstrip("".join(units))
    unit = text.strip()[len(digits) :]
    if not digits.isascii() or not digits.isdigit() or unit not in units:
        raise ValueError(f"{text!r} is not {what}")
    return int(digits) * units[unit]


def parse_addresses(text: str) -> tuple[str, ...]:
    """Take a list of ``HOST:PORT`` apart (an IPv6 address in brackets) at its commas.

    :raises ValueError: one of them isn't HOST:PORT; it is named.
    """
    pieces = tuple(piece.strip() for piece in text.split(","))
    for piece in pieces:
        host, port = parse_address(piece)
        if port == 0 or not host:
            raise ValueError(f"{piece!r} is not HOST:PORT")
    return pieces


def parse_address(text: str) -> tuple[str, int]:
    """Take one ``HOST:PORT`` apart; the brackets of an IPv6 address are taken off.

    :raises ValueError: it isn't HOST:PORT.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or any(c.isspace() or c in "/[]" for c in host) or not port.isascii() or not port.isdigit():
        raise ValueError(f"{text!r} is not HOST:PORT")
    if int(port) > 65_535:
        raise ValueError(f"port {port} of {text!r} is above 65535")
    return host, int(port)
