"""What the actors can be told: bounds (seconds, counts), some of which are options of the hub.

Counterpart: :mod:`spnhub.actors.kernel.environment`, by which every actor has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from spnhub.options import option

__all__ = ["ActorOptions"]

# An hour at most, and a day: anything above is a wrong unit, not a wish.
_times = partial(option, group="Connections", metavar="SECONDS", unit="seconds")
_intervals = partial(option, group="Event journal", metavar="SECONDS", unit="seconds", above=0, at_most=86_400)


@dataclass(frozen=True, slots=True)
class ActorOptions:
    """Bounds (seconds, counts) of the actors."""

    accept_timeout: float = 15.0
    """From the opening of a connection until its provider has accepted."""
    answer_timeout: float = 6.0
    """Of that, for one provider to answer while another one is sound (D-35); an agent answers within 5 s."""
    opening_attempts: int = 16
    """Providers that one opening is offered to, at most, one after the other (D-35)."""
    last_resorts: int = 3
    """Of them, those that are passed over, and asked for want of another."""
    failure_base: float = 1.0
    """For which a provider that fails for the first time is passed over; doubled each time (D-35)."""
    failure_limit: float = 30.0
    """For which one is passed over at most."""
    close_timeout: float = 10.0
    """For the Close exchange: after both FINs, or after a Close Request that doesn't wait for them (R-4.5)."""
    abort_timeout: float = 2.0
    """For the transport to say how many bytes an aborted connection has carried."""
    step_timeout: float = 5.0
    """For each step of a pause and of a resume that an endpoint has to take, and for it to close an empty session."""
    resume_timeout: float = _times(
        60.0,
        "For this long a suspended connection counts in its provider's load.",
        at_least=0,
        at_most=3600,
    )
    """For which a suspended connection counts in its provider's load."""
    gone_timeout: float = _times(
        1.0,
        "An endpoint whose port is closed may come back for this long; then its connections end with an error.",
        above=0,
        at_most=3600,
    )
    """For an instance whose port is closed to come back in another session; then its connections are over (D-20)."""
    suspended_connections: int = 65_536
    """Of one service that count like that."""
    shutdown_timeout: float = 20.0
    """For a resumable shutdown; then what is left is stopped as planned."""
    stop_timeout: float = 15.0
    """For each half of a planned stop, consumers and providers; more than the other bounds need."""
    session_connections: int = 4096
    """Connections open at once on one consumer's session."""
    realm_sessions: int = 20_000
    """Sessions open at once in a realm whose definition doesn't say."""
    start_timeout: float = 30.0
    """For an opening to wait for a provider of a service that is started on demand (D-29)."""
    waiting_openings: int = 1024
    """Openings of one service that wait like that."""
    start_interval: float = 10.0
    """Between two starts of one service, at least."""
    retry_base: float = 1.0
    """Before the first retry of a start or stop that failed; doubled each time."""
    retry_limit: float = 300.0
    """Between two retries, at most."""
    cluster_timeout: float = 120.0
    """For a cluster manager to report; then the command counts as failed."""
    stop_attempts: int = 3
    """To stop a service; then it counts as running."""
    slice_size: int = 64
    """Pieces of a reload, of a session's end, or of a look at all connections, at one moment (D-31)."""
    slice_pause: float = 0.004
    """Before the next such slice."""
    pauses_at_once: int = 4
    """Connections that a resumable shutdown pauses at a time, at least; more if that would take more than 64 rounds."""
    pause_patience: float = 0.1
    """For which one of them may hold up the next."""
    expiry_check: float = 60.0
    """Between two looks at the wall clock, which may be set, while a realm's expiry is ahead."""
    alive_interval: float = _intervals(60.0, "Between two heartbeats in the events.")
    """Between two signs of life in the log."""
    progress_interval: float = _intervals(
        60.0, "Between two events in which an open connection reports what it has carried."
    )
    """From one look at the bytes of open connections to the next; what has moved is told (D-10)."""
    refusal_window: float = 1.0
    """Identical refused handshakes within it share an event (D-13)."""
    refusal_kinds: int = 64
    """Different ones told apart within a window; what comes beyond shares one event."""
