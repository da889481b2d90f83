"""A name's addresses by DNS, asked directly. Loaded only by who may need it (:func:`~.name_lookup.load_dns`)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

from spnhub.transport.system.name_answer import SYSTEM_TTL, LookupFailed, NameAnswer, NoAddress

__all__ = ["ask", "resolver"]

RESOLUTION_DELAY: Final = 0.05
"""Seconds that AAAA may come after A (RFC 8305 section 3)."""
LATE_A: Final = 0.5
"""Seconds that A may come after AAAA: there are more hosts whose IPv6 leads nowhere."""


def resolver(settings: Path) -> dns.asyncresolver.Resolver | None:
    """What asks the servers of a resolv.conf; None: it can't be used. Reads the file."""
    try:
        return dns.asyncresolver.Resolver(str(settings))
    except (dns.exception.DNSException, OSError, ValueError):
        return None


async def ask(resolver: dns.asyncresolver.Resolver, host: str) -> NameAnswer:
    """A and AAAA together; one that takes long isn't waited for where the other has brought something.

    :raises NoAddress: there is none.
    :raises LookupFailed: it can't be said now.
    """
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
