"""The hub's sockets and the identities that it has on them: prepared beside the live ones, then swapped (D-31).

A reload binds new addresses first, so that a port that isn't available changes nothing. A socket whose address is no
longer in the inventory stays for the sessions that came in on it, without answering new clients, and is closed when
these have ended.
Counterparts: :mod:`spnhub.hub_process.reload`, :mod:`spnhub.transport.udp`.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from typing import Final

import structlog

from spnhub.actors.contract.definitions import RealmDefinition
from spnhub.dataclass import dataclass
from spnhub.inventory import Inventory, InventoryFault, ListenAddress
from spnhub.transport.engine import Address, ClientTrust, Engine, ServerIdentity, ServerPolicy
from spnhub.transport.hub import HubServer, Network
from spnhub.transport.hub.rates import RealmRates
from spnhub.transport.udp import UdpEndpoint

__all__ = ["CannotListen", "Listeners", "Prepared"]

_log = structlog.get_logger("spnhub.hub")

_SWEEP: Final = 1.0
"""Seconds between looks at sockets that are to go; also what a close packet has to be repeated in (D-19)."""


class CannotListen(Exception):
    """An address can't be bound, or an identity can't be used; nothing has changed."""

    def __init__(self, faults: tuple[InventoryFault, ...]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Prepared:
    """What :meth:`Listeners.commit` makes true."""

    sockets: Mapping[ListenAddress, Address]
    opened: tuple[Address, ...]
    identities: Mapping[int, Mapping[str, ServerIdentity]]
    networks: Mapping[tuple[int, str], Network]
    authorities: Mapping[str, ClientTrust]
    rates: Mapping[str, RealmRates]
    realms: tuple[RealmDefinition, ...]


class Listeners:
    """The server sockets of one hub process."""

    def __init__(self, engine: Engine, endpoint: UdpEndpoint, server: HubServer) -> None:
        self._engine = engine
        self._endpoint = endpoint
        self._server = server
        self._sockets: dict[ListenAddress, Address] = {}
        self._leaving: dict[ListenAddress, Address] = {}
        """Sockets that only live for the sessions they have."""
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where QUIC packets are taken."""
        return tuple((address.remote[0], address.remote[1]) for address in self._sockets.values())

    async def prepare(self, inventory: Inventory) -> Prepared:
        """Bind new addresses and parse new certificates, without any effect yet.

        :raises CannotListen: an address can't be bound; nothing has changed.
        """
        faults = await asyncio.to_thread(_check, self._engine, inventory)
        if faults:
            raise CannotListen(faults)
        sockets: dict[ListenAddress, Address] = {}
        opened: list[Address] = []
        identities: dict[int, dict[str, ServerIdentity]] = {}
        networks: dict[tuple[int, str], Network] = {}
        try:
            for one in inventory.listening:
                where = one.address
                if where.host == "::":
                    where = ListenAddress(None, where.port)
                if where not in sockets:
                    known = self._sockets.get(where) or self._leaving.get(where)
                    sockets[where] = known or await self._open(where, one.network_urn, opened)
                local = sockets[where].local
                identities.setdefault(local, {})[one.fqdn] = one.identity
                networks[local, one.fqdn] = Network(one.realm, one.network_urn)
        except BaseException:  # a cancelled reload, too, leaves no socket behind
            self._release(opened)
            raise
        authorities = {one.network_urn: one.identity.trust for one in inventory.listening}
        rates = {realm.name: RealmRates.of(realm) for realm in inventory.realms}
        return Prepared(sockets, tuple(opened), identities, networks, authorities, rates, tuple(inventory.realms))

    async def _open(self, where: ListenAddress, network_urn: str, opened: list[Address]) -> Address:
        # One socket takes IPv6 and IPv4; a host without IPv6 gets one for IPv4.
        candidates = ("::", "0.0.0.0") if where.host is None else (where.host,)  # noqa: S104 - the inventory's default
        for candidate in candidates:
            try:
                address = await self._endpoint.open_server_socket((candidate, where.port))
            except OSError as exc:
                if candidate is candidates[-1] or exc.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    shown = ListenAddress(candidate, where.port)
                    reason = f"cannot bind {shown}: {exc.strerror or exc}"
                    raise CannotListen((InventoryFault(network_urn, "", reason),)) from exc
            else:
                opened.append(address)
                return address
        raise AssertionError("the last candidate returns or raises")

    def abandon(self, prepared: Prepared) -> None:
        """Undo :meth:`prepare`."""
        self._release(prepared.opened)

    def commit(self, prepared: Prepared) -> None:
        """Put what was prepared in force. Sockets that were opened take packets after :meth:`start`."""
        left = {where: address for where, address in self._sockets.items() if where not in prepared.sockets}
        self._leaving |= left
        for where in prepared.sockets:
            self._leaving.pop(where, None)
        self._sockets = dict(prepared.sockets)
        # Without an entry of its own a socket would serve the identities of all.
        none: dict[int, Mapping[str, ServerIdentity]] = {address.local: {} for address in self._leaving.values()}
        self._engine.set_policy(ServerPolicy({}, none | dict(prepared.identities)))
        self._server.set_networks(prepared.networks, prepared.authorities, prepared.rates, prepared.realms)
        for where in left:
            _log.info("listening.leaving", address=str(where))
        self._sweep_later()

    def start(self) -> None:
        """Take packets on every socket."""
        self._endpoint.start()

    def close(self) -> None:
        """Stop looking at the sockets; the endpoint closes them."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    def _sweep_later(self) -> None:
        if self._leaving and self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(_SWEEP, self._sweep, frozenset())

    def _sweep(self, idle: frozenset[int]) -> None:
        """Release the sockets that had no session at the last look nor have one now."""
        self._sweeping = None
        still = set()
        for where, address in list(self._leaving.items()):
            if self._server.sessions.on_socket(address.local):
                continue
            if address.local in idle:
                del self._leaving[where]
                self._release((address,))
                _log.info("listening.left", address=str(where))
            else:
                still.add(address.local)
        if self._leaving:
            self._sweeping = asyncio.get_running_loop().call_later(_SWEEP, self._sweep, frozenset(still))

    def _release(self, addresses: list[Address] | tuple[Address, ...]) -> None:
        for address in addresses:
            self._endpoint.release(address)


def _check(engine: Engine, inventory: Inventory) -> tuple[InventoryFault, ...]:
    """Have the engine's identities ready before they are needed beside live traffic."""
    faults = []
    for one in inventory.listening:
        try:
            engine.check_identity(one.identity)
        except ValueError as exc:
            faults.append(InventoryFault(one.network_urn, "", str(exc)))
    return tuple(faults)
