"""What an endpoint has to do: at once, in the order in which it was asked for, and when its time has come. Sans-I/O.

A turn is one call of :class:`spnhub.transport.endpoint.core.endpoint.EndpointCore` by its owner. Whatever is asked for
in a turn is done before it ends; what is asked for outside of one wakes the owner, who then makes one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from spnhub.transport.endpoint.kernel.acks import AckBook
from spnhub.transport.endpoint.kernel.deadlines import DeadlineOwner, Deadlines

__all__ = ["Turns"]


class Turns:
    """Calls, acknowledgements and deadlines.

    :param wake: let there be a turn soon.
    :param on_fault: takes what one of them raised, and whose it was; the others have theirs.
    """

    def __init__(self, wake: Callable[[], None], on_fault: Callable[[object, BaseException], None]) -> None:
        self._wake = wake
        self._on_fault = on_fault
        self._deadlines = Deadlines()
        self._calls: deque[Callable[[], None]] = deque()
        self._books: dict[AckBook, None] = {}
        self._running = False

    def touch(self) -> None:
        """Something was asked for, of this or of the engine."""
        if not self._running:
            self._wake()

    def call(self, function: Callable[[], None]) -> None:
        """Call it later in this turn, after everything that was asked for before."""
        self._calls.append(function)
        self.touch()

    def arm(self, owner: DeadlineOwner, when: float | None) -> None:
        """One deadline per owner; None: none."""
        self._deadlines.set(owner, when)
        if when is not None:
            self.touch()

    def flush(self, book: AckBook) -> None:
        """Send its acknowledgements at the end of this turn."""
        self._books[book] = None
        self.touch()

    def next(self) -> float | None:
        """When a turn is due; None: not at all."""
        return self._deadlines.next()

    def begin(self) -> None:
        """A turn begins. :meth:`settle` must follow."""
        self._running = True

    def run_due(self, now: float) -> None:
        """Whose time has come."""
        for owner in self._deadlines.due(now):
            try:
                owner.on_deadline()
            except Exception as fault:
                self._on_fault(owner, fault)

    def settle(self) -> None:
        """The end of a turn: everybody has heard, and acknowledgements are on their way."""
        self._running = True
        try:
            while self._calls or self._books:
                while self._calls:
                    call = self._calls.popleft()
                    try:
                        call()
                    except Exception as fault:
                        # A method's owner is its object.
                        self._on_fault(getattr(call, "__self__", None), fault)
                books, self._books = self._books, {}
                for book in books:
                    try:
                        book.flush()
                    except Exception as fault:
                        self._on_fault(book, fault)
        finally:
            self._running = False
