"""1-RTT keys that are replaced before they have protected too many packets, without the loss of what is under way.

aioquic follows a peer's key update and makes one when it is asked, but never asks by itself: a session that lives for
months would go beyond what AES-GCM allows for one key (RFC 9001 section 6.6). And it drops what was protected with the
keys before, which is all that the peer has under way at that moment. Counterpart:
:mod:`spnhub.transport.aioquic_engine.connection`, which asks. ``tests/transport/test_key_update.py`` fails when what is
leaned on here has changed.
"""

from __future__ import annotations

import copy
from typing import Final

from aioquic._crypto import CryptoError
from aioquic.quic.crypto import CryptoContext, CryptoPair

__all__ = ["KEY_PACKETS", "OneRttKeys"]

KEY_PACKETS: Final = 1 << 22
"""Packets that one key protects: half of what RFC 9001 section 6.6 allows for AES-GCM (appendix B.1: for packets of up
to 2^16 bytes). Some 5 GB."""
LATE: Final = 4096
"""Packets that may overtake one which is protected with the keys before; then these are forgotten (section 6.5)."""


class OneRttKeys(CryptoPair):
    """The 1-RTT keys of one connection. Made by :meth:`adopt` of those that aioquic made."""

    _sent: int
    _first_sent: int
    _first_received: int
    _before: CryptoContext | None

    @classmethod
    def adopt(cls, keys: CryptoPair) -> OneRttKeys:
        """Make a pair ours; it must not have been used yet."""
        keys.__class__ = cls
        assert isinstance(keys, cls)
        keys._sent = 0
        keys._first_sent = keys._first_received = 0
        keys._before = None
        return keys

    def is_spent(self, largest_acknowledged: int) -> bool:
        """Whether to update: enough packets, one of which the peer has acknowledged (RFC 9001 section 6.1)."""
        return self._sent >= KEY_PACKETS and largest_acknowledged >= self._first_sent

    def encrypt_packet(self, plain_header: bytes, plain_payload: bytes, packet_number: int) -> bytes:
        """As aioquic's, counted."""
        protected: bytes = super().encrypt_packet(plain_header, plain_payload, packet_number)
        if not self._sent:
            self._first_sent = packet_number
        self._sent += 1
        return protected

    def decrypt_packet(
        self, packet: bytes, encrypted_offset: int, expected_packet_number: int
    ) -> tuple[bytes, bytes, int]:
        """As aioquic's, and with the keys before, for a while."""
        before = self._before
        try:
            opened: tuple[bytes, bytes, int] = super().decrypt_packet(packet, encrypted_offset, expected_packet_number)
        except CryptoError:
            if before is None:
                raise
            header, payload, number, _ = before.decrypt_packet(packet, encrypted_offset, expected_packet_number)
            return header, payload, number
        if before is not None and before is self._before:
            if not self._first_received:
                self._first_received = opened[2]
            elif opened[2] > self._first_received + LATE:
                self._before = None
        return opened

    def _update_key(self, trigger: str) -> None:
        self._before = copy.copy(self.recv)
        super()._update_key(trigger)
        self._sent = 0
        self._first_received = 0
