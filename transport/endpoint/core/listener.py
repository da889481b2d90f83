"""What an endpoint's core is made from, and whom it notifies.

Counterparts: :mod:`spnhub.transport.endpoint.core.endpoint`; :mod:`spnhub.transport.endpoint.api.endpoint` is the owner
on asyncio.
"""

from __future__ import annotations

from typing import Literal, Protocol

from spnhub.dataclass import dataclass
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.options import EndpointOptions
from spnhub.transport.endpoint.session.credentials import Credentials
from spnhub.transport.endpoint.session.hub_target import IpAddress, SessionChange
from spnhub.transport.engine import Address
from spnhub.transport.errors import SpnError

__all__ = ["ConnectionChange", "CoreListener", "CoreSettings"]


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """What an endpoint's core is made from."""

    credentials: Credentials
    """At first; :meth:`EndpointCore.renew` brings others."""
    end_point_type: EndPointType
    service_urn: str
    instance_id: str
    weight: int = 100
    software: str = ""
    options: EndpointOptions = EndpointOptions(wait_for_hub=True)


@dataclass(frozen=True, slots=True)
class ConnectionChange:
    """A connection was paused, goes on, or is lost because it could not go on."""

    connection_uid: str
    epoch: int
    kind: Literal["paused", "resumed", "lost"]
    seconds: float
    """Since it was paused."""
    reason: str


class CoreListener(Protocol):
    """The owner of a core. No call of these comes from inside a connection's method, save ``wake``."""

    def wake(self) -> None:
        """Let the core have a turn soon."""

    def dial(self, remote: IpAddress) -> None:
        """Open a socket connected to ``remote``; :meth:`EndpointCore.dialed` or ``dial_failed``, now or later."""

    def local_address(self, local: Address) -> IpAddress:
        """What a socket is bound to."""

    def release(self, local: Address, *, linger: bool = False) -> None:
        """The socket is of no more use, once the last packets have left; ``linger``: it stays open for a while."""

    def on_request(self, connection: Connection) -> None:
        """A consumer wants a connection; ``connection`` wants ``accept`` or ``reject``."""

    def on_session(self, change: SessionChange) -> None:
        """A session's state has changed."""

    def on_connection(self, change: ConnectionChange) -> None:
        """A connection was paused, resumed or lost."""

    def on_failed(self, error: SpnError) -> None:
        """No session is left that a retry could help; or, not being patient, there never was one."""

    def on_changed(self) -> None:
        """Something that is waited for may be so now: a session, the number of connections."""

    def on_fault(self, fault: BaseException) -> None:
        """Something was raised that nothing raises; what it was about has been ended. Called while it is handled."""

    def check_addresses(self) -> None:
        """A hub can't be reached: a DNS check on demand may know why (R-2.6)."""
