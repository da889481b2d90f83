"""The story of a session and of a connection, as a person reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spnhub.events.analysis.explain import CONVERSATION_LIMIT, EVENT_LIMIT, Search, Story
from spnhub.events.model import (
    ConnectionPaused,
    ConnectionResumed,
    DisconnectReason,
    EndPointType,
    ProviderFailed,
    ProviderRecovered,
    Recorded,
    WeightChanged,
)
from tests.events import samples
from tests.events.samples import NOON, SERVICE

UID = "ab" * 16


def stories(name: str, events: list[Recorded]) -> tuple[list[Story], Search]:
    """As the command makes them."""
    search = Search(name)
    for recorded in events:
        search.take(recorded)
    found = search.stories() if search.found else []
    for story in found:
        for recorded in events:
            story.take(recorded)
    return found, search


def two_hubs() -> list[Recorded]:
    """A connection that is paused on one hub and goes on on another, beside one that isn't."""
    paused = ConnectionPaused(
        realm="acme",
        network_urn=None,
        spn_connection_id="4-1",
        consumer_side_spn_session_id="c1",
        provider_side_spn_session_id="p1",
        service_urn=SERVICE,
        connection_uid=UID,
        sent_offset=100,
        receive_offset=2000,
        planned=True,
        code=38,
        reason="the hub stops",
    )
    one = samples.record(
        [
            samples.session_started("p1", EndPointType.PROVIDER),
            samples.session_started("c1"),
            samples.connection_started(),
            samples.connection_started("ee" * 16, ident="8-5"),
            paused,
            samples.connection_ended(suspended=True, reason=DisconnectReason.CLOSED),
            samples.session_ended("c1", count=2),
        ]
    )
    two = samples.record(
        [
            samples.session_started("p2", EndPointType.PROVIDER),
            samples.session_started("c2"),
            samples.connection_started(epoch=1, start=(100, 2000), consumer="c2", provider="p2", ident="0-1"),
            ConnectionResumed(
                realm="acme",
                network_urn=None,
                spn_connection_id="0-1",
                consumer_side_spn_session_id="c2",
                provider_side_spn_session_id="p2",
                service_urn=SERVICE,
                connection_uid=UID,
                epoch=1,
                sent_offset=100,
                receive_offset=2000,
            ),
            samples.connection_ended(epoch=1, start=(100, 2000), consumer="c2", provider="p2", ident="0-1"),
        ],
        hub_id="hub-2",
        start=NOON + 200_000,
    )
    return one + two


def test_a_connection_over_two_hubs() -> None:
    """Legs in order, with the sessions they ran in; nothing of other connections; every byte once."""
    (story,), _ = stories(UID, two_hubs())
    assert story.summary() == (
        f"Connection {UID} of {SERVICE}: 2 legs on hub-1, hub-2; ended, closedByPeer;"
        " 200 bytes from consumer to provider, 4,000 bytes back, each byte once."
    )
    assert [(hub, text) for _, hub, text in story.render()] == [
        ("hub-1", f"session p1 of CN=p1,O=Acme began: serviceProvider of {SERVICE}, from 192.0.2.7:4711"),
        ("hub-1", f"session c1 of CN=c1,O=Acme began: serviceConsumer of {SERVICE}, from 192.0.2.7:4711"),
        ("hub-1", "leg 0 opened to the provider: streams 4-1, sessions c1 and p1"),
        ("hub-1", "leg 0 paused as planned at 100 bytes and 2,000 bytes back (PAUSED, the hub stops)"),
        (
            "hub-1",
            "leg 0 ended after 0.500 s: closed; it passed on 100 bytes and 2,000 bytes back; the connection may go on",
        ),
        ("hub-2", f"session p2 of CN=p2,O=Acme began: serviceProvider of {SERVICE}, from 192.0.2.7:4711"),
        ("hub-2", f"session c2 of CN=c2,O=Acme began: serviceConsumer of {SERVICE}, from 192.0.2.7:4711"),
        (
            "hub-2",
            "leg 1 opened to the provider: streams 0-1, sessions c2 and p2, from 100 bytes and 2,000 bytes back on",
        ),
        ("hub-2", "leg 1 goes on from 100 bytes and 2,000 bytes back"),
        ("hub-2", "leg 1 ended after 0.500 s: closedByPeer; it passed on 100 bytes and 2,000 bytes back"),
    ]
    shown = story.to_json()
    assert (shown["kind"], len(shown["sessions"]), shown["omitted"]) == ("connection", 4, 0)
    assert [event["eventType"] for event in shown["events"]][-1] == "endSpnConnection"


def test_a_connection_that_ended_in_order_unseen() -> None:
    """What its endpoints tell later is what became of it."""
    events = samples.record(
        [
            samples.session_started("p1", EndPointType.PROVIDER),
            samples.session_started("c1"),
            samples.connection_started(),
            samples.connection_ended(suspended=True, reason=DisconnectReason.ERROR, total=(100, 20)),
            samples.connection_finished(epoch=2),
        ]
    )
    (story,), _ = stories(UID, events)
    assert story.summary() == (
        f"Connection {UID} of {SERVICE}: 1 leg on hub-1; suspended; its endpoints had ended it in order, as they"
        " reported later; 100 bytes from consumer to provider, 2,000 bytes back, each byte once."
    )
    assert [text for *_, text in story.render()][-1] == (
        "leg 2 isn't needed: both ends had ended in order, after 100 bytes and 2,000 bytes back"
    )


def test_what_cut_a_connection() -> None:
    """The end of a session while a leg is open belongs to the leg's story, and so does trouble with the log."""
    events = samples.record(
        [
            samples.session_started("p1", EndPointType.PROVIDER),
            samples.session_started("c1"),
            samples.journal_stalled(),
            samples.connection_started(),
            samples.journal_stalled(),
            samples.session_ended("c1", count=1),
            samples.connection_ended(reason=DisconnectReason.ERROR),
            samples.session_ended("p1", EndPointType.PROVIDER, count=1),
            samples.journal_stalled(),
        ]
    )
    (story,), _ = stories(UID, events)
    assert [text.split(" ")[:2] for _, _, text in story.render()][2:] == [
        ["leg", "0"],
        ["the", "hub's"],
        ["session", "c1"],
        ["leg", "0"],
    ]


def test_a_session() -> None:
    """From its start to its end, with its connections."""
    weight = WeightChanged(
        realm="acme", network_urn=None, spn_session_id="p1", service_urn=SERVICE, old_weight=100, new_weight=0
    )
    events = two_hubs()
    events += samples.record([weight, samples.session_ended("p1", EndPointType.PROVIDER, count=2)], first=8)
    (story,), _ = stories("p1", events)
    assert story.summary() == (
        f"Session p1 of CN=p1,O=Acme, serviceProvider of {SERVICE}: ended after 1.0 s, terminatedByPeer;"
        " 2 connections named it."
    )
    texts = [text for _, _, text in story.render()]
    assert texts[0].startswith("session p1 of CN=p1,O=Acme began")
    assert texts[1].startswith(f"connection {UID}, leg 0, opened")
    assert texts[-2:] == [
        "session p1 changed its weight from 100 to 0",
        "session p1 of CN=p1,O=Acme ended after 1.0 s: terminatedByPeer",
    ]
    (unended,), _ = stories("p2", events)
    assert unended.summary().endswith("open at the end of the log.")


def test_a_provider_that_fails() -> None:
    """Its story has the attempts, for how long it was passed over, and that it is back."""
    where: dict[str, Any] = {"realm": "acme", "network_urn": None, "spn_session_id": "p1", "service_urn": SERVICE}
    until = samples.NOON + 2_000_000
    reason = "10.0.0.7 port 80: Connection refused"
    failed = ProviderFailed(**where, failures=2, passed_over_until=until, code=32, reason=reason)
    ended = samples.connection_ended(total=(0, 0), reason=DisconnectReason.ERROR, rejected=True)
    weight = WeightChanged(**where, old_weight=100, new_weight=0, reason=reason)
    events = samples.record(
        [
            samples.session_started("p1", EndPointType.PROVIDER),
            samples.connection_started(),
            failed,
            ended,
            ProviderRecovered(**where),
            weight,
        ]
    )
    (story,), _ = stories("p1", events)
    texts = [text for _, _, text in story.render()]
    assert texts[2:] == [
        (
            f"the provider of session p1 failed 2 times in a row (CONNECT_FAILED, {reason}): others come first until"
            " 2026-01-02T12:00:02.000000Z"
        ),
        (
            f"connection {UID}, leg 0, ended after 0.500 s: error; it passed on 0 bytes and 0 bytes back; the provider"
            " did not take it"
        ),
        "the provider of session p1 takes connections again",
        f"session p1 changed its weight from 100 to 0 ({reason})",
    ]


def test_stream_ids_may_name_several() -> None:
    """Each connection that had them, in all its legs; beyond a number they are only counted."""
    (story,), _ = stories("4-1", two_hubs())
    assert (story.uid, len(story.legs)) == (UID, 2)
    many = samples.record(samples.connection_started(f"{number:032x}") for number in range(CONVERSATION_LIMIT + 3))
    found, search = stories("4-1", many)
    assert ([story.uid for story in found[:2]], len(found), search.more) == (
        [f"{0:032x}", f"{1:032x}"],
        CONVERSATION_LIMIT,
        3,
    )


def test_an_unknown_id() -> None:
    """It isn't found."""
    assert stories("nobody", two_hubs())[1].found is False


def test_a_long_story_is_cut_in_the_middle() -> None:
    """Memory is bounded; the beginning and the end are what one asks for."""
    events = samples.record([samples.session_started("c1")])
    events += [
        replace(recorded, sequence=2 + place)
        for place, recorded in enumerate(samples.record([samples.connection_refused()] * (3 * EVENT_LIMIT)))
    ]
    (story,), _ = stories("c1", events)
    told = list(story.render())
    assert (len(told), story.omitted) == (2 * EVENT_LIMIT + 1, EVENT_LIMIT + 1)
    assert told[EVENT_LIMIT] == (None, "", f"… {EVENT_LIMIT + 1} events are left out here …")
