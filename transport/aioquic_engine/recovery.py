"""Loss recovery where aioquic's is RFC 9002 to the letter and that costs connections seconds: back-off and reordering.

Counterpart: :mod:`spnhub.transport.aioquic_engine.connection`, which gives each connection a :class:`Recovery`.
``tests/transport/test_aioquic_private.py`` pins what is leaned on here.
"""

from __future__ import annotations

from typing import Final

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
"""Lost packets that are remembered in case they were only late."""


class Recovery(QuicPacketRecovery):
    """Loss recovery of one connection. Made by :meth:`adopt` of the one that aioquic made."""

    _packet_threshold: int
    _time_threshold: float
    _given_up: dict[int, None]

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
        """As aioquic's; learns from what was given up and comes to be acknowledged after all."""
        if self._given_up and space.is_application_data:
            late = [number for number in self._given_up if number in ack_rangeset]
            for number in late:
                del self._given_up[number]
                overtaken = space.largest_acked_packet - number + 1
                self._packet_threshold = min(max(self._packet_threshold, overtaken), MOST_REORDERING)
                self._time_threshold = _REORDERED
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
        if lost and space.is_application_data:
            given_up = self._given_up
            given_up.update((packet.packet_number, None) for packet in lost)
            while len(given_up) > _REMEMBERED:
                del given_up[next(iter(given_up))]
        self._on_packets_lost(
            now=now, packets=lost, persistent_congestion=self._in_persistent_congestion(packets=lost), space=space
        )
