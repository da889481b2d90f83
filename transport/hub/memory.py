"""What sessions may have the hub hold: receive windows under budgets, and a bound of the whole process. Sans-I/O.

A session begins with a small receive window. As soon as more would be of use
(:class:`~spnhub.transport.engine.WindowLow`) it grows, as far as its own bound and those of its identity, its realm
and the process have room; of what is left none takes more than half. Without room its peer waits, as flow control has
it: nothing is lost. While some wait, windows of which little is used shrink once a second.

What is granted isn't all that a hub holds. So while the process has nearly as much memory as it may, no window grows,
and a new session is refused (LIMIT, retryable).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from spnhub.options import option, parse_size
from spnhub.transport.engine import Engine, Limits
from spnhub.transport.hub.rates import Rates

__all__ = ["INITIAL_WINDOW", "LEAST_MEMORY", "Memory", "MemoryLimits"]

INITIAL_WINDOW: Final = 64 * 1024
"""Bytes of a session that nobody has granted more, and that no budget but the process's knows of."""
LEAST_MEMORY: Final = 128 << 20
"""Bytes that a hub needs."""
_LOOK: Final = 0.25
"""Seconds for which a look at the process's memory counts."""
_RETRY: Final = 1.0
"""Seconds until a window that didn't grow is looked at again."""
_memory = partial(option, group="Memory", metavar="BYTES", parse=parse_size)


def _check_memory(size: int) -> None:
    if size < LEAST_MEMORY:
        raise ValueError(f"{size} is below {LEAST_MEMORY >> 20}M")


def _check_part(size: int) -> None:
    if size < INITIAL_WINDOW:
        raise ValueError(f"{size} is below {INITIAL_WINDOW >> 10}K")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimits:
    """Bytes. What isn't set follows from the one above it."""

    memory: int | None = _memory(
        None,
        "The hub's process stays below it: near to it new sessions are refused. 512M, 2G.",
        default_text="what the host or container has",
        check=_check_memory,
    )
    realm_memory: int | None = _memory(
        None,
        "Unread bytes that all sessions of a realm may have the hub hold, if its maxMemory doesn't say it.",
        default_text="a quarter of --memory",
        check=_check_part,
    )
    identity_memory: int | None = _memory(
        None,
        "The same of all sessions with one certificate subject in a realm.",
        default_text="an eighth of --memory",
        check=_check_part,
    )
    session_memory: int | None = _memory(
        None,
        "The same of one session.",
        default_text="a sixteenth of --memory, 72M at most",
        check=_check_part,
    )

    @property
    def nearly_all(self) -> int:
        """Bytes of the process beyond which it has nearly as much as it may; ``memory`` is set."""
        assert self.memory is not None
        return self.memory // 8 * 7

    def of(self, available: int, limits: Limits) -> MemoryLimits:
        """All of them set.

        :param available: bytes of memory of the host or container.
        """
        memory = self.memory or max(available, LEAST_MEMORY)
        session = min(self.session_memory or memory // 16, limits.connection_window)
        return MemoryLimits(
            memory=memory,
            realm_memory=self.realm_memory or memory // 4,
            identity_memory=self.identity_memory or memory // 8,
            session_memory=max(session, INITIAL_WINDOW),
        )


_Scope = tuple[str, ...]
"""The name of a limit, and of whom."""
_PROCESS: Final[_Scope] = ("memory",)


class _Holder:
    """A session's window, and what it counts for beyond the first :data:`INITIAL_WINDOW`."""

    __slots__ = ("extra", "realm", "scopes", "window")

    def __init__(self, realm: str, scopes: tuple[_Scope, ...]) -> None:
        self.realm = realm
        self.scopes = scopes
        self.window = INITIAL_WINDOW
        self.extra = 0


class Memory:
    """The budgets of one hub process.

    :param limits: all of them set (:meth:`MemoryLimits.of`).
    :param resident: bytes of memory that the process has now.
    :param rates: counts what didn't fit.
    """

    def __init__(self, engine: Engine, limits: MemoryLimits, resident: Callable[[], int], rates: Rates) -> None:
        assert limits.memory and limits.realm_memory and limits.identity_memory and limits.session_memory
        self._engine = engine
        self._rates = rates
        self._resident = resident
        self._bound = limits.memory
        self._nearly_all = limits.nearly_all
        self._session_bound = limits.session_memory
        self._most = {
            "memory": limits.memory // 2,
            "realmMemory": limits.realm_memory,
            "identityMemory": limits.identity_memory,
        }
        self._realms: Mapping[str, int] = {}
        """Bytes, in place of those of any realm."""
        self._holders: dict[int, _Holder] = {}
        self._grown: dict[int, None] = {}
        """Those with more than the first window."""
        self._waiting: dict[int, None] = {}
        """Those that didn't get what would be of use."""
        self._used: Counter[_Scope] = Counter()
        """Bytes granted beyond the first windows, by scope."""
        self._looked_at = -_LOOK
        self._is_full = False
        self.due: list[tuple[float]] = []
        """When :meth:`pass_time` has something to do, if ever."""

    def set_realms(self, bounds: Mapping[str, int]) -> None:
        """The realms with a bound of their own, in bytes, in place of ``realm_memory``. Of a smaller one than before
        no credit is taken back; its windows grow no more until it holds less.
        """
        self._realms = bounds

    def counts(self) -> dict[str, int]:
        """Bytes that peers may have the hub hold, sessions, and those that wait for more; all 0 without sessions."""
        return {
            "granted": self._granted(),
            "holders": len(self._holders),
            "waiting": len(self._waiting),
        }

    def begin(self, connection_id: int, realm: str, identity: str, now: float) -> str | None:
        """A session begins; why it can't: there is no memory for it."""
        reason = None
        if self._full(now) or self._granted() + INITIAL_WINDOW > self._most["memory"]:
            self._rates.exceed_limit(realm, "memory", self._bound)
            reason = f"the hub has no memory for more sessions than now ({self._bound} bytes for everything)"
        scopes = (_PROCESS, ("realmMemory", realm), ("identityMemory", realm, identity))
        self._holders[connection_id] = _Holder(realm, scopes)
        return reason

    def end(self, connection_id: int) -> None:
        """It is over."""
        holder = self._holders.pop(connection_id, None)
        if holder is not None:
            self._count(connection_id, holder, 0)
            self._grown.pop(connection_id, None)
            self._waiting.pop(connection_id, None)

    def low(self, connection_id: int, now: float) -> None:
        """More window would be of use to it."""
        holder = self._holders.get(connection_id)
        if holder is None:
            return
        limit, bound = self._grow(connection_id, holder, now)
        if limit:
            self._rates.exceed_limit(holder.realm, limit, bound)
            if limit != "sessionMemory":
                self._waiting[connection_id] = None
                if not self.due:
                    self.due.append((now + _RETRY,))

    def pass_time(self, now: float) -> None:
        """Take back what isn't used while some wait, and give it to these."""
        if not self.due or now < self.due[0][0]:
            return
        self.due.clear()
        for connection_id in list(self._grown):
            self._shrink(connection_id, self._holders[connection_id])
        waiting, self._waiting = self._waiting, {}
        for connection_id in waiting:
            self.low(connection_id, now)

    def _grow(self, connection_id: int, holder: _Holder, now: float) -> tuple[str, int]:
        """Grow a window; or which limit stands against it."""
        window = holder.window
        if window >= self._session_bound:
            return "sessionMemory", self._session_bound
        if self._full(now):
            return "memory", self._bound
        rooms = {scope: self._room(scope) for scope in holder.scopes}
        tightest = min(rooms, key=rooms.__getitem__)
        by = min(window, self._session_bound - window, rooms[tightest] // 2)
        if by < min(window // 4, self._session_bound - window):
            return tightest[0], self._bound if tightest == _PROCESS else self._most_of(tightest)
        holder.window = window + by
        self._engine.set_window(connection_id, holder.window)
        self._count(connection_id, holder, holder.extra + by)
        return "", 0

    def _shrink(self, connection_id: int, holder: _Holder) -> None:
        info = self._engine.info(connection_id)
        if info is None:
            return
        if info.buffered * 4 < holder.window:
            holder.window = max(INITIAL_WINDOW, holder.window // 2)
            self._engine.set_window(connection_id, holder.window)
            info = self._engine.info(connection_id) or info
        # Credit that its peer has counts until it is used up.
        self._count(connection_id, holder, max(info.window, holder.window) - INITIAL_WINDOW)

    def _count(self, connection_id: int, holder: _Holder, extra: int) -> None:
        for scope in holder.scopes:
            self._used[scope] += extra - holder.extra
            if not self._used[scope]:
                del self._used[scope]
        holder.extra = extra
        if extra:
            self._grown[connection_id] = None
        else:
            self._grown.pop(connection_id, None)

    def _room(self, scope: _Scope) -> int:
        used = self._granted() if scope == _PROCESS else self._used[scope]
        return max(self._most_of(scope) - used, 0)

    def _most_of(self, scope: _Scope) -> int:
        name, *whose = scope
        most = self._most[name]
        return self._realms.get(whose[0], most) if name == "realmMemory" else most

    def _granted(self) -> int:
        return self._used[_PROCESS] + len(self._holders) * INITIAL_WINDOW

    def _full(self, now: float) -> bool:
        if now - self._looked_at >= (_RETRY if self._is_full else _LOOK):
            self._looked_at = now
            self._is_full = self._resident() > self._nearly_all
        return self._is_full
