"""Names of servers: one look-up at a time for each, whose answer all callers share, and which is valid for its TTL.

An IP address is never looked up. An answer is asked for anew before its TTL is over, so that no caller waits for it;
and an old answer is used as long as no resolver answers (RFC 8767). Counterparts:
:mod:`spnhub.transport.system.name_lookup` is asked, :mod:`spnhub.transport.agent.tcp` connects.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from spnhub.transport.log import get_logger
from spnhub.transport.system.ip import ip_address
from spnhub.transport.system.name_lookup import LookupFailed, NameAnswer, NoAddress, ask_system

__all__ = ["LookupFailed", "NameCache"]

_log = get_logger()

SHORTEST_TTL: Final = 1.0
LONGEST_TTL: Final = 300.0
"""Seconds that an answer holds, whatever it says itself."""
FAILURE_TTL: Final = 1.0
"""Seconds for which a name that has no address, or couldn't be looked up, isn't looked up again."""
RENEW_AT: Final = 0.75
"""Share of its TTL after which the next use of an answer asks for it anew."""
STALE: Final = 86_400.0
"""Seconds that an answer may be used beyond its TTL, while no resolver answers."""
STALE_AFTER: Final = 1.0
"""Seconds that such an answer waits for a new one, unless the last look-up has failed."""
LOOKUP_BOUND: Final = 5.0
"""Seconds that one look-up may take."""
MOST_NAMES: Final = 256
"""Names that are remembered; beyond it the one that was not used for longest is forgotten."""


class _Entry:
    """What is known of a name."""

    __slots__ = ("addresses", "asking", "failed_until", "failure", "found_at", "ordered", "turn", "until")

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ()
        self.ordered = True
        self.found_at = self.until = self.failed_until = float("-inf")
        self.failure: LookupFailed | None = None
        """The last look-up's."""
        self.asking: asyncio.Task[None] | None = None
        self.turn = 0


class NameCache:
    """The addresses of names. Use from one event loop.

    :param ask: looks a name up, once.
    :param clock: monotonic seconds; None: the loop's.
    """

    def __init__(
        self,
        ask: Callable[[str], Awaitable[NameAnswer]] = ask_system,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._ask = ask
        self._now = clock or asyncio.get_running_loop().time
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    @property
    def remembered(self) -> int:
        """Names that are remembered."""
        return len(self._entries)

    async def find(self, host: str) -> tuple[str, ...]:
        """The addresses in the order in which to try them, at least one. Takes :data:`LOOKUP_BOUND` at most.

        :raises LookupFailed: there are none, or none is known and no resolver answers.
        """
        if (literal := ip_address(host)) is not None:
            return (literal,)
        entry = self._entry(host)
        now = self._now()
        if now < entry.until:
            if now >= entry.until - (1 - RENEW_AT) * (entry.until - entry.found_at) and now >= entry.failed_until:
                self._look_up(host, entry)
        elif now >= entry.failed_until:
            asking = self._look_up(host, entry)
            if not self._usable(entry):
                await asyncio.wait({asking})
            elif entry.failure is None:
                await asyncio.wait({asking}, timeout=STALE_AFTER)
        if self._usable(entry):
            return self._in_turn(entry)
        failure = entry.failure or LookupFailed("the look-up was given up")
        raise type(failure)(str(failure)) from failure

    async def renew(self, host: str, known: tuple[str, ...]) -> tuple[str, ...]:
        """None of the addresses that :meth:`find` gave answers as it should: those that there are now beside them.

        Looks the name up if that wasn't just done. Empty: there are no others.
        """
        if ip_address(host) is not None:
            return ()
        entry = self._entry(host)
        now = self._now()
        if now >= max(entry.found_at + SHORTEST_TTL, entry.failed_until):
            await asyncio.wait({self._look_up(host, entry)})
        return tuple(address for address in self._in_turn(entry) if address not in known)

    def close(self) -> None:
        """Stop looking up."""
        for entry in self._entries.values():
            if entry.asking is not None:
                entry.asking.cancel()

    def _entry(self, host: str) -> _Entry:
        entry = self._entries.get(host)
        if entry is None:
            entry = self._entries[host] = _Entry()
            if len(self._entries) > MOST_NAMES:
                self._entries.popitem(last=False)
        self._entries.move_to_end(host)
        return entry

    def _usable(self, entry: _Entry) -> bool:
        return bool(entry.addresses) and self._now() < entry.until + STALE

    def _in_turn(self, entry: _Entry) -> tuple[str, ...]:
        """Each time another address first, of those that have no order of their own."""
        if entry.ordered or len(entry.addresses) < 2:
            return entry.addresses
        entry.turn = (entry.turn + 1) % len(entry.addresses)
        return entry.addresses[entry.turn :] + entry.addresses[: entry.turn]

    def _look_up(self, host: str, entry: _Entry) -> asyncio.Task[None]:
        if entry.asking is None:
            entry.asking = asyncio.ensure_future(self._ask_once(host, entry))
        return entry.asking

    async def _ask_once(self, host: str, entry: _Entry) -> None:
        try:
            async with asyncio.timeout(LOOKUP_BOUND):
                answer = await self._ask(host)
        except TimeoutError:
            self._failed(host, entry, LookupFailed(f"no answer within {LOOKUP_BOUND:g} s"))
        except LookupFailed as exc:
            self._failed(host, entry, exc)
        except Exception as exc:
            # Any fault of a resolver: the callers that wait must get it.
            _log.exception("name.failed", name=host)
            self._failed(host, entry, LookupFailed(repr(exc)))
        else:
            if entry.failure is not None:
                _log.info("name.found", name=host, addresses=list(answer.addresses))
            entry.failure = None
            entry.addresses, entry.ordered = answer.addresses, answer.ordered
            entry.found_at = self._now()
            entry.until = entry.found_at + min(max(answer.ttl, SHORTEST_TTL), LONGEST_TTL)
            entry.failed_until = float("-inf")
        finally:
            entry.asking = None

    def _failed(self, host: str, entry: _Entry, failure: LookupFailed) -> None:
        if isinstance(failure, NoAddress):
            # An answer, too.
            entry.addresses = ()
            entry.until = float("-inf")
        if entry.failure is None:
            _log.warning("name.failed", name=host, reason=str(failure), known=list(entry.addresses))
        entry.failure = failure
        entry.failed_until = self._now() + FAILURE_TTL
