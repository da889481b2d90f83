"""What sessions may have the hub hold: windows under budgets, and a bound of the whole process. Sans-I/O.

A session begins with two small windows: one for what it sends and nobody has taken yet, one for what is sent to it and
it hasn't acknowledged. As soon as more would be of use (:class:`~spnhub.transport.engine.WindowLow`,
:class:`~spnhub.transport.engine.SendWindowLow`) a window grows, as far as the bounds of the session, its identity, its
realm and the process have room; of what is left none takes more than half. Without room it is who sends that waits, as
flow control has it: nothing is lost. While some wait, windows of which little is used shrink once a second.

Control packets that a session doesn't read count, too; without room for these, it ends.

What is granted isn't all that a hub holds. So while the process has nearly as much memory as it may, no window grows,
and a new session is refused (LIMIT, retryable).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import partial
from typing import Final, NamedTuple

from spnhub.dataclass import dataclass
from spnhub.options import option, parse_size
from spnhub.transport.engine import Engine, Limits
from spnhub.transport.hub.rates import Rates

__all__ = ["INITIAL_MEMORY", "INITIAL_SEND_WINDOW", "INITIAL_WINDOW", "LEAST_MEMORY", "Memory", "MemoryLimits"]

INITIAL_WINDOW: Final = 48 * 1024
"""Bytes of what a session sends, while nobody has granted it more."""
INITIAL_SEND_WINDOW: Final = 16 * 1024
"""Bytes of what is sent to it, likewise."""
INITIAL_MEMORY: Final = INITIAL_WINDOW + INITIAL_SEND_WINDOW
"""Bytes of a session that no budget but the process's knows of."""
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
    if size < INITIAL_MEMORY:
        raise ValueError(f"{size} is below {INITIAL_MEMORY >> 10}K")


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
        "Bytes that wait to be read or acknowledged, of all sessions of a realm, if its maxMemory doesn't say it.",
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
            session_memory=max(session, INITIAL_MEMORY),
        )


_Scope = tuple[str, ...]
"""The name of a limit, and of whom."""
_PROCESS: Final[_Scope] = ("memory",)


@dataclass(slots=True, eq=False)
class _Share:
    """What a session holds of one kind."""

    connection_id: int
    realm: str
    scopes: tuple[_Scope, ...]
    extra: int = 0
    """Bytes of it that count in the budgets of all scopes."""


@dataclass(slots=True, eq=False)
class _Window(_Share):
    """One of its windows, which counts beyond its first size."""

    first: int = 0
    sending: bool = False
    """For what is sent to it."""
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = self.first


class _Session(NamedTuple):
    receive: _Window
    send: _Window
    packets: _Share


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
        self._most = {
            "sessionMemory": limits.session_memory - INITIAL_MEMORY,
            "memory": limits.memory // 2,
            "realmMemory": limits.realm_memory,
            "identityMemory": limits.identity_memory,
        }
        self._realms: Mapping[str, int] = {}
        """Bytes, in place of those of any realm."""
        self._session_bound = limits.session_memory
        self._sessions: dict[int, _Session] = {}
        self._grown: dict[_Window, None] = {}
        """Those that are larger than at first."""
        self._waiting: dict[_Window, None] = {}
        """Those for which more would be of use, and there was none."""
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
        """Bytes that peers may have the hub hold, sessions, and windows that wait for more; all 0 without sessions."""
        return {
            "granted": self._granted(),
            "holders": len(self._sessions),
            "waiting": len(self._waiting),
        }

    def begin(self, connection_id: int, realm: str, identity: str, now: float) -> str | None:
        """A session begins; why it can't: there is no memory for it."""
        reason = None
        if self._full(now) or self._granted() + INITIAL_MEMORY > self._most["memory"]:
            self._rates.exceed_limit(realm, "memory", self._bound)
            reason = f"the hub has no memory for more sessions than now ({self._bound} bytes for everything)"
        own = ("sessionMemory", str(connection_id))
        scopes = (own, _PROCESS, ("realmMemory", realm), ("identityMemory", realm, identity))
        self._sessions[connection_id] = _Session(
            _Window(connection_id, realm, scopes, first=INITIAL_WINDOW),
            _Window(connection_id, realm, scopes, first=INITIAL_SEND_WINDOW, sending=True),
            _Share(connection_id, realm, scopes),
        )
        return reason

    def end(self, connection_id: int) -> None:
        """It is over."""
        session = self._sessions.pop(connection_id, None)
        if session is None:
            return
        for share in session:
            self._count(share, 0)
        for window in (session.receive, session.send):
            self._waiting.pop(window, None)

    def low(self, connection_id: int, now: float, *, sending: bool = False) -> None:
        """More window would be of use to it."""
        session = self._sessions.get(connection_id)
        if session is not None:
            self._low(session.send if sending else session.receive, now)

    def hold_packets(self, connection_id: int, size: int, now: float) -> str | None:
        """So many bytes of control packets wait for a session; which limit stands against it, if one does."""
        session = self._sessions.get(connection_id)
        if session is None:
            return None
        share = session.packets
        more = size - share.extra
        limit = self._limit_of(share, more, now) if more > 0 else None
        if limit is not None:
            self._rates.exceed_limit(share.realm, *limit)
            return limit[0]
        self._count(share, size)
        return None

    def pass_time(self, now: float) -> None:
        """Take back what isn't used while some wait, and give it to these."""
        if not self.due or now < self.due[0][0]:
            return
        self.due.clear()
        for window in list(self._grown):
            self._shrink(window)
        waiting, self._waiting = self._waiting, {}
        for window in waiting:
            self._low(window, now)

    def _low(self, window: _Window, now: float) -> None:
        limit = self._grow(window, now)
        if limit is None:
            return
        self._rates.exceed_limit(window.realm, *limit)
        # What the session's own limit stands against may be in its other window.
        if limit[0] != "sessionMemory" or self._used[window.scopes[0]] > window.extra:
            self._waiting[window] = None
            if not self.due:
                self.due.append((now + _RETRY,))

    def _grow(self, window: _Window, now: float) -> tuple[str, int] | None:
        """Let a window grow; or which limit stands against it, and its bound."""
        size, own = window.size, self._room(window.scopes[0])
        if own <= 0:
            return "sessionMemory", self._session_bound
        by = min(size, own, min(map(self._room, window.scopes[1:])) // 2)
        least = min(size // 4, own)
        if by < least or self._full(now):
            return self._limit_of(window, 2 * least, now) or (_PROCESS[0], self._bound)
        window.size = size + by
        self._set(window)
        self._count(window, window.extra + by)
        return None

    def _limit_of(self, share: _Share, more: int, now: float) -> tuple[str, int] | None:
        """Which limit stands against so many more bytes, and its bound."""
        if self._full(now):
            return _PROCESS[0], self._bound
        rooms = {scope: self._room(scope) for scope in share.scopes}
        tightest = min(rooms, key=rooms.__getitem__)
        if more <= rooms[tightest]:
            return None
        bounds = {"memory": self._bound, "sessionMemory": self._session_bound}
        return tightest[0], bounds.get(tightest[0]) or self._most_of(tightest)

    def _shrink(self, window: _Window) -> None:
        info = self._engine.info(window.connection_id)
        if info is None:
            return
        if (info.unacknowledged if window.sending else info.buffered) * 4 < window.size:
            window.size = max(window.first, window.size // 2)
            self._set(window)
            info = self._engine.info(window.connection_id) or info
        # What it holds already, and credit that its peer has, counts until it is used up.
        holds = info.unacknowledged if window.sending else info.window
        self._count(window, max(holds, window.size) - window.first)

    def _set(self, window: _Window) -> None:
        set_window = self._engine.set_send_window if window.sending else self._engine.set_window
        set_window(window.connection_id, window.size)

    def _count(self, share: _Share, extra: int) -> None:
        for scope in share.scopes:
            self._used[scope] += extra - share.extra
            if not self._used[scope]:
                del self._used[scope]
        share.extra = extra
        if isinstance(share, _Window):
            if extra:
                self._grown[share] = None
            else:
                self._grown.pop(share, None)

    def _room(self, scope: _Scope) -> int:
        used = self._granted() if scope == _PROCESS else self._used[scope]
        return max(self._most_of(scope) - used, 0)

    def _most_of(self, scope: _Scope) -> int:
        name, *whose = scope
        most = self._most[name]
        return self._realms.get(whose[0], most) if name == "realmMemory" else most

    def _granted(self) -> int:
        return self._used[_PROCESS] + len(self._sessions) * INITIAL_MEMORY

    def _full(self, now: float) -> bool:
        if now - self._looked_at >= (_RETRY if self._is_full else _LOOK):
            self._looked_at = now
            self._is_full = self._resident() > self._nearly_all
        return self._is_full
