"""The HTTP of a running hub, and ``check --diff`` against it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from spnhub import __version__
from spnhub.actors.contract.inventory import Table, plan
from spnhub.inventory import load_inventory
from spnhub.ops.front import front_page
from spnhub.ops.state import read
from tests.hub.reloading import Document, ReloadWorld, hub_of, service
from tests.support.command import Command, run

pytestmark = pytest.mark.system

WEB = "urn:chip-in:service:acme:main:web"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ReloadWorld]:
    """A hub with its HTTP on."""
    async with ReloadWorld(tmp_path) as world:
        await world.start_hub("--ops", "127.0.0.1:0", "--allow-process")
        yield world


async def get(world: ReloadWorld, path: str) -> httpx2.Response:
    """One answer."""
    async with httpx2.AsyncClient(verify=False) as client:
        return await client.get(f"{await world.ops()}{path}")


async def test_before_and_after_the_inventory_is_there(tmp_path: Path) -> None:
    """A hub that waits for its inventory lives and isn't ready; /state and /metrics answer all the same."""
    async with ReloadWorld(tmp_path) as world:
        hub = await Command.start(
            "waiting hub",
            *("spnhub", "-c", "http://127.0.0.1:1", "--journal", str(world.journal), "--ops", "127.0.0.1:0"),
        )
        world.hub = hub
        try:
            await hub.line("inventory.unavailable")
            answers = [await get(world, path) for path in ("/healthz", "/readyz", "/metrics", "/state")]
            assert [answer.status_code for answer in answers] == [200, 503, 200, 200]
            assert answers[3].json()["sessions"] == []
        finally:
            assert await hub.stop() == 0
    assert hub.errors == []


async def test_health_schemas_and_what_is_not_there(world: ReloadWorld) -> None:
    """Ready when packets are taken; schemas by their ids; 404 for the rest."""
    answers = {path: await get(world, path) for path in ("/healthz", "/readyz", "/schemas/ids/1", "/schemas/ids/9999")}
    assert [answer.status_code for answer in answers.values()] == [200, 200, 200, 404]
    schema = json.loads(answers["/schemas/ids/1"].json()["schema"])
    assert (schema["type"], schema["name"]) == ("record", "SessionStarted") or schema["type"] == "record"
    assert (await get(world, "/nothing")).status_code == 404


async def test_the_front_page(world: ReloadWorld) -> None:
    """A plain page with links to what answers here, without scripts, which nobody may frame."""
    answer = await get(world, "/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    links = re.findall('href="([^"]+)"', answer.text)
    assert "spnlog console" in answer.text and len(links) == 5
    assert [(await get(world, link)).status_code for link in links] == [200] * 5
    # What an operator gives isn't trusted to be no HTML either.
    assert 'href="http://x/&quot;&gt;&lt;b&gt;"' in front_page('http://x/"><b>')


async def test_incidents_of_a_running_hub(world: ReloadWorld) -> None:
    """What ``spnlog incidents`` says of the journal it says of the hub itself; a hub that isn't there is named."""
    await world.start_provider(world.serve().address)
    stranger = await world.start_consumer(credentials=world.authority.client("nobody"), wait=False)
    assert await stranger.command.wait() == 1
    await world.hub.line("sessionRefused")
    reports = []
    for source in (await world.ops(), str(world.journal)):
        status, out, err = await run("spnlog", "incidents", "--json", source)
        assert (status, err) == (0, "")
        reports.append(json.loads(out)["incidents"])
    assert reports[0] == reports[1]
    assert [(one["kind"], one["code"]) for one in reports[0]] == [("session refused", "NOT_ALLOWED")]
    _, out, _ = await run("spnlog", "incidents", "--service", "web", await world.ops(), str(world.journal))
    assert out.count("session refused") == 2
    status, _, err = await run("spnlog", "incidents", "http://127.0.0.1:1")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("spnlog: source http://127.0.0.1:1: ")


async def test_metrics_follow_what_happens(world: ReloadWorld) -> None:
    """Sessions and connections by their labels, refusals, bytes, reloads, how far the journal is."""
    server = world.serve()
    await world.start_provider(server.address)
    consumer = await world.start_consumer()
    stranger = await world.start_consumer(credentials=world.authority.client("nobody"), wait=False)
    assert await stranger.command.wait() == 1
    ours, theirs = await world.join(consumer, server)
    await ours.send(b"12345")
    assert await theirs.receive(5) == b"12345"
    before = await metrics(world)
    ours.finish()
    theirs.finish()
    await world.hub.line("endSpnConnection")
    await world.renew()
    after = await metrics(world)
    session = "spnhub_sessions", ("realm", "acme"), ("service", WEB)
    connection = "spnhub_connections", ("realm", "acme"), ("service", WEB)
    assert before[(*session, ("type", "serviceProvider"))] == before[(*session, ("type", "serviceConsumer"))] == 1
    assert (before[connection], after.get(connection, 0)) == (1, 0)
    expiries = {
        dict(name[1:])["kind"]: days for name, days in after.items() if name[0].startswith("spnhub_certificate")
    }
    assert expiries.keys() == {"hub", "ca"}
    code = ("code", "16"), ("code_name", "NOT_ALLOWED")
    assert after[("spnhub_sessions_refused_total", *code, ("realm", "acme"), ("service", WEB))] == 1
    assert after["spnhub_bytes_total", ("direction", "sent"), ("realm", "acme"), ("service", WEB)] == 5
    assert after["spnhub_reloads_total", ("outcome", "applied")] == 1
    assert after[("spnhub_ready",)] == 1
    assert after[("spnhub_journal_lag_events",)] == 0


async def metrics(world: ReloadWorld) -> dict[tuple[Any, ...], float]:
    """Samples by name and labels."""
    text = (await get(world, "/metrics")).text
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_the_state_is_what_the_hub_decides_by(world: ReloadWorld) -> None:
    """The inventory can be read out of it without a difference; sessions and connections are in it by their names."""
    server = world.serve()
    world.change(
        lambda document: hub_of(document)["services"].append(
            service(
                "cold",
                "consumer",
                availabilityManagement={
                    "clusterManagerUrn": "process:",
                    "serviceId": "cold",
                    "command": ["true"],
                    "ondemandStartOnPayload": True,
                    "idleTimeout": 60,
                },
            )
        )
    )
    await world.renew()
    await world.start_provider(server.address)
    await world.join(await world.start_consumer(), server)
    state = await world.state()
    loaded = await load_inventory(world.inventory_file.as_uri(), bind=world.host)
    before = Table.of(read(state), 0)
    assert plan(before, Table.of(loaded.realms, 0, before)).differences == ()
    assert [(one["commonName"], one["endPointType"]) for one in state["sessions"]] == [
        ("provider", "serviceProvider"),
        ("consumer", "serviceConsumer"),
    ]
    (connection,) = state["connections"]
    assert [connection[f"{side}SideSpnSessionId"] for side in ("provider", "consumer")] == [
        one["spnSessionId"] for one in state["sessions"]
    ]
    assert all("certificates" not in one for one in state["sessions"])
    assert (state["run"]["version"], state["run"]["stoppedAt"]) == (__version__, None)
    with_certificates = await world.state(certificates="1")
    assert all(len(one["certificates"]) == 1 for one in with_certificates["sessions"])
    assert "PRIVATE" not in json.dumps(with_certificates)


async def test_diff_says_what_a_reload_then_does(world: ReloadWorld) -> None:
    """Differences and cuts, as text and as JSON, without touching the hub; then the reload cuts just those."""
    server = world.serve()
    await world.start_provider(server.address)
    consumer = await world.start_consumer()
    await world.join(consumer, server)
    ops = (await world.ops()).removeprefix("http://")
    check = ("spnhub", "check", "-c", world.inventory_file.as_uri(), "--diff", "--ops", ops)
    assert (await run(*check))[1].splitlines()[1:] == ["hub-1: a reload would change nothing"]

    def change(document: Document) -> None:
        services = hub_of(document)["services"]
        services[0]["consumers"] = ["another"]
        services.append(service("more", "consumer"))

    world.change(change)
    status, out, errors = await run(*check)
    (session,) = [one for one in (await world.state())["sessions"] if one["commonName"] == "consumer"]
    assert (status, errors) == (0, "")
    assert out.splitlines()[1:] == [
        f"changed service {WEB} (consumers)",
        "added service urn:chip-in:service:acme:main:more",
        (
            f"cuts session {session['spnSessionId']} of serviceConsumer CN=consumer of {WEB} with 1 connections: "
            f"'consumer' may not be a serviceConsumer of {WEB}"
        ),
        "hub-1: 2 differences, 1 sessions cut",
    ]
    report = json.loads((await run(*check, "--json"))[1])
    assert [cut["spnSessionId"] for cut in report["cuts"]] == [session["spnSessionId"]]
    assert not world.hub.said("endSpnSession") and not world.hub.said("reload.started")
    await world.renew()
    ended = await world.hub.line("endSpnSession")
    assert ended["spnSessionId"] == session["spnSessionId"]


async def test_diff_judges_a_new_ca(world: ReloadWorld) -> None:
    """Whom the realm's new CA doesn't vouch for would be cut, with the reason a handshake would give."""
    server = world.serve()
    await world.start_provider(server.address)
    ops = (await world.ops()).removeprefix("http://")
    world.change(
        lambda document: document["realms"][0].update(cacert=world.strangers.certificate.decode()),
    )
    report = json.loads(
        (await run("spnhub", "check", "-c", world.inventory_file.as_uri(), "--diff", "--ops", ops, "--json"))[1]
    )
    assert [(one["kind"], one["changed"]) for one in report["differences"]] == [("realm", ["clientCa"])]
    (cut,) = report["cuts"]
    assert cut["reason"].startswith("client certificate: unable to get local issuer certificate")


async def test_diff_of_a_faulty_inventory_names_the_faults(world: ReloadWorld) -> None:
    """Status 2: the reload would be rejected."""
    ops = (await world.ops()).removeprefix("http://")
    world.change(lambda document: hub_of(document)["services"][0].pop("provider"))
    check = ("spnhub", "check", "-c", world.inventory_file.as_uri(), "--diff", "--ops", ops)
    status, out, errors = await run(*check)
    assert (status, out) == (2, "")
    assert errors == f"{world.inventory_file}:1: service acme/main/web: provider is missing\n"
