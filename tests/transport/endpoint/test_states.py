"""The two tables of :mod:`spnhub.transport.endpoint.session.states` against the specification's diagrams."""

from __future__ import annotations

import itertools

import pytest

from spnhub.transport.endpoint.connection.states import (
    CONNECTION_TABLE,
    ConnectionEvent,
    ConnectionState,
    connection_machine,
)
from spnhub.transport.endpoint.kernel.state_machine import Machine
from spnhub.transport.endpoint.session.states import SESSION_TABLE, SessionState, SessionTrigger, session_machine
from spnhub.transport.errors import LocalProtocolError
from tests.transport.endpoint.diagrams import DOCUMENT, arrows, draw

R_2_6 = {
    "IPFound -> SessionConnecting: connect",
    "SessionConnecting -> Established: session established",
    "SessionConnecting -> Waiting: QUIC connection failed",
    "SessionConnecting -> Waiting: provider not found",
    "Waiting -> SessionConnecting: retry",
    "SessionConnecting -> Failed: IP lost by an on-demand DNS check",
    "SessionConnecting -> Failed: retry count exceeded",
    "Established -> Closing: IP lost by the periodic DNS check",
    "Established -> Closing: shutdown request from the hub",
    "Established -> Closing: shutdown signal",
    "Closing -> Closed: session empty",
}

R_4_11 = {
    "LookingUpSession -> Connecting: found session",
    "Connecting -> Connected: connection established",
    "Connected -> Disconnecting: service side closed, and Close Request sent",
    "Connected -> Pausing: pause requested by the hub, and Pause ACK sent",
    "Pausing -> Paused: data stream closed by the hub",
    "Paused -> Resuming: found session",
    "Resuming -> Connected: connection resumed",
    "Disconnecting -> Disconnected: data stream closed by the hub",
}


def test_session_table_is_the_diagram_and_what_we_marked() -> None:
    """R-2.6 arrow by arrow; everything else says that it is ours."""
    lines = arrows(SESSION_TABLE)
    assert {line for line in lines if not line.endswith(" (ours)")} == R_2_6
    assert len(lines) == len(set(lines))


def test_connection_table_is_the_diagram_and_what_we_marked() -> None:
    """R-4.11 arrow by arrow; everything else says that it is ours."""
    lines = arrows(CONNECTION_TABLE)
    assert {line for line in lines if not line.endswith(" (ours)")} == R_4_11
    assert len(lines) == len(set(lines))


def test_beginnings() -> None:
    """Where the diagrams' ``[*]`` leads."""
    assert session_machine().state is SessionState.IP_FOUND
    assert connection_machine().state is ConnectionState.LOOKING_UP_SESSION


@pytest.mark.parametrize(("state", "event"), list(itertools.product(SessionState, SessionTrigger)))
def test_every_session_pair(state: SessionState, event: SessionTrigger) -> None:
    """A pair of the table leads where it says; every other pair raises and changes nothing."""
    machine = Machine(SESSION_TABLE, state)
    if (state, event) in SESSION_TABLE:
        assert machine.fire(event) is SESSION_TABLE[state, event].to
    else:
        with pytest.raises(LocalProtocolError):
            machine.fire(event)
        assert machine.state is state


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ConnectionState, ConnectionEvent)))
def test_every_connection_pair(state: ConnectionState, event: ConnectionEvent) -> None:
    """A pair of the table leads where it says; every other pair raises and changes nothing."""
    machine = Machine(CONNECTION_TABLE, state)
    if (state, event) in CONNECTION_TABLE:
        assert machine.fire(event) is CONNECTION_TABLE[state, event].to
    else:
        with pytest.raises(LocalProtocolError):
            machine.fire(event)
        assert machine.state is state


def test_final_states_have_no_way_out() -> None:
    """Closed, Failed and Disconnected lead only to ``[*]``."""
    left = {state for state, _ in SESSION_TABLE} | {state for state, _ in CONNECTION_TABLE}
    assert left.isdisjoint({SessionState.CLOSED, SessionState.FAILED, ConnectionState.DISCONNECTED})


def test_diagrams_are_drawn_from_the_tables() -> None:
    """Due when a table has changed: ``python -m tests.transport.endpoint.diagrams``."""
    text = DOCUMENT.read_text()
    assert draw(text) == text
    for state in (*SessionState, *ConnectionState):
        assert f" {state.value}" in text
