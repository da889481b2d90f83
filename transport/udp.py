"""Sockets, clock and loop around an engine: the only place where datagrams meet asyncio.

One endpoint drives one engine over any number of UDP sockets. A *turn* takes what has arrived, lets due timers run,
hands the engine's events to ``on_events`` and sends what is to be sent. UDP_GRO and UDP_SEGMENT move up to 64
datagrams with one system call where the kernel has them. Counterparts: :mod:`spnhub.transport.engine`, and
:mod:`spnhub.transport.system.pktinfo` for the address that an answer leaves from.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from spnhub.events.faults import OnFault, log_fault
from spnhub.transport.engine import (
    Address,
    Connected,
    DatagramsDropped,
    Engine,
    EngineEvent,
    HandshakeRefused,
    Transmit,
)
from spnhub.transport.system.ip import socket_address
from spnhub.transport.system.pktinfo import OwnAddresses

__all__ = ["UdpEndpoint", "UdpSocket", "is_port_closed", "is_too_large"]

_log = logging.getLogger(__name__)

_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PROBE: Final = 3
"""Never fragment, and take no router's word for what the path carries: the engine finds out (RFC 9000 section 14)."""
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
_MSG_ERRQUEUE: Final = 0x2000
_EXTENDED_ERROR: Final = struct.Struct("=IBBBxII")
"""``struct sock_extended_err``: error number, origin, ICMP type, code; then the reporting host (``SO_EE_OFFENDER``)."""
_PORT_UNREACHABLE: Final = frozenset({(2, 3, 3), (3, 1, 4)})
"""Origin, type and code of ICMP's and ICMPv6's."""
_ANCILLARY: Final = 128
"""Bytes for what the kernel reports with a datagram: the local address, and the size of joined datagrams."""
_NO_SEGMENTATION: Final = frozenset({errno.EIO, errno.EINVAL, errno.EMSGSIZE})
"""Errors of a path that can't take joined datagrams: a small MTU (also one that a router reported), a device without
checksums, IPsec."""
_BUFFER: Final = 4 * 1024 * 1024
"""Socket buffers asked for, in bytes; the default (208 KiB) drops bursts."""
_BATCH: Final = 128
"""Datagrams taken from a socket in one turn, some milliseconds' worth, so that no socket starves the loop."""
BACKLOG: Final = 4096
"""The most transmits that wait for a full socket; beyond it the oldest are dropped and counted; QUIC repeats them."""
_AFTER_FAULT: Final = 0.1
"""Seconds to the next turn where nobody could say when it is due."""
_ABSENCE: Final = 0.05
"""Seconds since all sockets were read, after which a due timer has them read first: the process was away."""
_CATCH_UP: Final = 4096
"""Datagrams taken from a socket then, :data:`_BATCH` in a turn: about what a socket buffer holds of usual ones."""
_CATCH_UP_TIME: Final = 0.5
"""Seconds for which timers wait for that, where what comes costs so much."""
_ROUNDS: Final = 8
"""How often a turn goes on when handling events brought new ones; the rest waits for the next turn."""
SHARE: Final = 0.33
"""CPU time of this thread for handshakes and what they lead to, for each second of everything else while there is
something else."""
_HANDSHAKES: Final = 0.02
"""Seconds of it in one turn, at most: what an established session waits for it."""


class UdpSocket:
    """One UDP socket."""

    __slots__ = ("backlog", "connected", "index", "listening", "own", "segments", "sock", "writing")

    def __init__(self, index: int, sock: socket.socket, connected: bool) -> None:
        self.index = index
        self.sock = sock
        self.connected = connected
        self.listening = False
        self.own = OwnAddresses(sock)
        self.segments = _has_segmentation(sock)
        self.backlog: deque[Transmit] = deque(maxlen=BACKLOG)
        self.writing = False


class UdpEndpoint:
    """Drives an engine.

    :param engine: what to drive.
    :param on_events: called with each batch of the engine's events; may use the engine.
    :param extra_timer: another source of due times (the actors'), looked at with the engine's.
    :param on_fault: called with what the engine or ``on_events`` raise; the rest of the turn follows all the same, so
        that what others have to send is sent.
    """

    def __init__(
        self,
        engine: Engine,
        on_events: Callable[[list[EngineEvent]], None],
        extra_timer: Callable[[], float | None] = lambda: None,
        on_fault: OnFault = log_fault,
    ) -> None:
        self.engine = engine
        self._on_events = on_events
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[int, UdpSocket] = {}
        self._next_index = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        """When the timer fires: never after the next turn is due, often before, since most turns put that off."""
        self._due: float | None = None
        """When the next turn is due."""
        self._extra_due: float | None = None
        """What the extra timer has said at the end of the last turn."""
        self._extra_unknown = True
        """It may say something else by now."""
        self._asked = True
        """Something was done outside of ``on_events`` that it may have to see."""
        self._scheduled: asyncio.Handle | None = None
        self._in_turn = False
        self._closed = False
        self._read_all_at = self._loop.time()
        self._catching_up: tuple[float, int] | None = None
        """Until when what has come is read before timers run, and how many datagrams of a socket are left of it."""
        self._handshakes_until = 0.0
        """CPU time of the thread when handshakes had their last step."""
        self._handshakes_led_to = 0.0
        """CPU time since then for what came of them: sessions that begin, refusals that are told."""
        self._handshakes_owe = 0.0
        """CPU time that this took beyond their share before that: 0 or less."""
        self._dropped = 0
        """Transmits dropped since they were last reported."""
        self._extra_timer = extra_timer
        self._on_fault = on_fault

    # ---- sockets -----------------------------------------------------------------------------------------------

    @property
    def sockets(self) -> tuple[UdpSocket, ...]:
        """Those that are open."""
        return tuple(self._sockets.values())

    def now(self) -> float:
        """Monotonic seconds."""
        return self._loop.time()

    async def open_server_socket(self, local: tuple[str, int]) -> Address:
        """Bind a socket to an IP address; the address that it got. Datagrams are taken only after :meth:`start`.

        Beside another of this endpoint's on the same port (one bound to all addresses, say) it may stand; it then gets
        what is meant for its address.

        :raises OSError: it can't be bound.
        """
        family, sockaddr = socket_address(*local)
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            self._bind(sock, sockaddr)
            return self._adopt(sock, connected=False)
        except OSError:
            sock.close()
            raise

    def _bind(self, sock: socket.socket, sockaddr: tuple[Any, ...]) -> None:
        # Only for this moment: a socket with SO_REUSEADDR would let another process take its datagrams.
        port = sockaddr[1]
        beside = [
            one.sock for one in self._sockets.values() if not one.connected and one.sock.getsockname()[1] == port != 0
        ]
        for each in (sock, *beside) if beside else ():
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(sockaddr)
        finally:
            for each in (sock, *beside) if beside else ():
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)

    async def open_client_socket(self, remote: tuple[str, int]) -> Address:
        """A socket connected to ``remote``, an IP address and a port.

        :raises OSError: it is no IP address, or there is no route.
        """
        family, sockaddr = socket_address(*remote)
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect(sockaddr)
        except OSError:
            sock.close()
            raise
        address = self._adopt(sock, connected=True)
        try:
            self._listen(self._sockets[address.local])
        except OSError:
            self.release(address)
            raise
        return Address(address.local, sockaddr)

    def start(self) -> None:
        """Take datagrams on every server socket (R-6.3); again after others were opened."""
        for entry in self._sockets.values():
            if not entry.connected:
                self._listen(entry)

    def local_address(self, address: Address) -> tuple[Any, ...]:
        """What the socket of ``address`` is bound to."""
        return tuple(self._sockets[address.local].sock.getsockname())

    def release(self, address: Address) -> None:
        """Close the socket of ``address``."""
        entry = self._sockets.pop(address.local, None)
        if entry is not None:
            self._loop.remove_reader(entry.sock)
            self._loop.remove_writer(entry.sock)
            entry.sock.close()

    async def close(self) -> None:
        """Send what is left (close packets), then close every socket. There is no further turn."""
        if self._sockets:
            self.turn()
        self._closed = True
        for handle in (self._timer, self._scheduled):
            if handle is not None:
                handle.cancel()
        self._timer = self._scheduled = None
        for index in list(self._sockets):
            self.release(Address(index, ()))

    def _adopt(self, sock: socket.socket, *, connected: bool) -> Address:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_UDP, _UDP_GRO, 1)
        with contextlib.suppress(OSError):
            # Of an IPv6 socket it is about peers with IPv4.
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PROBE)
        if sock.family == socket.AF_INET6:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PROBE)
        if not connected:
            # A connected socket reports port unreachable by itself; this one only through its error queue (D-20).
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            if sock.family == socket.AF_INET6:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        index = self._next_index
        self._next_index += 1
        self._sockets[index] = UdpSocket(index, sock, connected)
        return Address(index, tuple(sock.getsockname()))

    def _listen(self, entry: UdpSocket) -> None:
        entry.listening = True
        self._loop.add_reader(entry.sock, self.on_readable, entry)

    # ---- the turn ----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """After the engine was used outside of ``on_events``, or what that handles has changed: have a turn soon."""
        self._asked = True
        self.transmit_soon()

    def transmit_soon(self) -> None:
        """Have a turn soon, since the engine has something to send. Nothing else is new."""
        if self._scheduled is None and not self._in_turn and not self._closed:
            self._scheduled = self._loop.call_soon(self._turn)

    def turn(self) -> None:
        """Let the engine and ``on_events`` do what is due, and send what the engine has to send."""
        self._asked = True
        self._turn()

    def _turn(self) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        if self._closed:
            return
        self._in_turn = True
        engine = self.engine
        try:
            now = self._loop.time()
            shaken = False
            try:
                shaken = self._begin_turn(now)
            except Exception as fault:
                self._on_fault("udp", fault)
            for turn in range(_ROUNDS):
                events: list[EngineEvent] = []
                try:
                    events = engine.events()
                except Exception as fault:
                    self._on_fault("udp", fault)
                if self._dropped:
                    events.append(DatagramsDropped(BACKLOG, self._dropped))
                    self._dropped = 0
                # Sending makes room, and room may be an event; mostly there is none.
                if turn and not events:
                    break
                # A datagram that only acknowledges is no news: half of those of a connection that comes and goes.
                if events or self._asked or (self._extra_due is not None and self._extra_due <= now):
                    self._handle(events, shaken=shaken and not turn)
                self._transmit(now)
            else:
                self._scheduled = self._loop.call_soon(self._turn)
        finally:
            # Whatever was raised, there is a next turn.
            self._in_turn = False
            self._arm()

    def _handle(self, events: list[EngineEvent], *, shaken: bool) -> None:
        self._asked = False
        self._extra_unknown = True
        try:
            if shaken:
                self._charge_handshakes(events)
            else:
                self._on_events(events)
        except Exception as fault:
            self._on_fault("udp", fault)

    def _begin_turn(self, now: float) -> bool:
        """What is due; tells whether handshakes had a step."""
        engine = self.engine
        due = engine.timer()
        if due is not None and due <= now:
            if self._catching_up is not None or now - self._read_all_at > _ABSENCE:
                self._catch_up(now)
            if self._catching_up is None:
                engine.handle_timer(now)
        shaken = engine.shake_hands(now)
        if shaken:
            self._shake_hands(now)
        return shaken

    def _transmit(self, now: float) -> None:
        try:
            for transmit in self.engine.transmit(now):
                self.send(transmit)
        except Exception as fault:
            self._on_fault("udp", fault)

    def _shake_hands(self, now: float) -> None:
        """Handshakes get a share of what everything else in this thread has taken since they had one (D-33)."""
        began = time.thread_time()
        others = began - self._handshakes_until - self._handshakes_led_to
        left = self._handshakes_owe + others * SHARE - self._handshakes_led_to
        while time.thread_time() < began + min(left, _HANDSHAKES) and self.engine.shake_hands(now):
            pass
        # What was dear once, or while nothing else was to do, is forgiven.
        self._handshakes_owe = max(min(left, 0.0), -_HANDSHAKES)
        self._handshakes_led_to = 0.0
        self._handshakes_until = time.thread_time()

    def _charge_handshakes(self, events: list[EngineEvent]) -> None:
        """To admit a session, or to record a refusal, costs more than a native handshake; their share pays for it."""
        began = time.thread_time()
        try:
            self._on_events(events)
        finally:
            of_handshakes = sum(isinstance(event, Connected | HandshakeRefused) for event in events)
            if of_handshakes:
                self._handshakes_led_to += (time.thread_time() - began) * of_handshakes / len(events)

    def _arm(self) -> None:
        try:
            if self._extra_unknown:
                self._extra_due = self._extra_timer()
                self._extra_unknown = False
            engine, extra = self.engine.timer(), self._extra_due
            self._due = engine if extra is None or (engine is not None and engine <= extra) else extra
        except Exception as fault:
            self._on_fault("udp", fault)
            self._due, self._asked = self._loop.time() + _AFTER_FAULT, True
        self._set_timer()

    def _set_timer(self) -> None:
        """See that the loop calls in time; if it calls too early, this is done again."""
        due = self._due
        if self._timer is not None:
            if self._timer_at is not None and due is not None and self._timer_at <= due:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer_at = due
            self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._due is not None and self._due > self._loop.time():
            self._set_timer()
        else:
            self._turn()

    # ---- in ----------------------------------------------------------------------------------------------------

    def on_readable(self, entry: UdpSocket) -> None:
        """Take what has come in on one socket, and have a turn."""
        try:
            self._read(entry, self._loop.time(), _BATCH)
        finally:
            self._turn()

    def _catch_up(self, now: float) -> None:
        """Take what has come in on any socket: a process that was stopped for a while must not find others silent.

        A batch in each turn, so that what the others in it have to say is handled, too.
        """
        until, left = self._catching_up or (now + _CATCH_UP_TIME, _CATCH_UP)
        more = False
        for entry in list(self._sockets.values()):
            if entry.listening and self._read(entry, now, _BATCH) >= _BATCH:
                more = True
        left -= _BATCH
        if more and left > 0 and now < until:
            self._catching_up = until, left
        else:
            self._catching_up = None
            self._read_all_at = self._loop.time()

    def _read(self, entry: UdpSocket, now: float, limit: int) -> int:
        """Take datagrams from a socket until it is empty, or so many: how many they were."""
        engine = self.engine
        receive = entry.sock.recvmsg
        own_address = entry.own.of
        taken = 0
        while taken < limit:
            try:
                data, ancillary, _, remote = receive(65_535, _ANCILLARY)
            except (BlockingIOError, InterruptedError):
                if not taken and not entry.connected:
                    self._read_error_queue(entry, now)
                break
            except OSError as exc:
                self._on_socket_error(entry, exc, now)
                taken += 1
                continue
            size, own = 0, b""
            for _, kind, value in ancillary:
                # Nothing else was asked for.
                if kind == _UDP_GRO:
                    size = struct.unpack("i", value[:4])[0]
                else:
                    own = own_address(value)
            taken += -(-len(data) // size) if size else 1
            if entry.connected:
                remote = entry.sock.getpeername() if remote is None else remote
            try:
                engine.receive(data, Address(entry.index, remote, own), size, now)
            except Exception as fault:
                self._on_fault("udp", fault)
        return taken

    def _on_socket_error(self, entry: UdpSocket, exc: OSError, now: float) -> None:
        """ICMP errors come back as errors of the next call on the socket."""
        if entry.connected:
            if exc.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH):
                with contextlib.suppress(OSError):
                    self.engine.unreachable(Address(entry.index, entry.sock.getpeername()), now)
            return
        self._read_error_queue(entry, now)

    def _read_error_queue(self, entry: UdpSocket, now: float) -> None:
        """Read the error queue, which has the peer of each ICMP error; an entry left there wakes the loop for ever."""
        for _ in range(_BATCH):
            try:
                _, ancillary, _, remote = entry.sock.recvmsg(0, 512, _MSG_ERRQUEUE)
            except OSError:
                return
            if remote and not any(is_too_large(kind, value) for _, kind, value in ancillary):
                info = [value for level, kind, value in ancillary if (level, kind) == (entry.own.level, entry.own.kind)]
                own = entry.own.of(info[0]) if info else b""
                port_closed = any(is_port_closed(kind, value, remote[0]) for _, kind, value in ancillary)
                self.engine.unreachable(Address(entry.index, remote, own), now, port_closed=port_closed)

    # ---- out ---------------------------------------------------------------------------------------------------

    def send(self, transmit: Transmit) -> None:
        """Hand datagrams to their socket; what a full one doesn't take waits."""
        entry = self._sockets.get(transmit.address.local)
        if entry is None:
            return
        if entry.backlog or not self._send_now(entry, transmit):
            # Of a deque that is full the oldest goes: what comes last is what its receiver still needs.
            self._dropped += len(entry.backlog) == BACKLOG
            entry.backlog.append(transmit)
            if not entry.writing:
                entry.writing = True
                self._loop.add_writer(entry.sock, self._on_writable, entry)

    def _on_writable(self, entry: UdpSocket) -> None:
        while entry.backlog:
            if not self._send_now(entry, entry.backlog[0]):
                return
            entry.backlog.popleft()
        entry.writing = False
        self._loop.remove_writer(entry.sock)

    def _send_now(self, entry: UdpSocket, transmit: Transmit, *, again: bool = False) -> bool:
        """False: the socket is full. Anything else that goes wrong is a lost datagram, which QUIC repeats.

        Also where our own address is gone: others are answered from theirs.
        """
        data, address, size = transmit
        try:
            if not size:
                self._send_one(entry, data, address)
            elif entry.segments:
                self._send_joined(entry, transmit)
            else:
                self._send_pieces(entry, transmit)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as exc:
            if exc.errno != errno.ENOBUFS:
                self._on_socket_error(entry, exc, self._loop.time())
                if not (entry.connected or again):
                    # An ICMP error about any peer comes back from whichever call is next.
                    return self._send_now(entry, transmit, again=True)
        return True

    def _send_one(self, entry: UdpSocket, data: bytes, address: Address) -> None:
        if entry.connected:
            entry.sock.send(data)
        elif address.own:
            entry.sock.sendmsg((data,), ((entry.own.level, entry.own.kind, address.own),), 0, address.remote)
        else:
            entry.sock.sendto(data, address.remote)

    def _send_joined(self, entry: UdpSocket, transmit: Transmit) -> None:
        data, address, size = transmit
        ancillary = [(socket.SOL_UDP, _UDP_SEGMENT, struct.pack("H", size))]
        if address.own:
            ancillary.append((entry.own.level, entry.own.kind, address.own))
        try:
            if entry.connected:
                entry.sock.sendmsg((data,), ancillary)
            else:
                entry.sock.sendmsg((data,), ancillary, 0, address.remote)
        except OSError as exc:
            if exc.errno not in _NO_SEGMENTATION:
                raise
            # This path's matter alone, and it may pass: the socket's others go on with joined datagrams. The call in
            # vain costs little beside the pieces.
            self._send_pieces(entry, transmit)

    def _send_pieces(self, entry: UdpSocket, transmit: Transmit) -> None:
        data, address, size = transmit
        for start in range(0, len(data), size):
            try:
                self._send_one(entry, data[start : start + size], address)
            except OSError as exc:
                # The last one is shorter: it may pass where the others are too large.
                if exc.errno != errno.EMSGSIZE:
                    raise


def _has_segmentation(sock: socket.socket) -> bool:
    """Whether the kernel has UDP_SEGMENT (Linux 4.18)."""
    try:
        sock.getsockopt(socket.SOL_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True


def is_too_large(kind: int, error: bytes) -> bool:
    """Whether an entry of the error queue is about a datagram's size, be it our own interface or a router that says so.

    Then it says nothing about who lives: a probe for the path's MTU was too large, and counts as lost.
    """
    if kind not in {_IP_RECVERR, _IPV6_RECVERR} or len(error) < _EXTENDED_ERROR.size:
        return False
    return int(_EXTENDED_ERROR.unpack_from(error)[0]) == errno.EMSGSIZE


def is_port_closed(kind: int, error: bytes, host: str) -> bool:
    """Whether an entry of the error queue is ``host``'s own report that a port of it is closed.

    Only that host knows; a router or firewall that reports it may just not let us through.
    """
    if kind not in {_IP_RECVERR, _IPV6_RECVERR} or len(error) < _EXTENDED_ERROR.size + 8:
        return False
    _, origin, icmp_type, icmp_code, _, _ = _EXTENDED_ERROR.unpack_from(error)
    if (origin, icmp_type, icmp_code) not in _PORT_UNREACHABLE:
        return False
    offender = error[_EXTENDED_ERROR.size :]
    (family,) = struct.unpack_from("=H", offender)
    if family not in {socket.AF_INET, socket.AF_INET6}:
        return False
    packed = offender[4:8] if family == socket.AF_INET else offender[8:24]
    try:
        return packed == socket.inet_pton(family, host.partition("%")[0])
    except OSError:
        return False
