"""A fault of ours in an endpoint: what it was about ends with INTERNAL, and nothing else. Sans-I/O.

Counterparts: :mod:`spnhub.transport.endpoint.kernel.turns` and :mod:`spnhub.transport.endpoint.core.endpoint` catch
what is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.core.opening import OpeningAttempt
from spnhub.transport.endpoint.kernel.acks import AckBook
from spnhub.transport.endpoint.session.session import Session

__all__ = ["FAULT", "Containment"]

FAULT: Final = "a fault in the endpoint"


class Containment:
    """Called where something was raised, with what raised it.

    :param report: called with each.
    :param sessions: those that there are.
    :param forget: a connection that can't even be ended is to be nowhere any more.
    """

    def __init__(
        self,
        report: Callable[[BaseException], None],
        sessions: Callable[[], Iterable[Session]],
        forget: Callable[[Connection], None],
    ) -> None:
        self._report = report
        self._sessions = sessions
        self._forget = forget

    def __call__(self, owner: object, fault: BaseException) -> None:
        """``owner``: what it is about; whatever is none of the kinds that can end goes on."""
        self._report(fault)
        try:
            if isinstance(owner, Connection):
                owner.cut(Code.INTERNAL, FAULT)
            elif isinstance(owner, OpeningAttempt):
                owner.cancel(Code.INTERNAL)
            elif isinstance(owner, Session):
                owner.break_off(FAULT)
            elif isinstance(owner, AckBook):
                for session in self._sessions():
                    if session.streams.acks is owner:
                        session.break_off(FAULT)
        except Exception as another:
            self._report(another)
            if isinstance(owner, Connection):
                self._forget(owner)
