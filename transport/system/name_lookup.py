"""What a name's addresses are, and for how long: by DNS where the system itself would ask it, else by the system.

``getaddrinfo`` knows every source that the system has, but not for how long an answer holds, needs a thread for as long
as it takes, and waits for AAAA however long that takes. So DNS is asked directly where ``/etc/nsswitch.conf`` has
nothing but ``files`` and ``dns``, and ``/etc/hosts`` hasn't got the name. Counterpart:
:mod:`spnhub.transport.system.names` shares and keeps the answers.
"""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio.staggered import staggered_race
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from spnhub.transport.system.loop import in_own_thread

__all__ = ["LookupFailed", "NameAnswer", "NoAddress", "ask_getaddrinfo", "ask_system"]

SYSTEM_TTL: Final = 5.0
"""Seconds that an answer of ``getaddrinfo`` holds, which doesn't say."""
PATIENCE: Final = 1.0
"""Seconds after which ``getaddrinfo`` is asked beside a DNS server that hasn't answered, or at once if that fails."""
RESOLUTION_DELAY: Final = 0.05
"""Seconds that AAAA may come after A (RFC 8305 section 3)."""
LATE_A: Final = 0.5
"""Seconds that A may come after AAAA: there are more hosts whose IPv6 leads nowhere."""

HOSTS: Final = Path("/etc/hosts")
NSSWITCH: Final = Path("/etc/nsswitch.conf")
RESOLV: Final = Path("/etc/resolv.conf")
SETTINGS: Final = ("HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS")
"""What else changes the system's answers (resolv.conf(5), gethostbyname(3))."""
_NONE_THERE: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class LookupFailed(Exception):
    """A name's addresses couldn't be looked up; the text has the reason."""


class NoAddress(LookupFailed):
    """It is known that there are none."""


class NameAnswer(NamedTuple):
    """The addresses of a name, at least one."""

    addresses: tuple[str, ...]
    """IP addresses, a link-local one with its scope; IPv6 first where that says nothing."""
    ttl: float
    """Seconds."""
    ordered: bool
    """The system prefers those that come first; a record set of DNS has no order."""


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
        (partial(_ask_dns, resolver, host), partial(ask_getaddrinfo, host)), PATIENCE
    )
    if answer is None:
        # What DNS says counts: it is where the system would have asked.
        raise failures[0] or LookupFailed("no answer")
    return answer


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
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost") or any(setting in os.environ for setting in SETTINGS):
        return None
    if name in {word.lower() for line in _lines(HOSTS) for word in line.split()[1:]} or not _plain():
        return None
    try:
        return dns.asyncresolver.Resolver(str(RESOLV))
    except (dns.exception.DNSException, OSError, ValueError):
        return None


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


async def _ask_dns(resolver: dns.asyncresolver.Resolver, host: str) -> NameAnswer:
    """A and AAAA together; one that takes long isn't waited for where the other has brought something."""
    families = dns.rdatatype.A, dns.rdatatype.AAAA
    a, aaaa = asking = [asyncio.ensure_future(_ask_family(resolver, host, family)) for family in families]
    try:
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        rest = RESOLUTION_DELAY if _has_some(a) else LATE_A if _has_some(aaaa) else None
        await asyncio.wait(asking, timeout=rest)
    finally:
        for task in asking:
            task.cancel()
    failures = [failure for task in asking if task.done() and (failure := task.exception()) is not None]
    answers = [task.result() for task in (aaaa, a) if _has_some(task)]
    if not answers:
        if not failures:
            raise NoAddress(f"{host} has no address")
        raise next((failure for failure in failures if not isinstance(failure, NoAddress)), failures[0])
    # Of a search list both must have found the same name.
    answers = [answer for answer in answers if answer.qname == answers[-1].qname]
    addresses = tuple(record.to_text() for answer in answers for record in answer.rrset or ())
    ttl = float(min(answer.chaining_result.minimum_ttl for answer in answers))
    half = failures or not all(task.done() for task in asking)
    return NameAnswer(addresses, min(ttl, SYSTEM_TTL) if half else ttl, ordered=False)


def _has_some(task: asyncio.Future[dns.resolver.Answer]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None and bool(task.result().rrset)


async def _ask_family(
    resolver: dns.asyncresolver.Resolver, host: str, family: dns.rdatatype.RdataType
) -> dns.resolver.Answer:
    try:
        return await resolver.resolve(host, family, raise_on_no_answer=False, search=True)
    except dns.resolver.NXDOMAIN as exc:
        raise NoAddress(str(exc)) from exc
    except (dns.exception.DNSException, OSError, UnicodeError) as exc:
        raise LookupFailed(str(exc)) from exc
