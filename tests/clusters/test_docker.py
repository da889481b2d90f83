"""``docker:`` for real, where an engine can be had."""

from __future__ import annotations

import asyncio
import gc
import socket
import tempfile
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import httpx2
import pytest

from spnhub.clusters.docker_engine import DockerManager, container_name
from spnhub.clusters.docker_options import parse_options
from spnhub.clusters.task import ClusterError, ServiceTask, TaskMount
from spnhub.demo.site import free_port
from tests.clusters.engine import IMAGE, EngineMissing, engine

pytestmark = pytest.mark.outside

URN = "urn:chip-in:service:acme:east:web"
SLEEP = ("/bin/busybox", "sleep", "600")

Make = Callable[..., ServiceTask]


@pytest.fixture(autouse=True)
def _sockets_of_the_client_library_are_gone() -> Iterator[None]:
    """It leaves some to the garbage collector, which would complain of them in the middle of a later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def engine_url() -> Iterator[str]:
    # A socket's path has room for some hundred bytes only, which a nested temporary folder may exceed.
    with tempfile.TemporaryDirectory(prefix="spn-", ignore_cleanup_errors=True) as folder:
        try:
            running = engine(Path(folder))
            url = running.__enter__()
        except EngineMissing as missing:
            pytest.skip(f"Docker: {missing}")
        try:
            yield url
        finally:
            running.__exit__(None, None, None)


@pytest.fixture
async def manager(engine_url: str) -> AsyncIterator[DockerManager]:
    manager = DockerManager(engine_url, start_timeout=20, grace=1)
    yield manager
    await manager.close()


@pytest.fixture
def client(engine_url: str) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=engine_url, timeout=20)
    yield client
    client.close()


@pytest.fixture
def make(client: docker.DockerClient, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes tasks of a service of this test's own, whose container is removed in the end."""
    service_id = f"hub-test.{request.node.name}"

    def make(**settings: Any) -> ServiceTask:
        return ServiceTask(
            URN, "docker:", service_id, **{"image": IMAGE, "command": SLEEP, "options": ("--network=none",)} | settings
        )

    yield make
    for container in client.containers.list(all=True, filters={"name": container_name(service_id)}):
        container.remove(force=True, v=True)


def find(client: docker.DockerClient, task: ServiceTask) -> Any:
    return client.containers.get(container_name(task.service_id))


async def refusal(manager: DockerManager, task: ServiceTask) -> tuple[str, bool]:
    with pytest.raises(ClusterError) as caught:
        await manager.start(task)
    return caught.value.message, caught.value.retryable


async def test_start_stop_start(manager: DockerManager, client: docker.DockerClient, make: Make) -> None:
    """A container is created and started; starting what runs and stopping what doesn't change nothing; then again."""
    task = make()
    await manager.stop(task)
    await manager.start(task)
    first = find(client, task)
    started = first.attrs["State"]["StartedAt"]
    await manager.start(task)
    again = find(client, task)
    assert (again.id, again.status, again.attrs["State"]["StartedAt"]) == (first.id, "running", started)
    await manager.stop(task)
    assert find(client, task).status == "exited"
    await manager.stop(task)
    await manager.start(task)
    last = find(client, task)
    assert (last.id, last.status) == (first.id, "running")


async def test_definition(manager: DockerManager, client: docker.DockerClient, make: Make) -> None:
    """Image, command, environment, volumes and options are the definition's."""
    task = make(
        env={"COLOUR": "blue", "DEBUG": "true"},
        mount_points=(TaskMount(1, "/data"), TaskMount(2, "/cache")),
        options=("--network=none", "--hostname web", "--memory", "64m"),
    )
    await manager.start(task)
    attrs = find(client, task).attrs
    assert {
        "image": attrs["Config"]["Image"],
        "command": attrs["Config"]["Cmd"],
        "env": {"COLOUR=blue", "DEBUG=true"} <= set(attrs["Config"]["Env"]),
        "host": attrs["Config"]["Hostname"],
        "memory": attrs["HostConfig"]["Memory"],
        "network": attrs["HostConfig"]["NetworkMode"],
        "volumes": sorted((mount["Type"], mount["Name"], mount["Destination"]) for mount in attrs["Mounts"]),
        "service": attrs["Config"]["Labels"]["spnhub.service"],
    } == {
        "image": IMAGE,
        "command": list(SLEEP),
        "env": True,
        "host": "web",
        "memory": 64 * 1024 * 1024,
        "network": "none",
        "volumes": [
            ("volume", "spn_hub_test_test_definition_0", "/data"),
            ("volume", "spn_hub_test_test_definition_1", "/cache"),
        ],
        "service": URN,
    }


async def test_a_changed_definition(manager: DockerManager, client: docker.DockerClient, make: Make) -> None:
    """A running container is left alone; the next start after a stop takes the new definition."""
    await manager.start(make(env={"COLOUR": "blue"}))
    first = find(client, make()).id
    changed = make(env={"COLOUR": "red"})
    await manager.start(changed)
    assert find(client, changed).id == first
    await manager.stop(changed)
    await manager.start(changed)
    last = find(client, changed)
    assert (last.id != first, last.status, "COLOUR=red" in last.attrs["Config"]["Env"]) == (True, "running", True)


async def test_a_container_made_by_hand(manager: DockerManager, client: docker.DockerClient, make: Make) -> None:
    """A container that somebody else created under the name is started as it is, without an image too."""
    task = make(image=None, env={"COLOUR": "red"})
    made = client.containers.create(IMAGE, list(SLEEP), name=container_name(task.service_id), network="none")
    await manager.start(task)
    found = find(client, task)
    assert (found.id, found.status) == (made.id, "running")


async def test_paused(manager: DockerManager, client: docker.DockerClient, make: Make) -> None:
    """A paused container is started by going on, and can be stopped."""
    task = make()
    await manager.start(task)
    find(client, task).pause()
    await manager.start(task)
    assert find(client, task).status == "running"
    find(client, task).pause()
    await manager.stop(task)
    assert find(client, task).status == "exited"


async def test_two_hubs_at_once(engine_url: str, client: docker.DockerClient, make: Make) -> None:
    """Hubs that start the same service at once make one container, and none of them fails."""
    task = make()
    managers = [DockerManager(engine_url, grace=1) for _ in range(4)]
    await asyncio.gather(*(manager.start(task) for manager in managers))
    for manager in managers:
        await manager.close()
    assert find(client, task).status == "running"


async def test_serves(manager: DockerManager, make: Make) -> None:
    """A service in a container answers HTTP after a start, no longer after a stop, and again after a start."""
    port = free_port(socket.SOCK_STREAM)
    serve = (
        f"/bin/busybox mkdir -p /www && echo -n hello > /www/index.html && exec /bin/busybox httpd -f -p {port} -h /www"
    )
    task = make(command=("/bin/busybox", "sh", "-c", serve), options=("--network=host",))
    async with httpx2.AsyncClient() as http:
        for _ in range(2):
            await manager.start(task)
            assert await fetch(http, f"http://127.0.0.1:{port}/") == "hello"
            await manager.stop(task)
            with pytest.raises(httpx2.ConnectError):
                await http.get(f"http://127.0.0.1:{port}/")


async def fetch(http: httpx2.AsyncClient, url: str) -> str:
    """What is at ``url``, once the server listens."""
    async with asyncio.timeout(20):
        while True:
            try:
                return (await http.get(url)).text
            except httpx2.TransportError:
                await asyncio.sleep(0.02)


async def test_a_missing_image(manager: DockerManager, make: Make) -> None:
    """An image that is neither here nor to be pulled is an error that names it."""
    message, _ = await refusal(manager, make(image="registry.invalid/nobody/nothing:1"))
    assert "registry.invalid" in message


async def test_no_image(manager: DockerManager, make: Make) -> None:
    """Without an image no container can be created."""
    assert await refusal(manager, make(image=None)) == ("docker: needs an image", False)


async def test_a_command_that_is_not_there(manager: DockerManager, make: Make) -> None:
    """A command that can't be executed is an error with the engine's words."""
    message, _ = await refusal(manager, make(command=("/nowhere",)))
    assert "/nowhere" in message


async def test_a_faulty_option(manager: DockerManager, make: Make) -> None:
    """An option that is not taken is named, and nothing is created."""
    message, retryable = await refusal(manager, make(options=("--privileged",)))
    assert (message.startswith("docker: option '--privileged' is none of"), retryable) == (True, False)


def plain(**settings: Any) -> ServiceTask:
    return ServiceTask(URN, "docker:", "web", **{"image": IMAGE} | settings)


# The SDK leaves a socket that failed to the garbage collector.
socket_left = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@socket_left
async def test_no_engine(tmp_path: Path) -> None:
    """An engine that isn't there may come back."""
    manager = DockerManager(f"unix://{tmp_path}/none")
    message, retryable = await refusal(manager, plain())
    assert (message.startswith("container spn_web: Docker cannot be reached"), retryable) == (True, True)
    await manager.close()
    gc.collect()


@socket_left
@pytest.mark.parametrize(("answer_timeout", "start_timeout"), [(1, 30.0), (30, 0.5)])
async def test_a_silent_engine(answer_timeout: int, start_timeout: float) -> None:
    """An engine that accepts and never answers costs the smaller bound."""
    ended = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    with tempfile.TemporaryDirectory(prefix="spn-") as folder:
        async with await asyncio.start_unix_server(hold, f"{folder}/socket"):
            manager = DockerManager(
                f"unix://{folder}/socket", answer_timeout=answer_timeout, start_timeout=start_timeout
            )
            async with asyncio.timeout(10):
                message, retryable = await refusal(manager, plain())
            ended.set()
            await manager.close()
            async with asyncio.timeout(10):
                while any(thread.name.startswith("docker") for thread in threading.enumerate()):
                    await asyncio.sleep(0.01)
    gc.collect()
    assert (message.startswith("container spn_web: Docker"), retryable) == (True, True)


@pytest.mark.parametrize(
    ("service_id", "name"),
    [("web", "spn_web"), ("shop/web-1.2", "spn_shop_web_1_2"), ("käse", "spn_k_se"), ("a_b", "spn_a_b")],
)
def test_container_name(service_id: str, name: str) -> None:
    """Everything but ASCII letters and digits becomes an underscore."""
    assert container_name(service_id) == name


def test_options() -> None:
    """The options that are taken, in the ways they are written."""
    words = [
        *("--network=web", "-p 8080:80", "--publish", "127.0.0.1:53:53/udp", "--add-host", "hub:10.0.0.1"),
        *("--dns=10.0.0.2", "--dns 10.0.0.3", "-u 1000", "-w", "/srv", "--entrypoint=/run", "--cpus=1.5", "-l a=b=c"),
    ]
    assert parse_options(words) == {
        "network": "web",
        "ports": {"80/tcp": 8080, "53/udp": ("127.0.0.1", 53)},
        "extra_hosts": {"hub": "10.0.0.1"},
        "dns": ["10.0.0.2", "10.0.0.3"],
        "user": "1000",
        "working_dir": "/srv",
        "entrypoint": "/run",
        "nano_cpus": 1_500_000_000,
        "labels": {"a": "b=c"},
    }


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--privileged"], "--privileged"),
        (["-v /:/host"], "'-v'"),
        (["--network"], "has no value"),
        (["--network="], "has no value"),
        (["--network=container:other"], "another container"),
        (["-p 80"], "PORT:PORT"),
        (["-p 80:80/ftp"], "PORT:PORT"),
        (["--add-host=hub"], "NAME:VALUE"),
        (["--cpus=many"], "--cpus"),
    ],
)
def test_options_that_are_not_taken(words: list[str], problem: str) -> None:
    """An option that is unknown or faulty is named."""
    with pytest.raises(ValueError, match="option") as caught:
        parse_options(words)
    assert problem in str(caught.value)
