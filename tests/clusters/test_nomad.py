"""``nomad:`` against a server that speaks the job scale API over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spnhub.clusters.nomad import NomadManager
from spnhub.clusters.task import ClusterError, ServiceTask
from tests.clusters.api_servers import Answer, FakeNomad, serving

pytestmark = pytest.mark.outside

WHERE = "Nomad job web, group cache"


def task(group: str | None = "cache") -> ServiceTask:
    return ServiceTask("urn:chip-in:service:acme:east:web", "nomad:", "web", image=group)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own settings are used."""
    monkeypatch.delenv("NOMAD_TOKEN", raising=False)
    monkeypatch.delenv("NOMAD_CACERT", raising=False)


@pytest.fixture
async def server() -> AsyncIterator[FakeNomad]:
    async with serving(FakeNomad(counts={"cache": 0})) as server:
        yield server


@pytest.fixture
async def manager(server: FakeNomad) -> AsyncIterator[NomadManager]:
    manager = NomadManager(f"{server.url}/v1/job/web", timeout=5)
    yield manager
    await manager.close()


async def refusal(manager: NomadManager, group: str | None = "cache") -> tuple[str, bool]:
    with pytest.raises(ClusterError) as caught:
        await manager.start(task(group))
    return caught.value.message, caught.value.retryable


def post(count: int, message: str) -> tuple[str, object]:
    return ("POST", {"Count": count, "Target": {"Group": "cache"}, "Message": message})


async def test_start_and_stop(server: FakeNomad, manager: NomadManager) -> None:
    """A start scales the group to 1, a stop to 0; doing so again asks for nothing."""
    await manager.start(task())
    assert server.counts == {"cache": 1}
    await manager.start(task())
    await manager.stop(task())
    assert server.counts == {"cache": 0}
    await manager.stop(task())
    assert server.calls == [
        ("GET", None),
        post(1, "started by spnhub"),
        ("GET", None),
        ("GET", None),
        post(0, "stopped by spnhub"),
        ("GET", None),
    ]


async def test_more_than_one(server: FakeNomad, manager: NomadManager) -> None:
    """A start leaves a group that others scaled up as it is; a stop ends all of it."""
    server.counts["cache"] = 3
    await manager.start(task())
    assert server.counts == {"cache": 3}
    await manager.stop(task())
    assert server.counts == {"cache": 0}


@pytest.mark.parametrize("first", [Answer.text(403, "Permission denied"), Answer.json(200, []), Answer.text(200, "?")])
async def test_without_reading(server: FakeNomad, manager: NomadManager, first: Answer) -> None:
    """A token that may scale but not read is enough: the POST alone decides."""
    server.scripted = [first]
    await manager.start(task())
    assert server.counts == {"cache": 1}


async def test_active_deployment(server: FakeNomad, manager: NomadManager) -> None:
    """While a deployment is active Nomad refuses to scale: that passes, and disturbs nobody who has what he wants."""
    server.deploying = True
    text = f"{WHERE}: 400 Bad Request: job scaling blocked due to active deployment"
    assert await refusal(manager) == (text, True)
    server.counts["cache"] = 1
    await manager.start(task())


async def test_stopped_job(server: FakeNomad, manager: NomadManager) -> None:
    """A group of a stopped job can't be started; stopping it is no error."""
    server.stopped = True
    assert await refusal(manager) == (f"{WHERE}: the job is stopped", False)
    await manager.stop(task())


@pytest.mark.parametrize(
    ("answer", "message", "retryable"),
    [
        (Answer.text(404, 'job "web" not found'), '404 Not Found: job "web" not found', False),
        (Answer.text(403, "Permission denied"), "403 Forbidden: Permission denied", False),
        (Answer.text(409, "conflict"), "409 Conflict: conflict", True),
        (Answer.text(429, ""), "429 Too Many Requests", True),
        (Answer.text(500, "No cluster leader"), "500 Internal Server Error: No cluster leader", True),
        (Answer.text(307, ""), "307 Temporary Redirect", False),
    ],
)
async def test_refusals(
    server: FakeNomad, manager: NomadManager, answer: Answer, message: str, retryable: bool
) -> None:
    """What Nomad refuses is an error with its words; whether it may pass follows from the status."""
    server.scripted = [None, answer]
    assert await refusal(manager) == (f"{WHERE}: {message}", retryable)


async def test_unknown_group(manager: NomadManager) -> None:
    """A task group that isn't there is named."""
    assert await refusal(manager, "other") == (
        'Nomad job web, group other: 400 Bad Request: task group "other" specified for scaling does not exist in job',
        False,
    )


async def test_no_group(server: FakeNomad, manager: NomadManager) -> None:
    """Without an image there is no group to scale."""
    assert await refusal(manager, None) == ("nomad: needs the task group's name as image", False)
    assert server.requests == []


@pytest.mark.parametrize(
    ("tail", "path", "query"),
    [
        ("/v1/job/web/", "/v1/job/web/scale", {}),
        ("/v1/job/web?namespace=shop&region=eu", "/v1/job/web/scale", {"namespace": ["shop"], "region": ["eu"]}),
        ("/proxy/v1/job/web", "/proxy/v1/job/web/scale", {}),
        ("/v1/job/web%2Fdispatch-1", "/v1/job/web%2Fdispatch-1/scale", {}),
    ],
)
async def test_job_urls(server: FakeNomad, tail: str, path: str, query: dict[str, list[str]]) -> None:
    """``/scale`` is added to the path; a query stays, and so does an escaped slash."""
    manager = NomadManager(server.url + tail)
    server.scripted = [Answer.json(200, {}), Answer.json(200, {})]
    await manager.start(task())
    await manager.close()
    assert [(request.method, request.path, request.query) for request in server.requests] == [
        ("GET", path, query),
        ("POST", path, query),
    ]


async def test_token(server: FakeNomad, monkeypatch: pytest.MonkeyPatch) -> None:
    """NOMAD_TOKEN is sent along."""
    server.token = "sesame"
    manager = NomadManager(f"{server.url}/v1/job/web")
    assert await refusal(manager) == (f"{WHERE}: 403 Forbidden: Permission denied", False)
    await manager.close()
    monkeypatch.setenv("NOMAD_TOKEN", "sesame")
    manager = NomadManager(f"{server.url}/v1/job/web")
    await manager.start(task())
    await manager.close()
    assert server.counts == {"cache": 1}


async def test_silence(server: FakeNomad) -> None:
    """A server that doesn't answer costs the bound and no more."""
    server.held = True
    manager = NomadManager(f"{server.url}/v1/job/web", timeout=0.3)
    assert await refusal(manager) == (f"{WHERE}: Nomad took longer than 0.3 s", True)
    await manager.close()


async def test_unreachable() -> None:
    """A server that isn't there may come back."""
    manager = NomadManager("http://127.0.0.1:1/v1/job/web", timeout=5)
    message, retryable = await refusal(manager)
    assert (message.startswith(f"{WHERE}: Nomad cannot be reached"), retryable) == (True, True)
    await manager.close()


async def test_unreadable_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An NOMAD_CACERT that can't be read is named."""
    monkeypatch.setenv("NOMAD_CACERT", str(tmp_path / "none.pem"))
    message, retryable = await refusal(NomadManager("https://127.0.0.1:1/v1/job/web"))
    assert (message.startswith("NOMAD_CACERT"), retryable) == (True, False)
