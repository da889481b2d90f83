"""Who may not come in: the agent ends with 1 and says the code and the reason, and the log has the refusal."""

from __future__ import annotations

import asyncio
import json

from tests.support.command import Command, run
from tests.support.world import World


async def refused(agent: Command) -> str:
    """The one line on standard error of an agent that gave up."""
    status = await agent.wait()
    assert (status, len(agent.errors)) == (1, 1), agent.transcript()
    line = agent.errors.pop()
    assert line.startswith("spnagent: ")
    return line


async def test_refused_for_good(world: World) -> None:
    """A foreign certificate, a role that isn't allowed, a service that doesn't exist; an expired one may be renewed."""
    hub = await world.start_hub()
    nowhere = ("127.0.0.1", 9)
    foreigner, expired, *others = await asyncio.gather(
        world.start_provider(nowhere, wait=False, credentials=world.strangers.client("provider")),
        world.start_provider(nowhere, wait=False, credentials=world.authority.client("provider", expired=True)),
        world.start_provider(nowhere, wait=False, credentials=world.authority.client("somebody")),
        world.start_provider(nowhere, wait=False, service="nothing"),
    )
    foreign, somebody, nothing = [await refused(agent) for agent in (foreigner, *others)]
    assert "TLS alert 48" in foreign
    assert "NOT_ALLOWED" in somebody
    assert "UNKNOWN_SERVICE" in nothing
    await hub.wait_lines("sessionRefused", 4)
    # Time is no verdict (D-36): it says why, and tries again.
    assert "TLS alert 45" in (await expired.line("session.failed"))["reason"]
    assert await expired.stop() == 0
    await hub.stop()

    status, out, _ = await run("spnlog", "replay", "--all", str(world.journal))
    assert status == 0
    refusals = [line for line in map(json.loads, out.splitlines()) if line["eventType"] == "sessionRefused"]
    assert all(event["reason"] for event in refusals)
    by_alert = {event["alert"]: event for event in refusals if event["alert"] is not None}
    by_code = {event["code"]: event for event in refusals if event["code"] is not None}
    assert (sorted(by_alert), sorted(by_code)) == ([45, 48], [16, 17])
    # The expired one tries again, and its stop may come in the middle of that: a handshake that nobody has refused.
    verdicts = [event for event in refusals if event["alert"] is not None or event["code"] is not None]
    assert len([event for event in verdicts if event["alert"] != 45]) == 3, refusals
    assert (by_code[16]["spnEndPoint"], by_code[16]["serviceUrn"]) == ("CN=somebody", world.urn())
    assert (by_code[17]["spnEndPoint"], by_code[17]["serviceUrn"]) == ("CN=provider", world.urn("nothing"))
    # What the agent says is what the log says.
    assert by_code[16]["reason"] in somebody
    assert by_code[17]["reason"] in nothing
    await world.end()
