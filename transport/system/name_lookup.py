"""What a name's addresses are, and for how long: by DNS where the system itself would ask it, else by the system.

``getaddrinfo`` knows every source that the system has, but not for how long an answer holds, needs a thread for as long
as it takes, and waits for AAAA however long that takes. So DNS is asked directly where ``/etc/nsswitch.conf`` has
nothing but ``files`` and ``dns``, and ``/etc/hosts`` hasn't got the name. Counterpart:
:mod:`spnhub.transport.system.names` shares and keeps the answers.
"""

from __future__ import annotations

import os
import socket
from asyncio.staggered import staggered_race
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from spnhub.transport.system.ip import ip_address
from spnhub.transport.system.loop import in_own_thread
from spnhub.transport.system.name_answer import SYSTEM_TTL, LookupFailed, NameAnswer, NoAddress

if TYPE_CHECKING:
    import dns.asyncresolver

__all__ = ["LookupFailed", "NameAnswer", "NoAddress", "ask_getaddrinfo", "ask_system", "load_dns"]

PATIENCE: Final = 1.0
"""Seconds after which ``getaddrinfo`` is asked beside a DNS server that hasn't answered, or at once if that fails."""

HOSTS: Final = Path("/etc/hosts")
NSSWITCH: Final = Path("/etc/nsswitch.conf")
RESOLV: Final = Path("/etc/resolv.conf")
SETTINGS: Final = ("HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS")
"""What else changes the system's answers (resolv.conf(5), gethostbyname(3))."""
_NONE_THERE: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


async def ask_system(host: str) -> NameAnswer:
    """Look a name up, once.

    :raises NoAddress: there is none.
    :raises LookupFailed: it can't be said now. There is no bound on the time that this takes.
    """
    resolver = await in_own_thread(partial(_dns_for, host))
    if resolver is None:
        return await ask_getaddrinfo(host)
    answer: NameAnswer | None
    answer, _, failures = await staggered_race(
        (partial(_dns_client().ask, resolver, host), partial(ask_getaddrinfo, host)), PATIENCE
    )
    if answer is None:
        # What DNS says counts: it is where the system would have asked.
        raise failures[0] or LookupFailed("no answer")
    return answer


def load_dns(hosts: Iterable[str]) -> None:
    """Load what asks DNS, if one of these is a name for which DNS may have to be asked.

    dnspython comes with clients for HTTP and QUIC, a tenth of a second of CPU in all, and most agents need none of it.
    Who will have names looked up calls this in the beginning, so that nothing is loaded beside traffic.
    """
    if any(ip_address(host) is None and not _is_local(host) for host in hosts):
        _dns_client()


def _dns_client() -> Any:
    # Imported late, see load_dns().
    from spnhub.transport.system import dns_client  # noqa: PLC0415

    return dns_client


# ---- the system ----------------------------------------------------------------------------------------------------


async def ask_getaddrinfo(host: str) -> NameAnswer:
    """Ask the system. One name's slow look-up doesn't delay another's: each has a thread of its own.

    :raises LookupFailed: as :func:`ask_system`.
    """
    try:
        found = await in_own_thread(partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM))
    except socket.gaierror as exc:
        raise (NoAddress if exc.errno in _NONE_THERE else LookupFailed)(str(exc)) from exc
    except (OSError, UnicodeError, RuntimeError) as exc:
        raise LookupFailed(str(exc)) from exc
    if not found:
        raise NoAddress(f"{host} has no address")
    return NameAnswer(tuple(dict.fromkeys(_text(entry[4]) for entry in found)), SYSTEM_TTL, ordered=True)


def _text(address: tuple[object, ...]) -> str:
    scope = address[3] if len(address) > 3 else 0
    return f"{address[0]}%{scope}" if scope and "%" not in str(address[0]) else str(address[0])


# ---- DNS -----------------------------------------------------------------------------------------------------------


def _dns_for(host: str) -> dns.asyncresolver.Resolver | None:
    """The DNS servers that the system would ask for the name; None: it asks other sources, too. Reads files."""
    name = _plain_name(host)
    if _is_local(host) or any(setting in os.environ for setting in SETTINGS):
        return None
    if name in {word.lower() for line in _lines(HOSTS) for word in line.split()[1:]} or not _plain():
        return None
    resolver: dns.asyncresolver.Resolver | None = _dns_client().resolver(RESOLV)
    return resolver


def _plain_name(host: str) -> str:
    return host.rstrip(".").lower()


def _is_local(host: str) -> bool:
    name = _plain_name(host)
    return name == "localhost" or name.endswith(".localhost")


def _plain() -> bool:
    for line in _lines(NSSWITCH):
        database, _, sources = line.partition(":")
        if database.strip() == "hosts":
            return set(sources.split()) <= {"files", "dns"}
    return True


def _lines(path: Path) -> Iterable[str]:
    """A file's lines without comments; one that can't be read has none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    return (line.partition("#")[0] for line in text.splitlines())
