"""``k8s:`` against a server that speaks the scale subresource over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from spnhub.clusters.kubernetes import KubernetesManager
from spnhub.clusters.task import ClusterError, ServiceTask
from tests.clusters.api_servers import Answer, FakeKubernetes, serving

pytestmark = pytest.mark.outside

PATH = "/apis/apps/v1/namespaces/shop/deployments/web/scale"


def task(service_id: str = "web") -> ServiceTask:
    return ServiceTask("urn:chip-in:service:acme:east:web", "k8s:", service_id)


@pytest.fixture(autouse=True)
def no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's own configuration is used; a test may write this file."""
    path = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


@pytest.fixture
async def server() -> AsyncIterator[FakeKubernetes]:
    async with serving(FakeKubernetes(replicas={"shop/web": 0})) as server:
        yield server


@pytest.fixture
async def manager(server: FakeKubernetes) -> AsyncIterator[KubernetesManager]:
    manager = KubernetesManager(server.url, "shop", timeout=5)
    yield manager
    await manager.close()


async def refusal(manager: KubernetesManager, service_id: str = "web") -> tuple[str, bool]:
    with pytest.raises(ClusterError) as caught:
        await manager.start(task(service_id))
    return caught.value.message, caught.value.retryable


async def test_start_and_stop(server: FakeKubernetes, manager: KubernetesManager) -> None:
    """A start scales to 1, a stop to 0, each with the version that was read; doing so again changes nothing."""
    await manager.start(task())
    assert server.replicas == {"shop/web": 1}
    await manager.start(task())
    await manager.stop(task())
    assert server.replicas == {"shop/web": 0}
    await manager.stop(task())
    assert server.calls == [
        ("GET", None),
        ("PATCH", {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 1}}),
        ("GET", None),
        ("GET", None),
        ("PATCH", {"metadata": {"resourceVersion": "2"}, "spec": {"replicas": 0}}),
        ("GET", None),
    ]
    assert {request.path for request in server.requests} == {PATH}


async def test_more_than_one_replica(server: FakeKubernetes, manager: KubernetesManager) -> None:
    """A start leaves a Deployment that others scaled up as it is; a stop ends all of it."""
    server.replicas["shop/web"] = 3
    await manager.start(task())
    assert server.replicas == {"shop/web": 3}
    await manager.stop(task())
    assert server.replicas == {"shop/web": 0}


async def test_a_conflict_is_looked_at_again(server: FakeKubernetes, manager: KubernetesManager) -> None:
    """A change by others in between makes the manager look again, and succeed."""
    server.scripted = [None, server.status(409, "Conflict", "the object has been modified")]
    await manager.start(task())
    assert (server.replicas, [method for method, _ in server.calls]) == (
        {"shop/web": 1},
        ["GET", "PATCH", "GET", "PATCH"],
    )


async def test_endless_conflicts(server: FakeKubernetes, manager: KubernetesManager) -> None:
    """Conflict after conflict is told to the caller, who may come back."""
    conflict = server.status(409, "Conflict", "the object has been modified")
    server.scripted = [None, conflict, None, conflict, None, conflict]
    assert await refusal(manager) == ("Deployment shop/web: others keep changing it", True)
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("answer", "message", "retryable"),
    [
        (FakeKubernetes.status(404, "NotFound", "gone"), "Deployment shop/web: 404 Not Found: gone", False),
        (FakeKubernetes.status(403, "Forbidden", "no get"), "Deployment shop/web: 403 Forbidden: no get", False),
        (Answer.text(401, "who are you"), "Deployment shop/web: 401 Unauthorized", False),
        (Answer(429), "Deployment shop/web: 429 Too Many Requests", True),
        (Answer.text(503, "<html>"), "Deployment shop/web: 503 Service Unavailable", True),
        (Answer(500, b"[]", None), "Deployment shop/web: 500 Internal Server Error", True),
        (Answer(307, b"", None), "Deployment shop/web: 307 Temporary Redirect", False),
    ],
)
async def test_refusals(
    server: FakeKubernetes, manager: KubernetesManager, answer: Answer, message: str, retryable: bool
) -> None:
    """What the API refuses is an error with its words; whether it may pass follows from the status."""
    server.scripted = [answer]
    assert await refusal(manager) == (message, retryable)
    server.scripted = [None, answer]
    assert await refusal(manager) == (message, retryable)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"null", b"", b'{"spec": 5}'])
async def test_not_kubernetes(server: FakeKubernetes, manager: KubernetesManager, body: bytes) -> None:
    """An answer that is none of Kubernetes is an error, not a crash."""
    server.scripted = [Answer(200, body)]
    message, retryable = await refusal(manager)
    assert (message.startswith("Deployment shop/web: not an answer of Kubernetes"), retryable) == (True, True)


async def test_unknown_deployment(server: FakeKubernetes, manager: KubernetesManager) -> None:
    """A Deployment that isn't there is named."""
    assert await refusal(manager, "other") == (
        'Deployment shop/other: 404 Not Found: deployments.apps "other" not found',
        False,
    )


@pytest.mark.parametrize("name", ["", "Web", "a/../b", "a b", "x" * 254])
async def test_names_that_no_deployment_has(server: FakeKubernetes, manager: KubernetesManager, name: str) -> None:
    """A serviceId that cannot be a name never becomes part of a URL."""
    message, retryable = await refusal(manager, name)
    assert ("cannot be the name of a Deployment" in message, retryable, server.requests) == (True, False, [])


async def test_silence(server: FakeKubernetes) -> None:
    """An API server that doesn't answer costs the bound and no more."""
    server.held = True
    manager = KubernetesManager(server.url, "shop", timeout=0.3)
    assert await refusal(manager) == ("Deployment shop/web: Kubernetes took longer than 0.3 s", True)
    await manager.close()


async def test_unreachable() -> None:
    """An API server that isn't there may come back."""
    manager = KubernetesManager("http://127.0.0.1:1", "shop", timeout=5)
    message, retryable = await refusal(manager)
    assert (message.startswith("Deployment shop/web: Kubernetes cannot be reached"), retryable) == (True, True)
    await manager.close()


def kubeconfig(server: str) -> str:
    return yaml.safe_dump(
        {
            "current-context": "here",
            "contexts": [
                {"name": "other", "context": {"cluster": "other", "user": "me"}},
                {"name": "here", "context": {"cluster": "here", "user": "me"}},
            ],
            "clusters": [
                {"name": "other", "cluster": {"server": "https://elsewhere.invalid"}},
                {"name": "here", "cluster": {"server": server}},
            ],
            "users": [{"name": "me", "user": {"token": "sesame"}}],
        }
    )


async def test_kubeconfig(server: FakeKubernetes, no_kubeconfig: Path) -> None:
    """Without an API URL the kubeconfig's current context says where, and with what token."""
    no_kubeconfig.write_text(kubeconfig(server.url))
    manager = KubernetesManager(None, "shop")
    await manager.start(task())
    await manager.close()
    assert server.replicas == {"shop/web": 1}
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer sesame"}


@pytest.mark.parametrize(("known", "sent"), [(True, "Bearer sesame"), (False, None)])
async def test_credentials_only_for_a_known_url(
    server: FakeKubernetes, no_kubeconfig: Path, known: bool, sent: str | None
) -> None:
    """A plain API URL gets the kubeconfig's credentials when the file names it, and nobody's otherwise."""
    no_kubeconfig.write_text(kubeconfig(server.url if known else "https://real.invalid"))
    manager = KubernetesManager(server.url + "/", "shop")
    await manager.start(task())
    await manager.close()
    assert {request.headers.get("authorization") for request in server.requests} == {sent}


@pytest.mark.parametrize("text", [None, "current-context: x", "- 1", "{"])
async def test_no_configuration(no_kubeconfig: Path, text: str | None) -> None:
    """No configuration, or a broken one, is an error that says so."""
    if text is not None:
        no_kubeconfig.write_text(text)
    manager = KubernetesManager(None, "shop")
    message, retryable = await refusal(manager)
    assert (message.startswith("no usable configuration for Kubernetes"), retryable) == (True, False)
