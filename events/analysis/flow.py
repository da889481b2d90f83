"""What flowed in the last minute, by service: a fold over the log with a window.

Counterparts: :mod:`spnhub.console.page` shows it, :mod:`spnhub.events.analysis.journal_index` keeps it.
"""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict
from typing import Final

from spnhub import bounded_json
from spnhub.dataclass import dataclass
from spnhub.events.analysis.log_lines import failed
from spnhub.events.model import ConnectionEnded, ConnectionProgress, ConnectionStarted, Recorded

__all__ = ["SPAN", "Flow", "FlowRates"]

SPAN: Final = 60
"""Seconds of the window."""
_BUCKET: Final = 5_000_000
"""Microseconds that are counted together."""
_BUCKETS: Final = SPAN * 1_000_000 // _BUCKET


@dataclass(slots=True)
class FlowRates:
    """Of one service, or of several: numbers within the window."""

    opened: int = 0
    """Connections (legs of them)."""
    failed: int = 0
    """Legs that ended by an error."""
    sent: int = 0
    """Bytes from consumers to providers that events have reported."""
    received: int = 0
    """Bytes from providers to consumers."""

    def add(self, other: FlowRates) -> None:
        """Count another one, too."""
        self.opened += other.opened
        self.failed += other.failed
        self.sent += other.sent
        self.received += other.received


class Flow:
    """The fold. Memory: the services that something flowed of within the window."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[int, dict[str, FlowRates]] = OrderedDict()

    def take(self, recorded: Recorded) -> None:
        """Take in the next event."""
        event = recorded.event
        if not isinstance(event, ConnectionStarted | ConnectionProgress | ConnectionEnded):
            return
        place = recorded.timestamp // _BUCKET
        bucket = self._buckets.get(place)
        if bucket is None:
            bucket = self._buckets[place] = {}
            while len(self._buckets) > 2 * _BUCKETS:
                self._buckets.popitem(last=False)
        rates = bucket.setdefault(event.service_urn, FlowRates())
        if isinstance(event, ConnectionStarted):
            rates.opened += 1
            return
        rates.sent += event.delta_sent_bytes
        rates.received += event.delta_receive_bytes
        rates.failed += failed(event) and not (isinstance(event, ConnectionEnded) and event.suspended)

    def pack(self) -> bytes:
        """What :meth:`add` takes."""
        rows = [
            (place, service, one.opened, one.failed, one.sent, one.received)
            for place, bucket in self._buckets.items()
            for service, one in bucket.items()
        ]
        return zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), 1)

    def add(self, packed: bytes, since: int) -> None:
        """Count what another fold has counted, of other events.

        :param since: beginning of the window that is asked for, microseconds since 1970: what was before isn't counted.
        :raises ValueError: it isn't what :meth:`pack` has made; TypeError and :class:`zlib.error`, too.
        """
        for place, service, opened, fails, sent, received in bounded_json.loads(zlib.decompress(packed)):
            if place <= since // _BUCKET:
                continue
            more = FlowRates(int(opened), int(fails), int(sent), int(received))
            self._buckets.setdefault(int(place), {}).setdefault(str(service), FlowRates()).add(more)

    def rates(self, now: int) -> dict[str, FlowRates]:
        """By service URN, within the window that ends at ``now`` (microseconds since 1970)."""
        last = now // _BUCKET
        found: dict[str, FlowRates] = {}
        for place, bucket in self._buckets.items():
            if last - _BUCKETS < place <= last:
                for service, rates in bucket.items():
                    found.setdefault(service, FlowRates()).add(rates)
        return found
