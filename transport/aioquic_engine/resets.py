"""Stateless resets (RFC 9000 section 10.3), made from a key: a restarted hub can end the connections that it lost.

Counterparts: :mod:`spnhub.transport.aioquic_engine.connection` gives the tokens to peers,
:mod:`spnhub.transport.aioquic_engine.endpoint` sends resets and compares those that come.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from typing import Final

__all__ = ["SMALLEST_RESET", "TOKEN_SIZE", "ResetSender", "reset_token", "same_token"]

TOKEN_SIZE: Final = 16
SMALLEST_RESET: Final = 21
"""Bytes of the smallest datagram that can be a stateless reset."""
_USUAL: Final = 22
"""Bytes beyond a connection id in the smallest packets of most peers: shorter resets would stand out."""
_SPREAD: Final = 16
"""The length is chosen among so many."""
_RATE: Final = 1000.0
"""Resets per second. A peer that gets none sends again, and so gets its chance for one."""
_BURST: Final = 1000.0
"""Resets at once: a herd of endpoints meets a hub that has just started again."""


def reset_token(key: bytes, cid: bytes) -> bytes:
    """The token of a connection id, 16 bytes."""
    return hmac.digest(key, cid, hashlib.sha256)[:TOKEN_SIZE]


def same_token(token: bytes, datagram: bytes) -> bool:
    """Whether a datagram ends with the token; takes as long whatever differs."""
    return hmac.compare_digest(token, datagram[-TOKEN_SIZE:])


class ResetSender:
    """Makes the answers to packets of unknown connections, at a bounded rate.

    :param key: what the tokens follow from.
    :param cid_length: bytes of this endpoint's connection ids.
    """

    def __init__(self, key: bytes, cid_length: int) -> None:
        self._key = key
        self._cid_length = cid_length
        self._allowed = _BURST
        self._at = 0.0

    def answer(self, packet: bytes, now: float) -> bytes | None:
        """A reset for a short-header packet; None: too small to be answered by something smaller, or too many."""
        if len(packet) <= SMALLEST_RESET:
            return None
        self._allowed = min(_BURST, self._allowed + max(0.0, now - self._at) * _RATE)
        self._at = now
        if self._allowed < 1:
            return None
        self._allowed -= 1
        size = min(len(packet) - 1, self._cid_length + _USUAL + secrets.randbelow(_SPREAD))
        noise = os.urandom(size - TOKEN_SIZE)
        return bytes((0x40 | noise[0] & 0x3F,)) + noise[1:] + reset_token(self._key, packet[1 : 1 + self._cid_length])
