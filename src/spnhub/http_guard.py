"""Who may ask our HTTP servers: by the name that they are called by, and by a token if there is one.

A web page that an operator has open can call any address, and read what answers under the page's own name ("DNS
rebinding"). So a server answers to names that are known to be its own. An address is never a page's name: each is
taken. Counterpart: :mod:`spnhub.http_server`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Iterable
from typing import Final

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Guard", "token_in"]

_OPEN: Final = frozenset({"/healthz", "/readyz"})
"""For probes, which have no token."""


class Guard:
    """An ASGI application before another one.

    :param names: of the server, beside the loopback's.
    :param option: what the option for further names is called.
    :param token: the bearer token that all but the probes must bring (or as a password, whatever the user); None: none.
    """

    def __init__(self, application: ASGIApp, names: Iterable[str], option: str, token: str | None = None) -> None:
        self._application = application
        self._names = {"localhost"}
        for name in names:
            self.also(name)
        self._option = option
        self._token = token

    def also(self, name: str) -> None:
        """Answer to this name, too."""
        if name:
            self._names.add(name.rstrip(".").lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._application)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        # h11 takes one, and none only from HTTP/1.0: no browser.
        for name, value in headers:
            if name == b"host" and not self._is_ours(value.decode("latin-1")):
                text = f"this server is not known by that name; {self._option} names those that it has\n"
                return PlainTextResponse(text, 421)
        if self._token is None or scope["path"] in _OPEN:
            return None
        for name, value in headers:
            if name == b"authorization" and hmac.compare_digest(token_in(value), self._token.encode()):
                return None
        return PlainTextResponse("a bearer token is needed\n", 401, {"WWW-Authenticate": "Bearer"})

    def _is_ours(self, host: str) -> bool:
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.rstrip(".").lower() in self._names
        return True


def token_in(value: bytes) -> bytes:
    """What an ``Authorization`` header brings; nothing if it is of another kind."""
    scheme, _, given = value.partition(b" ")
    if scheme.lower() == b"bearer":
        return given.strip()
    if scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(given.strip(), validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
