"""The page: what it shows of a log at a moment, to whom."""

from __future__ import annotations

import dataclasses
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.console.page import Certificate, Page, Seen, page_of
from spnhub.events.analysis.flow import SPAN, Flow
from spnhub.events.model import ConnectionEnded, ConnectionProgress, ConnectionStarted, EndPointType, HubStopped
from spnhub.events.model import DisconnectReason as Why
from tests.console import worlds
from tests.console.worlds import SECOND, a, at, defined, leg, refused, seen_of, service, session, start
from tests.events.histories import History
from tests.events.samples import NOON

PROVIDER = EndPointType.PROVIDER
UID = "ab" * 16


def two_realms() -> list[Any]:
    """One hub, two realms, a connection in each."""
    return [
        *start(),
        *defined("acme", "web", "db"),
        *defined("globex", "mail"),
        session("p1", "acme", "web", PROVIDER, "CN=web provider,O=Acme", "198.51.100.7:1"),
        session("c1", "acme", "web", who="CN=Alice,O=Acme", address="203.0.113.9:2"),
        session("p2", "globex", "mail", PROVIDER, "CN=post,O=Globex"),
        session("c2", "globex", "mail", who="CN=Bob,O=Globex", address="203.0.113.10:3"),
        leg(ConnectionStarted, UID, "acme", "web", "c1", "p1"),
        leg(ConnectionStarted, "cd" * 16, "globex", "mail", "c2", "p2"),
        leg(
            ConnectionProgress,
            UID,
            "acme",
            "web",
            "c1",
            "p1",
            total_sent_bytes=600,
            total_receive_bytes=6_000,
            delta_sent_bytes=600,
            delta_receive_bytes=6_000,
        ),
    ]


def conditions(page: Page) -> dict[str, str]:
    return {row.urn.rpartition(":")[2]: row.condition for row in page.services.rows}


def test_what_there_is() -> None:
    """Realms, networks, services, endpoints, connections and the hub, with numbers and rates."""
    page = page_of(seen_of(at(two_realms()), addresses={("hub-1", "c1"): "203.0.113.9:2"}))
    assert (page.realms, page.sessions, page.connections) == (2, 4, 2)
    assert conditions(page) == {"web": "serving", "mail": "serving", "db": "idle"}
    web = page.services.rows[0]
    assert (web.urn, web.providers, web.consumers, web.connections) == (service("acme", "web"), 1, 1, 1)
    assert (web.rates.opened, web.rates.sent, web.rates.received) == (1, 600, 6_000)
    assert (page.totals.opened, page.totals.sent, page.totals.received) == (2, 600, 6_000)
    assert [(row.realm, row.services, row.sessions, row.connections) for row in page.networks.rows] == [
        ("acme", 2, 2, 1),
        ("globex", 1, 2, 1),
    ]
    (hub,) = page.hubs.rows
    assert (hub.condition, hub.version, hub.addresses, hub.sessions) == ("running", "0.2.0", ("192.0.2.1:4433",), 4)
    alice = next(row for row in page.endpoints.rows if row.session == "c1")
    assert (alice.subject, alice.role, alice.address, alice.connections) == (
        "CN=Alice,O=Acme",
        "consumer",
        "203.0.113.9:2",
        1,
    )
    shown = next(row for row in page.open_connections.rows if row.uid == UID)
    assert (shown.sent, shown.received, shown.consumer, shown.provider) == (
        600,
        6_000,
        "CN=Alice,O=Acme",
        "CN=web provider,O=Acme",
    )


def test_at_every_moment() -> None:
    """The page of a moment is made of the events up to it, and none after."""
    log = at(two_realms())
    counts = [
        (page.services.total, page.sessions, page.connections)
        for moment in range(len(log))
        for page in [page_of(seen_of(log, time=NOON + moment * SECOND))]
    ]
    assert counts[1] == (0, 0, 0)
    assert counts[4] == (1, 0, 0)
    assert counts[-4:] == [(3, 4, 0), (3, 4, 1), (3, 4, 2), (3, 4, 2)]


@pytest.mark.parametrize("realm", ["acme", "globex", "nobody's"])
def test_a_tenant_sees_its_own_realm(realm: str) -> None:
    """Not a name, a number, an address or a subject of another's is anywhere on its page; nor where hubs listen."""
    log = at([*two_realms(), refused("globex", "mail", "c2"), refused("acme", "db", "c1", "ef" * 16)])
    certificates = [
        Certificate("ca", "acme", "acme", "CN=Acme CA", "2027-01-01T00:00:00Z", 30.0),
        Certificate("ca", "globex", "globex", "CN=Globex CA", "2027-01-01T00:00:00Z", 20.0),
    ]
    seen = seen_of(
        log,
        certificates=certificates,
        addresses={("hub-1", "c1"): "203.0.113.9:2", ("hub-1", "c2"): "203.0.113.10:3"},
    )
    page = page_of(seen, realm)
    text = json.dumps(page.to_json())
    others = {"acme": ("globex", "Globex", "Bob", "203.0.113.10", "cdcd"), "globex": ("acme", "Acme", "Alice", UID)}
    for word in (*others.get(realm, ("acme", "globex", "Acme", "Globex", "hub-1")), "192.0.2.1"):
        assert word not in text
    own = {"acme": (1, 2, 1, 1, 1), "globex": (1, 2, 1, 1, 1)}.get(realm, (0, 0, 0, 0, 0))
    assert (page.realms, page.sessions, page.connections, page.incidents.total, page.certificates.total) == own
    whole = page_of(seen)
    assert whole.incidents.total == whole.certificates.total == 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_realms_add_up(seed: int) -> None:
    """Whatever happened: the pages of all realms together have what the whole page has, each thing once."""
    events = History(random.Random(seed), hubs=2, services=3).run(150).events
    for place, recorded in enumerate(events):
        urn = getattr(recorded.event, "service_urn", None)
        if recorded.event.realm is not None and urn is not None:
            realm = f"realm{urn[-1]}"
            events[place] = dataclasses.replace(recorded, event=dataclasses.replace(recorded.event, realm=realm))
    logs = [log for hub in ("hub-0", "hub-1") if (log := [one for one in events if one.hub_id == hub])]
    seen = seen_of(*logs)
    whole = page_of(seen, rows=10_000)
    parts = [page_of(seen, f"realm{number}", rows=10_000) for number in range(3)]
    assert sum(part.sessions for part in parts) == whole.sessions
    assert sum(part.connections for part in parts) == whole.connections
    listed = sorted(row.session for part in parts for row in part.endpoints.rows)
    assert listed == sorted(row.session for row in whole.endpoints.rows)
    legs = sorted(row.uid for part in parts for row in part.open_connections.rows)
    assert legs == sorted(row.uid for row in whole.open_connections.rows)


def test_trouble_comes_first() -> None:
    """A service without a provider, one whose providers don't answer, one that is passed over: in this order."""
    events = [
        *start(),
        *defined("acme", "gone", "silent", "failing", "well", "unused"),
        session("c0", "acme", "gone"),
        session("p1", "acme", "silent", PROVIDER),
        session("p2", "acme", "failing", PROVIDER),
        session("p3", "acme", "well", PROVIDER),
        session("c3", "acme", "well"),
        worlds.silent("p1", "acme", "silent"),
        worlds.failing("p2", "acme", "failing", NOON),
        refused("acme", "gone", "c0"),
    ]
    page = page_of(seen_of(at(events)))
    assert list(conditions(page).items()) == [
        ("gone", "no provider"),
        ("silent", "unresponsive"),
        ("failing", "failing"),
        ("unused", "idle"),
        ("well", "serving"),
    ]
    assert {row.condition for row in page.endpoints.rows[:2]} == {"passed over", "unresponsive"}
    assert {one.kind for one in page.incidents.rows} == {
        "provider is unresponsive",
        "provider failed",
        "connections refused",
    }
    assert all(one.state == "open" for one in page.incidents.rows)


def test_search() -> None:
    """By uid, subject, address, service, session and hub, whatever the case; totals stay, and what is over is found."""
    log = at([*two_realms(), worlds.ended("c9", "acme", "db")])
    directory = [
        dataclasses.replace(
            page_of(seen_of(log)).endpoints.rows[0], session="c9", subject="CN=c9", condition="ended", ended=NOON
        )
    ]
    seen = seen_of(log, addresses={("hub-1", "c1"): "203.0.113.9:2"}, ended=directory)

    def found(query: str) -> tuple[list[str], list[str], list[str]]:
        page = page_of(seen, query=query)
        assert (page.sessions, page.connections) == (4, 2)
        return (
            sorted(row.session for row in page.endpoints.rows),
            [row.uid for row in page.open_connections.rows],
            [row.urn.rpartition(":")[2] for row in page.services.rows],
        )

    assert found(UID) == ([], [UID], [])
    assert found("cn=ALICE") == (["c1"], [UID], [])
    assert found(" 203.0.113.9 ") == (["c1"], [], [])
    assert found(":mail") == (["c2", "p2"], ["cd" * 16], ["mail"])
    assert found("c9")[0] == ["c9"]
    assert found("nothing like it") == ([], [], [])


def test_rows_are_bounded() -> None:
    """A table has so many rows, and says how many more there are."""
    events = [*start(), *defined("acme", *(f"s{number}" for number in range(250)))]
    page = page_of(seen_of(at(events)))
    assert (len(page.services.rows), page.services.more, page.services.total) == (100, 150, 250)


def test_rates_are_of_the_last_minute() -> None:
    """What is older than a minute doesn't count, and what came after the moment neither."""
    flow = Flow()
    log = at([leg(ConnectionStarted, f"{n:032x}", "acme", "web", "c1", "p1") for n in range(200)])
    for recorded in log:
        flow.take(recorded)
    rates = flow.rates(log[150].timestamp)[service("acme", "web")]
    assert SPAN - 5 <= rates.opened <= SPAN + 5
    assert flow.rates(log[-1].timestamp + 2 * SPAN * SECOND) == {}
    bad = leg(ConnectionEnded, UID, "acme", "web", "c1", "p1", disconnect_reason=Why.ERROR, delta_sent_bytes=7)
    suspended = dataclasses.replace(bad, suspended=True)  # type: ignore[call-arg] # it has one
    flow = Flow()
    for recorded in at([bad, suspended]):
        flow.take(recorded)
    rates = flow.rates(NOON + SECOND)[service("acme", "web")]
    assert (rates.failed, rates.sent) == (1, 14)


def test_a_hub_that_has_stopped() -> None:
    """Its row says so, and since when."""
    log = at([*start(), a(HubStopped)])
    (row,) = page_of(seen_of(log)).hubs.rows
    assert (row.condition, row.since) == ("stopped", log[-1].timestamp)
    assert page_of(Seen(NOON, [])).hubs.rows == ()
