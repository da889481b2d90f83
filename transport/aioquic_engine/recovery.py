"""Loss recovery where aioquic's costs connections seconds, or all of them: back-off, reordering, long round trips.

Counterpart: :mod:`spnhub.transport.aioquic_engine.connection`, which gives each connection a :class:`Recovery`.
``tests/transport/test_aioquic_private.py`` pins what is leaned on here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketRecovery, QuicPacketSpace

__all__ = ["LONGEST_PROBE_INTERVAL", "MOST_REORDERING", "Recovery"]

LONGEST_PROBE_INTERVAL: Final = 1.0
"""Seconds between two probes of a peer that doesn't answer, or one probe timeout where that is more. Doubling without
end (RFC 9002 section 6.2.1) would let a path that was cut for ten seconds wait for almost ten more; the idle timeout
bounds how many probes there are."""
MOST_REORDERING: Final = 20
"""Packets that may overtake another before it counts as lost, at most (RFC 9002 section 6.1.1: adaptive; begins at
3)."""
_REORDERED: Final = 5 / 4
_IN_ORDER: Final = 9 / 8
"""Round trips after which a packet counts as lost when a later one was acknowledged: of a path that was seen to
reorder, and of others (RFC 9002 section 6.1.2)."""
_REMEMBERED: Final = 16
"""Packets that were given up, and are remembered in case they were only late: of each packet number space."""


class _GivenUp(NamedTuple):
    packet: QuicSentPacket
    """What is left of it: what was in it is sent again, and no longer its own."""
    overtaken: bool
    """Later ones were acknowledged; otherwise a probe has taken what was in it."""


class Recovery(QuicPacketRecovery):
    """Loss recovery of one connection. Made by :meth:`adopt` of the one that aioquic made."""

    _packet_threshold: int
    _time_threshold: float
    _given_up: dict[QuicPacketSpace, dict[int, _GivenUp]]

    @classmethod
    def adopt(cls, recovery: QuicPacketRecovery) -> Recovery:
        """Make one's recovery ours; it must not have sent anything yet."""
        recovery.__class__ = cls
        assert isinstance(recovery, cls)
        recovery._packet_threshold = 3
        recovery._time_threshold = _IN_ORDER
        recovery._given_up = {}
        return recovery

    def forget_back_off(self) -> None:
        """There is reason to think that the next probe is answered."""
        self._pto_count = 0

    def on_loss_detection_timeout(self, *, now: float) -> None:
        """As aioquic's, with a bound on the back-off once the handshake is over: a herd of new ones must back off."""
        super().on_loss_detection_timeout(now=now)
        if self.handshake_confirmed:
            timeout = self.get_probe_timeout()
            while self._pto_count and timeout * 2**self._pto_count > LONGEST_PROBE_INTERVAL:
                self._pto_count -= 1

    def on_ack_received(self, *, ack_rangeset: RangeSet, ack_delay: float, now: float, space: QuicPacketSpace) -> None:
        """As aioquic's; learns from what was given up and comes to be acknowledged after all.

        aioquic gives up the oldest packet for each probe, and an acknowledgement of it tells it nothing then. Where
        probes are sent faster than a round trip (the first is thought to be 0.1 s) that went on for ever: no packet
        was acknowledged in time, and the round trip never known.
        """
        if given_up := self._given_up.get(space):
            late = [given_up.pop(number) for number in list(given_up) if number in ack_rangeset]
            if late:
                self._take_back(late, space)
        before = self._rtt_smoothed, self._rtt_variance
        initialized = self._rtt_initialized
        super().on_ack_received(ack_rangeset=ack_rangeset, ack_delay=ack_delay, now=now, space=space)
        if initialized and before != (self._rtt_smoothed, self._rtt_variance):
            # aioquic takes the distance from the shortest round trip ever; that of an hour ago may be far away.
            smoothed, variance = before
            self._rtt_variance = 3 / 4 * variance + 1 / 4 * abs(smoothed - self._rtt_latest)

    def _detect_loss(self, *, now: float, space: QuicPacketSpace) -> None:
        rtt = max(self._rtt_latest, self._rtt_smoothed) if self._rtt_initialized else self._rtt_initial
        delay = self._time_threshold * rtt
        lost: list[QuicSentPacket] = []
        space.loss_time = None
        for number, packet in space.sent_packets.items():
            if number > space.largest_acked_packet:
                break
            assert packet.sent_time is not None
            if number <= space.largest_acked_packet - self._packet_threshold or packet.sent_time <= now - delay:
                lost.append(packet)
            elif space.loss_time is None or packet.sent_time + delay < space.loss_time:
                space.loss_time = packet.sent_time + delay
        self._on_packets_lost(
            now=now, packets=lost, persistent_congestion=self._in_persistent_congestion(packets=lost), space=space
        )

    def _take_back(self, late: list[_GivenUp], space: QuicPacketSpace) -> None:
        """See that packets which were given up are acknowledged like any other, with nothing in them."""
        for packet, overtaken in late:
            if overtaken and space.is_application_data:
                by = space.largest_acked_packet - packet.packet_number + 1
                self._packet_threshold = min(max(self._packet_threshold, by), MOST_REORDERING)
                self._time_threshold = _REORDERED
            space.sent_packets[packet.packet_number] = packet
            space.ack_eliciting_in_flight += packet.is_ack_eliciting
        # aioquic looks for numbers in an order that is theirs.
        space.sent_packets = dict(sorted(space.sent_packets.items()))

    def _on_packets_lost(
        self,
        *,
        congestion_event: bool = True,
        now: float,
        packets: Iterable[QuicSentPacket],
        persistent_congestion: bool = False,
        space: QuicPacketSpace,
    ) -> None:
        packets = list(packets)
        super()._on_packets_lost(
            congestion_event=congestion_event,
            now=now,
            packets=packets,
            persistent_congestion=persistent_congestion,
            space=space,
        )
        if packets:
            given_up = self._given_up.setdefault(space, {})
            for packet in packets[-_REMEMBERED:]:
                packet.delivery_handlers = []
                packet.in_flight = False
                given_up[packet.packet_number] = _GivenUp(packet, congestion_event)
            while len(given_up) > _REMEMBERED:
                del given_up[next(iter(given_up))]
