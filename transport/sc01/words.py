"""What sc01 has on the wire: ALPN names, the words of its datagrams, and its codes.

Counterparts: ``SC01.md``, and :mod:`spnhub.actors.contract.codes` for the codes of spn/1.
"""

from __future__ import annotations

import enum
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.events.model import EndPointType
from spnhub.transport.engine import LOST_CODE

__all__ = ["ALPN", "ROLES", "START_INTERVAL", "Word", "close_code", "code_of_close", "code_of_stream", "stream_code"]

ALPN: Final = {EndPointType.PROVIDER: "sc01-provider", EndPointType.CONSUMER: "sc01-consumer"}
ROLES: Final = {name: role for role, name in ALPN.items()}


START_INTERVAL: Final = 10.0
"""Seconds between two requests of one consumer for a provider that count."""


class Word(enum.Enum):
    """The datagrams, ASCII."""

    SHUTDOWN = b"notify_shutdown"
    """Either way: open no new streams on this connection. From a hub: close it when the open ones have ended."""
    STANDBY = b"notify_standby"
    """From a hub: another provider has the connections."""
    ACTIVE = b"notify_active"
    """From a hub: this provider has connections."""
    PROVIDER_STOPPED = b"notify_provider_stopped"
    """From a hub to consumers: the provider was stopped because nobody used it."""
    START_PROVIDER = b"request_provider_start"
    """From a consumer: it has something to send, and there is no provider."""


_NORMAL: Final = 0
_NO_NAME: Final = 1
_UNSUPPORTED: Final = 2
_NO_PROVIDER: Final = 100
_NO_WORD: Final = 256
"""Added to the codes of ours that mean something else in sc01."""

_CLOSE: Final = {
    Code.OK: _NORMAL,
    Code.SHUTDOWN: _NORMAL,
    Code.NOT_ALLOWED: _UNSUPPORTED,
    Code.UNKNOWN_SERVICE: _UNSUPPORTED,
    Code.WITHDRAWN: _UNSUPPORTED,
    Code.NO_PROVIDER: _NO_PROVIDER,
    Code.START_FAILED: _NO_PROVIDER,
}
_OF_CLOSE: Final = {
    _NORMAL: Code.OK,
    _NO_NAME: Code.NOT_ALLOWED,
    _UNSUPPORTED: Code.NOT_ALLOWED,
    _NO_PROVIDER: Code.NO_PROVIDER,
}

_UNREACHABLE: Final = 1
"""A provider resets a stream with it whose TCP server can't be reached."""


def close_code(code: int, *, named: bool = True) -> int:
    """With which code a connection is closed; what sc01 has no code for keeps ours, which is none of sc01's.

    :param named: the peer's certificate has a common name.
    """
    if not named and code == Code.NOT_ALLOWED:
        return _NO_NAME
    try:
        known = _CLOSE.get(Code(code))
    except ValueError:
        known = None
    if known is not None:
        return known
    return code + _NO_WORD if code in _OF_CLOSE else code


def code_of_close(code: int) -> int:
    """What a hub means that has closed the connection with this code."""
    if code in _OF_CLOSE:
        return _OF_CLOSE[code]
    ours = code - _NO_WORD if code - _NO_WORD in _OF_CLOSE else code
    try:
        # A hub of ours has more to say.
        return Code(ours)
    except ValueError:
        return Code.INTERNAL


def stream_code(code: int) -> int:
    """With which code a stream is reset or stopped."""
    return _UNREACHABLE if code == Code.CONNECT_FAILED else _NO_WORD + code if code in {0, _UNREACHABLE} else code


def code_of_stream(code: int) -> int:
    """What a peer means that has reset or stopped a stream with this code. Never one that ends a leg only."""
    if code == LOST_CODE:
        return code
    return Code.CONNECT_FAILED if code == _UNREACHABLE else Code.PEER_RESET
