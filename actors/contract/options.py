"""What can be set for the actors: bounds (seconds, counts), some of which are options of the hub.

Counterpart: :mod:`spnhub.actors.kernel.environment`, by which every actor has them.
"""

from __future__ import annotations

from functools import partial

from spnhub.dataclass import dataclass
from spnhub.options import option

__all__ = ["ActorOptions"]

# At most an hour and a day: a larger value is more likely given in the wrong unit than meant.
_times = partial(option, group="Connections", metavar="SECONDS", unit="seconds")
_bounds = partial(option, group="Connections", at_least=1, at_most=1_000_000, unit="")
_intervals = partial(option, group="Event journal", metavar="SECONDS", unit="seconds", above=0, at_most=86_400)


@dataclass(frozen=True, slots=True)
class ActorOptions:
    """Bounds (seconds, counts) of the actors."""

    accept_timeout: float = 15.0
    """From the opening of a connection until a provider must have accepted it."""
    answer_timeout: float = 6.0
    """How much of ``accept_timeout`` one provider gets to answer while another provider is available (D-35). An agent
    answers within 5 s."""
    opening_attempts: int = 16
    """The most providers that one opening is offered to, one after the other (D-35)."""
    last_resorts: int = 3
    """How many of these may be providers that are being passed over, and are asked because no other is left."""
    failure_base: float = 1.0
    """How long a provider is passed over after its first failure; doubled with each further failure (D-35)."""
    failure_limit: float = 30.0
    """The longest time that a provider is passed over."""
    close_timeout: float = 10.0
    """For the Close exchange: after both FINs, or after a Close Request that doesn't wait for them (R-4.5)."""
    abort_timeout: float = 2.0
    """For the transport to report how many bytes an aborted connection has carried."""
    step_timeout: float = 5.0
    """For each step of a pause and of a resume that an endpoint has to take, and for it to close an empty session."""
    resume_timeout: float = _times(
        60.0,
        "For this long a suspended connection counts in its provider's load.",
        at_least=0,
        at_most=3600,
    )
    """How long a suspended connection counts in its provider's load."""
    gone_timeout: float = _times(
        1.0,
        "An endpoint whose port is closed may come back for this long; then its connections end with an error.",
        above=0,
        at_most=3600,
    )
    """For an instance whose port is closed to open another session; after that its connections are ended (D-20)."""
    suspended_connections: int = 65_536
    """The most suspended connections of one service that count in the load of its providers."""
    shutdown_timeout: float = 20.0
    """For a resumable shutdown; sessions that are left then are ended by a planned stop."""
    stop_timeout: float = 15.0
    """For each half of a planned stop (consumers, providers); longer than all bounds of a connection together."""
    session_connections: int = 4096
    """Connections open at once on one consumer's session."""
    identity_sessions: int = _bounds(
        1024, "Sessions at once of one certificate's subject in a realm: a fleet shares it.", metavar="COUNT"
    )
    """Sessions open at once of one identity, a certificate's subject, in a realm."""
    identity_connections: int = _bounds(
        65_536, "Connections open at once of one certificate's subject in a realm.", metavar="COUNT"
    )
    """Connections open at once on all sessions of one identity, as their consumer, in a realm."""
    realm_sessions: int = 20_000
    """Sessions open at once in a realm whose definition has no limit of its own."""
    start_timeout: float = 30.0
    """How long an opening waits for a provider of a service that is started on demand (D-29)."""
    provider_patience: float = 600.0
    """How long a consumer waits for a provider that can't ask again (``Abilities.asks_again``): each opening of it, and
    its session without one."""
    waiting_openings: int = 1024
    """The most openings of one service that wait for a provider."""
    start_interval: float = 10.0
    """The least time between two starts of one service."""
    retry_base: float = 1.0
    """Delay before the first retry of a start or stop that failed; doubled with each retry."""
    retry_limit: float = 300.0
    """The longest delay before a retry."""
    cluster_timeout: float = 120.0
    """For a cluster manager to report; after that the command counts as failed."""
    stop_attempts: int = 3
    """Attempts to stop a service; if all fail, it counts as running."""
    slice_size: int = 64
    """Pieces of work (of a reload, a session's end, a round over all connections) that are done in one turn (D-31)."""
    slice_pause: float = 0.004
    """Pause before the next slice of such work."""
    pauses_at_once: int = 4
    """Connections that a resumable shutdown pauses at a time; more than this if it would take over 64 rounds."""
    pause_patience: float = 0.1
    """How long a connection that is being paused may delay the next one."""
    expiry_check: float = 60.0
    """Interval at which the wall clock is checked while a realm is going to expire: the clock may be set meanwhile."""
    alive_interval: float = _intervals(60.0, "Between two heartbeats in the events.")
    """Between two heartbeats in the log."""
    progress_interval: float = _intervals(
        60.0, "Between two events in which an open connection reports what it has carried."
    )
    """Interval at which open connections are asked for their byte counts; those that have moved are logged (D-10)."""
    refusal_window: float = 1.0
    """Identical refused handshakes within this time share an event (D-13)."""
    refusal_kinds: int = 64
    """The most kinds of refused handshakes of one realm that a window distinguishes; its further kinds share one event.
    Sixteen times as many altogether, and of each realm one at least."""
