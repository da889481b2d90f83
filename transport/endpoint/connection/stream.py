"""What an endpoint's connection offers to whoever moves its bytes, and what it notifies them of.

Implemented by :class:`spnhub.transport.endpoint.connection.connection.Connection`; used by the library's reader and
writer (:mod:`spnhub.transport.endpoint.api.consumer`) and by the agents' TCP bridge
(:mod:`spnhub.transport.agent.bridge`). Callbacks come from the event loop, never from inside a call of the same stream.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Stream", "StreamListener"]


class StreamListener(Protocol):
    """Who moves the bytes of a stream."""

    def on_readable(self) -> None:
        """There is something to read. Told once, and again only after a read has drained the stream."""

    def on_writable(self) -> None:
        """After a write that took less than it was given: more is welcome."""

    def on_aborted(self, code: int, reason: str) -> None:
        """The connection ended with an error (reset, endpoint lost, hub lost): the last call. Never a clean end."""

    def on_closed(self) -> None:
        """Both directions ended in order and the hub closed the connection (R-4.5): the last call."""


class Stream(Protocol):
    """One SPN connection as its endpoint sees it, once it is Connected (R-4.11)."""

    @property
    def connection_uid(self) -> str:
        """The conversation's public id: 16 bytes as 32 hexadecimal digits."""

    @property
    def peer(self) -> str:
        """Verified Subject of the other endpoint's certificate, RFC 4514, as the hub states it."""

    @property
    def paused(self) -> bool:
        """No byte passes now; it waits to be resumed, for as long as the resume timeout."""

    def set_listener(self, listener: StreamListener) -> None:
        """Notify this one from now on, and at once (from the loop) of what is already the case."""

    def read(self, limit: int) -> tuple[bytes, bool] | None:
        """Consume up to ``limit`` bytes: (data, fin). (b"", False): nothing now. None: aborted."""

    def write(self, data: bytes) -> int:
        """Queue bytes; how many were taken. Less than given: ``on_writable`` follows."""

    def finish(self) -> None:
        """End our direction in order: FIN after all that was written."""

    def fail(self, code: int) -> None:
        """End the connection with an error, after what was written, and its FIN if there is one (D-34).

        What still comes is thrown away. ``on_aborted`` follows when the other side has everything, or has taken
        nothing for too long (``on_closed``: both directions had ended in order after all).

        :raises ConfigurationError: the code isn't within 0 and 2^62 - 1.
        """

    def abort(self, code: int) -> None:
        """End the connection with an error, both directions at once. No callback follows.

        :raises ConfigurationError: the code isn't within 0 and 2^62 - 1.
        """
