"""Address validation (RFC 9000 section 8.1): who seems to come from many addresses shows that it hears there.

Below a threshold of half-open handshakes nothing is asked. Above it, under one name or from one network, an Initial
packet without a token is answered with a Retry, for which nothing is kept here: the token says it all. So those whose
source is forged occupy no more than the threshold, and everybody else pays one round trip.
Counterpart: :mod:`spnhub.transport.aioquic_engine.endpoint`, which asks and answers.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
from typing import Any, Final

from aioquic.quic.packet import encode_quic_retry

from spnhub.transport.engine import Address

__all__ = [
    "HALF_OPEN_NAME",
    "HALF_OPEN_SOURCE",
    "MAX_HALF_OPEN",
    "RETRY_PART",
    "TOKEN_LIFETIME",
    "HalfOpen",
    "RetryTokens",
]

MAX_HALF_OPEN: Final = 512
"""Handshakes under way at once under a server name that says nothing else; further ones are dropped (the client repeats
them)."""
RETRY_PART: Final = 8
"""Which part of a name's places may be taken before clients without a token are sent a Retry."""
HALF_OPEN_NAME: Final = MAX_HALF_OPEN // RETRY_PART
"""How many that is under a name that says nothing else."""
HALF_OPEN_SOURCE: Final = 32
"""The same of one network, a /24 of IPv4 or a /56 of IPv6."""
TOKEN_LIFETIME: Final = 15.0
"""Seconds for which a token counts: a client uses it at once, and repeats it while its handshake waits its turn."""
_VERSION: Final = 1
_TIME: Final = 8
_TAG: Final = 16
_MAPPED: Final = bytes(10) + b"\xff\xff"


class RetryTokens:
    """Makes Retry packets and judges the tokens that come back.

    :param reset_key: what the key of the tokens follows from, so that those of before an update count; None: random.
    :param cid_length: bytes of this endpoint's connection ids.
    """

    def __init__(self, reset_key: bytes | None, cid_length: int) -> None:
        self._key = hmac.digest(reset_key or secrets.token_bytes(32), b"retry token", hashlib.sha256)
        self._cid_length = cid_length

    def packet(self, client: bytes, original: bytes, address: Address, now: float) -> bytes:
        """A Retry.

        :param client: the connection id that the client has chosen for itself.
        :param original: the one that it has chosen for this side.
        """
        cid = secrets.token_bytes(self._cid_length)
        plain = int(now * 1000).to_bytes(_TIME, signed=True) + original
        return encode_quic_retry(
            version=_VERSION,
            source_cid=cid,
            destination_cid=client,
            original_destination_cid=original,
            retry_token=plain + self._tag(plain, address, cid),
        )

    def original(self, token: bytes, address: Address, cid: bytes, now: float) -> bytes | None:
        """The connection id that a client chose first; None: this isn't a token of ours, for it, there, and now."""
        plain, tag = token[:-_TAG], token[-_TAG:]
        if len(plain) <= _TIME or not hmac.compare_digest(tag, self._tag(plain, address, cid)):
            return None
        age = now - int.from_bytes(plain[:_TIME], signed=True) / 1000
        return plain[_TIME:] if -1.0 <= age <= TOKEN_LIFETIME else None

    def _tag(self, plain: bytes, address: Address, cid: bytes) -> bytes:
        where = repr(address.remote[:2]).encode()
        parts = (len(plain).to_bytes(2), plain, len(cid).to_bytes(1), cid, where)
        return hmac.digest(self._key, b"".join(parts), hashlib.sha256)[:_TAG]


class HalfOpen:
    """Counts handshakes that are under way, by server name and by source."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._sources: dict[object, int] = {}

    def add(self, name: str, address: Address) -> object:
        """One more; what :meth:`remove` is to be given for its source."""
        source = _source(address.remote)
        self._names[name] = self.under(name) + 1
        self._sources[source] = self._sources.get(source, 0) + 1
        return source

    def remove(self, name: str, source: object) -> None:
        """One is no longer half-open."""
        self._names[name] -= 1
        self._sources[source] -= 1
        if not self._names[name]:
            del self._names[name]
        if not self._sources[source]:
            del self._sources[source]

    def under(self, name: str) -> int:
        """How many there are under a name."""
        return self._names.get(name, 0)

    def most(self) -> int:
        """How many there are under the name that has most."""
        return max(self._names.values(), default=0)

    def is_crowded(self, name: str, places: int = MAX_HALF_OPEN) -> bool:
        """Whether there are many under a name that has so many places."""
        return self.under(name) >= places // RETRY_PART

    def are_many(self, name: str, address: Address, places: int = MAX_HALF_OPEN) -> bool:
        """Whether a client there has to show that it hears what is sent to it."""
        return self.is_crowded(name, places) or self._sources.get(_source(address.remote), 0) >= HALF_OPEN_SOURCE


def _source(remote: tuple[Any, ...]) -> object:
    """The network that an address belongs to."""
    host = str(remote[0]).partition("%")[0]
    try:
        if ":" not in host:
            return socket.inet_pton(socket.AF_INET, host)[:3]
        packed = socket.inet_pton(socket.AF_INET6, host)
    except OSError:
        return host
    return packed[12:15] if packed.startswith(_MAPPED) else packed[:7]
