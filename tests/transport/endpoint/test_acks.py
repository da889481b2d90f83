"""When acknowledgements are due, and that they are collected."""

from __future__ import annotations

import pytest

from spnhub.actors.contract.packets import ACK_LIMIT, DataAck, Packet
from spnhub.transport.endpoint.kernel.acks import ACK_BYTES, ACK_BYTES_MAX, ACK_DELAY, ACK_PACE, AckBook
from spnhub.transport.endpoint.kernel.deadlines import Deadlines


class Reader:
    """A connection as far as the book knows it."""

    def __init__(self, number: int = 0) -> None:
        self.connection_uid = number.to_bytes(16, "big").hex()
        self.epoch = 3
        self.read_offset = 0
        self.reported_offset = 0
        self.ack_bytes = ACK_BYTES
        self.ack_time = float("-inf")


class Desk:
    """A book, its clock and what it sends."""

    def __init__(self) -> None:
        self.now = 100.0
        self.deadlines = Deadlines()
        self.sent: list[Packet] = []
        self.woken = 0
        self.book = AckBook(self.sent.append, lambda: self.now, self.deadlines.set, self._wake)

    def _wake(self, _: AckBook) -> None:
        self.woken += 1

    def take(self, reader: Reader, count: int) -> None:
        reader.read_offset += count
        self.book.took(reader)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for owner in self.deadlines.due(self.now):
            owner.on_deadline()

    def told(self) -> list[list[int]]:
        """The offsets of each packet so far; they are forgotten."""
        offsets = [[ack.received_offset for ack in packet.acks] for packet in self.sent if isinstance(packet, DataAck)]
        self.sent.clear()
        return offsets


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_little_waits_for_the_delay(desk: Desk) -> None:
    """Nothing is sent before, everything in one packet then, and no timer is left."""
    readers = [Reader(n) for n in range(3)]
    for reader in readers:
        desk.take(reader, 10)
        desk.pass_time(ACK_DELAY / 10)
        desk.take(reader, 10)
    desk.book.flush()
    assert (desk.told(), desk.woken) == ([], 0)
    desk.pass_time(ACK_DELAY)
    assert desk.told() == [[20, 20, 20]]
    assert desk.deadlines.next() is None
    assert [reader.reported_offset for reader in readers] == [20, 20, 20]


def test_much_is_due_in_this_turn(desk: Desk) -> None:
    """Once a turn, however often it is read; others aren't dragged along, and their delay stays."""
    fast, slow = Reader(1), Reader(2)
    desk.take(slow, 5)
    for _ in range(10):
        desk.take(fast, ACK_BYTES // 4)
    assert desk.woken == 1
    desk.book.flush()
    assert desk.told() == [[10 * (ACK_BYTES // 4)]]
    desk.pass_time(ACK_DELAY)
    assert desk.told() == [[5]]


def test_limit_of_a_packet(desk: Desk) -> None:
    """More connections than one packet may tell of."""
    for number in range(ACK_LIMIT + 1):
        desk.take(Reader(number), ACK_BYTES)
    desk.book.flush()
    assert [len(offsets) for offsets in desk.told()] == [ACK_LIMIT, 1]


def test_threshold_follows_the_pace(desk: Desk) -> None:
    """Doubled while acknowledgements come fast, up to the maximum; back to the beginning when the timer is first."""
    reader = Reader()
    thresholds = []
    for _ in range(7):
        desk.take(reader, reader.ack_bytes)
        desk.book.flush()
        thresholds.append(reader.ack_bytes // ACK_BYTES)
        desk.pass_time(ACK_PACE / 2)
    assert thresholds == [1, 2, 4, 8, 16, 16, 16]
    assert reader.ack_bytes == ACK_BYTES_MAX
    desk.take(reader, reader.ack_bytes - 1)
    desk.pass_time(ACK_DELAY)
    assert reader.ack_bytes == ACK_BYTES
    assert reader.reported_offset == reader.read_offset


def test_a_steady_reader_keeps_its_threshold(desk: Desk) -> None:
    """Intervals above the pace are no reason to wait for more."""
    reader = Reader()
    for _ in range(20):
        desk.take(reader, ACK_BYTES)
        desk.book.flush()
        desk.pass_time(ACK_PACE * 1.1)
    assert reader.ack_bytes == ACK_BYTES


def test_forgotten(desk: Desk) -> None:
    """Who has left the session is not told of."""
    due, later = Reader(1), Reader(2)
    desk.take(due, ACK_BYTES)
    desk.take(later, 1)
    desk.book.forget(due)
    desk.book.forget(later)
    desk.book.flush()
    desk.pass_time(ACK_DELAY)
    assert desk.told() == []
