"""That Kafka takes no events is an incident of the running hub; no event tells of it."""

from __future__ import annotations

import json
from typing import Any

from spnhub.events.analysis.incidents import Incident
from spnhub.events.kafka.settings import ShipperState, ShipperStatus
from spnhub.ops.incidents import HubIncidents
from tests.console.worlds import at, defined, refused, start


async def told(of: HubIncidents) -> list[dict[str, Any]]:
    """What /incidents answers."""
    text = b"".join([piece async for piece in of.stream()])
    found: list[dict[str, Any]] = json.loads(text)["incidents"]
    return found


async def test_an_outage_is_one_incident() -> None:
    """From the first word of it until events arrive, with the latest reason; the next one is another."""
    incidents = HubIncidents()

    def say(second: int, state: ShipperState, position: int, reason: str = "") -> None:
        status = ShipperStatus(state=state, position=position, behind=9, reason=reason)
        incidents.take_shipper("hub-1", status, second * 1_000_000)

    say(1, "connected", 0)
    say(2, "shipped", 5)
    assert await told(incidents) == []
    say(3, "unreachable", 7, "127.0.0.1:9092: no answer in time")
    say(4, "unreachable", 7, "127.0.0.1:9092: connection refused")
    say(5, "shipped", 7)  # more events wait: that isn't the end of it
    (one,) = await told(incidents)
    assert (one["state"], one["kind"], one["who"], one["count"]) == (
        "open",
        "events not shipped",
        "the shipper of hub-1",
        2,
    )
    assert one["reason"] == "unreachable: 127.0.0.1:9092: connection refused"
    assert (one["since"], one["hubs"]) == ("1970-01-01T00:00:03.000000Z", ["hub-1"])
    say(6, "shipped", 8)
    (one,) = await told(incidents)
    assert (one["state"], one["seconds"]) == ("over", 3.0)
    assert one["recovered"] == "Kafka takes events; shipped up to 8"
    assert Incident.from_json(one).to_json() == one
    say(7, "died", 8, "killed by SIGKILL")
    say(8, "connected", 8)
    assert [found["state"] for found in await told(incidents)] == ["over", "over"]


async def test_the_hubs_own_are_told_apart() -> None:
    """Whoever has the log asks for the others only: nothing is shown twice."""
    incidents = HubIncidents()
    incidents.take(at([*start(), *defined("acme", "web"), refused("acme", "web", "c")])[-1])
    incidents.take_shipper("hub-1", ShipperStatus(state="unreachable"), 1)
    assert [one["kind"] for one in await told(incidents)] == ["events not shipped", "connections refused"]
    own = json.loads(b"".join([piece async for piece in incidents.stream(of_log=False)]))
    assert ([one["kind"] for one in own["incidents"]], own["omitted"]) == (["events not shipped"], 0)


async def test_outages_are_bounded() -> None:
    """A link that comes and goes for years takes no more memory."""
    incidents = HubIncidents()
    for second in range(1_500):
        incidents.take_shipper("hub-1", ShipperStatus(state="unreachable"), second)
        incidents.take_shipper("hub-1", ShipperStatus(state="connected"), second)
    assert len(await told(incidents)) == 1_000
