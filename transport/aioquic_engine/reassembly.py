"""What came out of order on a stream, and the receiving half that waits for the bytes before it.

aioquic keeps one ``bytearray`` from the first missing byte to the last one that came, and a list of ranges that it
walks for each frame: a peer that sends one byte at the end of a window makes it allocate the window, and one that sends
every other byte makes it compute quadratically. Here what is held is what came; a frame costs a binary search.
``tests/transport/test_aioquic_private.py`` pins what is replaced. Counterpart:
:mod:`spnhub.transport.aioquic_engine.streams`, which gives each stream a :class:`Receiver`.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Final

from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.events import StreamDataReceived, StreamReset
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicStreamFrame
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.stream import FinalSizeError, QuicStreamReceiver

__all__ = ["CRYPTO_GAPS", "CRYPTO_HELD", "FLOOR", "PIECE", "STREAM_GAPS", "Holdings", "NoRoom", "Pieces", "Receiver"]

STREAM_GAPS: Final = 1024
"""Gaps in one stream; full packets have fewer in the largest window, even if every other one is lost. With more, the
connection ends."""
CRYPTO_GAPS: Final = 64
"""Gaps in the TLS messages of one stage of a handshake, which are some dozen packets at most."""
CRYPTO_HELD: Final = 16 * 1024
"""Bytes of TLS messages that wait for those before them where many handshakes are half-open; further ones are repeated
by the peer. That takes long, or too long, if it repeats them in any order, as quinn does; so otherwise all may wait
that a certificate chain has."""
PIECE: Final = 128
"""Bytes that each held piece counts for beside its own: Python's objects around it."""
_SMALL: Final = 2048
"""Neighbours that are no larger together are one piece."""
_SHARE: Final = 4
"""One connection may hold this part of what nobody holds, so that it takes many to use all of it up."""
FLOOR: Final = 16 * 1024
"""Bytes that one may hold even then."""


class NoRoom(Exception):
    """Bytes out of order for which there is no room now: their packet counts as lost, so the peer repeats it."""


class Holdings:
    """Bytes that are held out of order: those of one connection, those of a whole engine above it.

    :param most: the most.
    :param whole: what they are a part of.
    """

    __slots__ = ("held", "most", "whole")

    def __init__(self, most: int, whole: Holdings | None = None) -> None:
        self.most = most
        self.whole = whole
        self.held = 0

    def require(self, size: int) -> None:
        """:raises NoRoom: there is no room for so many more."""
        most, whole = self.most, self.whole
        if whole is not None:
            most = min(most, max(FLOOR, (whole.most - whole.held) // _SHARE))
        if self.held + size > most:
            raise NoRoom

    def change(self, by: int) -> None:
        """So many more are held."""
        self.held += by
        if self.whole is not None:
            self.whole.held += by


class Pieces:
    """Bytes with their offsets, sorted, without overlap. Small neighbours are joined, so that they cost little more
    than their bytes however small the frames were that brought them."""

    __slots__ = ("_pieces", "_starts", "gaps", "size")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._pieces: list[bytes | bytearray] = []
        self.size = 0
        """Bytes that these take, :data:`PIECE` for each piece among them."""
        self.gaps = 0
        """Runs of missing bytes, the one before the first piece included."""

    def add(self, offset: int, data: bytes) -> None:
        """Keep what of these bytes isn't there yet."""
        starts, pieces = self._starts, self._pieces
        end = offset + len(data)
        at = bisect_right(starts, offset)
        have = starts[at - 1] + len(pieces[at - 1]) if at else offset
        missing = []
        while at < len(starts) and starts[at] < end:
            if have < starts[at]:
                missing.append((max(have, offset), starts[at]))
            have = starts[at] + len(pieces[at])
            at += 1
        if max(have, offset) < end:
            missing.append((max(have, offset), end))
        for start, stop in missing:
            self._insert(start, data if stop - start == len(data) else data[start - offset : stop - offset])

    def _insert(self, offset: int, data: bytes) -> None:
        """Add bytes of which none is there yet."""
        starts, pieces = self._starts, self._pieces
        at = bisect_right(starts, offset)
        end = offset + len(data)
        touches_before = at > 0 and starts[at - 1] + len(pieces[at - 1]) == offset
        touches_behind = at < len(starts) and starts[at] == end
        self.gaps += 1 - touches_before - touches_behind
        self.size += len(data)
        if touches_before and len(pieces[at - 1]) + len(data) <= _SMALL:
            at -= 1
            joined = pieces[at]
            if not isinstance(joined, bytearray):
                joined = pieces[at] = bytearray(joined)
            joined += data
        elif touches_behind and len(pieces[at]) + len(data) <= _SMALL:
            starts[at] = offset
            pieces[at] = bytearray(data) + pieces[at]
            return
        else:
            starts.insert(at, offset)
            pieces.insert(at, data)
            self.size += PIECE
            return
        if touches_behind and len(joined) + len(pieces[at + 1]) <= _SMALL:
            joined += pieces[at + 1]
            del starts[at + 1], pieces[at + 1]
            self.size -= PIECE

    def follow(self, offset: int, data: bytes) -> bytes:
        """Bytes in order have come, the next ones that are missing: they and what of these follows them, taken out."""
        starts, pieces = self._starts, self._pieces
        if not starts or offset + len(data) < starts[0]:
            return data
        if offset + len(data) > starts[0]:
            self.add(offset, data)
            data = b""
        end = starts[0]
        count = 0
        while count < len(starts) and starts[count] == end:
            end += len(pieces[count])
            count += 1
        data = b"".join((data, *pieces[:count]))
        self.gaps -= 1
        self.size -= end - starts[0] + PIECE * count
        del starts[:count], pieces[:count]
        return data


class Receiver(QuicStreamReceiver):
    """The receiving half of a stream.

    :param stream_id: its number; None: TLS messages.
    :param holdings: of its connection.
    """

    # What a stream changes at its end, if ever, isn't in each.
    is_finished = False
    stop_pending = False
    _stop_error_code: int | None = None
    _stop_arrived = False
    crypto_held = CRYPTO_HELD
    """Bytes of TLS messages that may wait."""

    def __init__(self, stream_id: int | None, holdings: Holdings) -> None:
        self.highest_offset = self._buffer_start = 0
        self.discarding = False
        """The peer was asked to stop: nothing of what comes is kept."""
        self._final_size: int | None = None
        self._stream_id: Any = stream_id
        """aioquic's events want an int, and have None of TLS messages."""
        self._holdings = holdings
        self._pieces: Pieces | None = None
        """None: nothing has come out of order."""

    @property
    def held(self) -> int:
        """Bytes that what came out of order takes."""
        return 0 if self._pieces is None else self._pieces.size

    def handle_frame(self, frame: QuicStreamFrame) -> StreamDataReceived | None:
        """As aioquic's.

        :raises FinalSizeError: the stream ends elsewhere than was said.
        :raises QuicConnectionError: too many gaps.
        :raises NoRoom: nothing has changed; the frame's packet must not be acknowledged.
        """
        offset, data, fin = frame.offset, frame.data, frame.fin
        end = offset + len(data)
        final, start = self._final_size, self._buffer_start
        if offset == start and final is None and self._pieces is None and not self.discarding and (data or fin):
            # Most frames: the next bytes, and nothing else to think of.
            self._buffer_start = self.highest_offset = end
            if fin:
                self._final_size = end
                self.is_finished = True
            return StreamDataReceived(data=data, end_stream=fin, stream_id=self._stream_id)
        if final is not None and (end > final or (fin and end != final)):
            raise FinalSizeError("Data received beyond final size" if end > final else "Cannot change final size")
        if fin and end < self.highest_offset:
            # Data at or beyond this final size already arrived (RFC 9000 section 4.5).
            raise FinalSizeError("Data received beyond final size")
        if offset > start and data and not (self.is_finished or self.discarding):
            self._hold(offset, data)
            data = b""
        if fin:
            self._final_size = end
        if end > self.highest_offset:
            self.highest_offset = end
        elif self.discarding and not fin:
            return None
        if self.is_finished:
            return None
        if self.discarding:
            return self._discarded()
        if offset <= start:
            if offset < start:
                data = data[start - offset :]
            if data and self._pieces is not None:
                data = self._follow(data)
            self._buffer_start = start = start + len(data)
        self.is_finished = start == self._final_size
        if data or self.is_finished:
            return StreamDataReceived(data=data, end_stream=self.is_finished, stream_id=self._stream_id)
        return None

    def handle_reset(self, *, final_size: int, error_code: int = QuicErrorCode.NO_ERROR) -> StreamReset | None:
        """As aioquic's."""
        event: StreamReset | None = super().handle_reset(final_size=final_size, error_code=error_code)
        self.drop()
        return event

    def stop(self, error_code: int = QuicErrorCode.NO_ERROR) -> None:
        """As aioquic's. It is over when the peer knows that and has said where it ends: only then has it all."""
        super().stop(error_code)
        self.discarding = True
        self.drop()

    def on_stop_sending_delivery(self, delivery: QuicDeliveryState) -> None:
        """As aioquic's."""
        super().on_stop_sending_delivery(delivery)
        if delivery is QuicDeliveryState.ACKED:
            self._stop_arrived = True
            self.is_finished = self.is_finished or self._final_size is not None

    def drop(self) -> None:
        """Let go of what came out of order."""
        if self._pieces is not None:
            self._holdings.change(-self._pieces.size)
            self._pieces = None

    def _discarded(self) -> StreamDataReceived:
        self.is_finished = self._stop_arrived and self._final_size is not None
        return StreamDataReceived(data=b"", end_stream=self.is_finished, stream_id=self._stream_id)

    def _hold(self, offset: int, data: bytes) -> None:
        size = len(data) + PIECE
        is_crypto = self._stream_id is None
        if is_crypto and self.held + size > self.crypto_held:
            raise NoRoom
        self._holdings.require(size)
        pieces = self._pieces
        if pieces is None:
            pieces = self._pieces = Pieces()
        before = pieces.size
        pieces.add(offset, data)
        self._holdings.change(pieces.size - before)
        if pieces.gaps > (CRYPTO_GAPS if is_crypto else STREAM_GAPS):
            self._refuse(pieces.gaps)

    def _refuse(self, gaps: int) -> None:
        if self._stream_id is None:
            code, frame, what = QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, QuicFrameType.CRYPTO, "the handshake's messages"
        else:
            code, frame, what = QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.STREAM_BASE, f"stream {self._stream_id}"
        raise QuicConnectionError(code, frame, f"{gaps} gaps in what has come of {what}")

    def _follow(self, data: bytes) -> bytes:
        pieces = self._pieces
        assert pieces is not None
        before = pieces.size
        data = pieces.follow(self._buffer_start, data)
        self._holdings.change(pieces.size - before)
        if not pieces.gaps:
            self._pieces = None
        return data
