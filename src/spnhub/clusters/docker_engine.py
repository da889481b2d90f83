"""``docker:``: a container of the local Docker engine per service, named ``spn_{serviceId}``.

On the Docker SDK, in threads of this manager's own, so that an engine that hangs delays nothing else. The engine is
that of ``DOCKER_HOST``, else the usual socket. A missing container is created from ``image`` (pulled if need be),
``command``, ``env``, ``options`` (:mod:`spnhub.clusters.docker_options`) and ``mountPoints``: named volumes
``spn_{serviceId}_{index}``, which stay, and have no size to set. One that was created by an earlier definition is
replaced when it is next started; one that was created by hand, without this manager's label, is started as it is.
A stopped container is kept. Counterpart: :mod:`spnhub.clusters.managers`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import docker
import requests
import structlog
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container
from docker.types import Mount

from spnhub.clusters.docker_options import parse_options
from spnhub.clusters.http_status import may_pass
from spnhub.clusters.task import ClusterError, ServiceTask

__all__ = ["DockerManager", "container_name"]

_SERVICE_LABEL: Final = "spnhub.service"
_DEFINITION_LABEL: Final = "spnhub.definition"
_SETTLING: Final = 3.0
"""Seconds for another hub that is just creating or removing the container: its name is taken before it can be seen."""

_log = structlog.get_logger(__name__)


def container_name(service_id: str) -> str:
    """``spn_{serviceId}`` with everything but ASCII letters and digits replaced by ``_``."""
    return "spn_" + re.sub(r"[^0-9A-Za-z]", "_", service_id)


class DockerManager:
    """Runs containers on one engine."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        answer_timeout: int = 10,
        start_timeout: float = 50.0,
        grace: int = 10,
    ) -> None:
        """Nothing is connected yet.

        :param base_url: of the engine, such as ``unix:///run/docker.sock``; None: as the environment says.
        :param answer_timeout: seconds until the engine must say something.
        :param start_timeout: seconds for a start as a whole, the pull of an image included.
        :param grace: seconds between SIGTERM and SIGKILL.
        """
        self._base_url = base_url
        self._answer_timeout = answer_timeout
        self._start_timeout = start_timeout
        self._grace = grace
        self._client: docker.DockerClient | None = None
        self._connecting = threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="docker")

    async def start(self, task: ServiceTask) -> None:
        deadline = time.monotonic() + self._start_timeout
        await self._in_thread(task, self._start_timeout, lambda client: self._start(client, task, deadline))

    async def stop(self, task: ServiceTask) -> None:
        # The engine answers a stop when the container has ended.
        timeout = self._grace + 2 * self._answer_timeout
        await self._in_thread(task, timeout, lambda client: self._stop(client, task))

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def _in_thread(self, task: ServiceTask, timeout: float, work: Callable[[docker.DockerClient], None]) -> None:
        """Bounded, though a thread itself can't be ended: it goes on until the engine's answer times out."""

        def connected() -> None:
            with self._connecting:
                if self._client is None:
                    self._client = self._connect()
                client = self._client
            work(client)

        name = container_name(task.service_id)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().run_in_executor(self._threads, connected)
        except TimeoutError:
            raise ClusterError(f"container {name}: Docker took longer than {timeout:g} s", retryable=True) from None
        except ImageNotFound as error:
            raise ClusterError(f"container {name}: no image {task.image}: {_said(error)}", retryable=False) from error
        except APIError as error:
            status = error.status_code or 500
            raise ClusterError(f"container {name}: {_said(error)}", retryable=may_pass(status)) from error
        except (DockerException, requests.RequestException, OSError) as error:
            raise ClusterError(f"container {name}: Docker cannot be reached: {error}", retryable=True) from error

    def _connect(self) -> docker.DockerClient:
        """A client that speaks the engine's version of the API.

        The SDK would ask for that version while a client is made, and leave the connection open when it fails.
        """
        with contextlib.closing(self._make_client(DEFAULT_DOCKER_API_VERSION)) as probe:
            version = probe.api.version(api_version=False)["ApiVersion"]
        return self._make_client(version)

    def _make_client(self, version: str) -> docker.DockerClient:
        if self._base_url is None:
            return docker.from_env(version=version, timeout=self._answer_timeout)
        return docker.DockerClient(base_url=self._base_url, version=version, timeout=self._answer_timeout)

    def _start(self, client: docker.DockerClient, task: ServiceTask, deadline: float) -> None:
        name = container_name(task.service_id)
        settings = _settings(task)
        settled = min(deadline, time.monotonic() + _SETTLING)
        while True:
            try:
                started = self._start_once(client, name, task, settings, deadline)
            except APIError as error:
                passing = error.status_code in {404, 409} and not isinstance(error, ImageNotFound)
                if not passing or time.monotonic() > settled:
                    raise
                time.sleep(0.1)
                continue
            if started:
                _log.info("service.container_started", service=task.urn, container=name)
            return

    @staticmethod
    def _start_once(
        client: docker.DockerClient, name: str, task: ServiceTask, settings: dict[str, Any], deadline: float
    ) -> bool:
        """One look and what follows from it; False: it runs already."""
        container = _find(client, name)
        if container is None:
            container = _create(client, name, task, settings, deadline)
        elif container.status == "paused":
            container.unpause()
            return True
        elif container.status in {"running", "restarting"}:
            return False
        elif container.labels.get(_DEFINITION_LABEL) not in {None, settings["labels"][_DEFINITION_LABEL]}:
            container.remove()
            container = _create(client, name, task, settings, deadline)
        container.start()
        return True

    def _stop(self, client: docker.DockerClient, task: ServiceTask) -> None:
        container = _find(client, container_name(task.service_id))
        if container is None or container.status in {"created", "exited", "dead"}:
            return
        if container.status == "paused":
            container.unpause()
        try:
            container.stop(timeout=self._grace)
        except NotFound:
            return
        _log.info("service.container_stopped", service=task.urn, container=container.name)


def _find(client: docker.DockerClient, name: str) -> Container | None:
    try:
        return client.containers.get(name)
    except NotFound:
        return None


def _create(
    client: docker.DockerClient, name: str, task: ServiceTask, settings: dict[str, Any], deadline: float
) -> Container:
    if not task.image:
        raise ClusterError("docker: needs an image", retryable=False)
    try:
        return client.containers.create(task.image, name=name, **settings)
    except ImageNotFound:
        _pull(client, task.image, deadline)
        return client.containers.create(task.image, name=name, **settings)


def _pull(client: docker.DockerClient, image: str, deadline: float) -> None:
    """Pull an image, until ``deadline`` on the monotonic clock: what was fetched is kept by the engine."""
    for line in client.api.pull(image, stream=True, decode=True):
        if "error" in line:
            # The engine says the rest of an answer 200 like this; it is most often that there is no such image.
            raise ClusterError(f"image {image} cannot be pulled: {line['error']}", retryable=True)
        if time.monotonic() > deadline:
            raise ClusterError(f"image {image} was not pulled in time", retryable=True)


def _settings(task: ServiceTask) -> dict[str, Any]:
    """What ``containers.create`` takes beside image and name, with the label by which definitions are compared."""
    try:
        options = parse_options(task.options)
    except ValueError as error:
        raise ClusterError(f"docker: {error}", retryable=False) from None
    name = container_name(task.service_id)
    settings: dict[str, Any] = {
        **options,
        "command": list(task.command) or None,
        "environment": dict(task.env),
        "mounts": [
            Mount(target=mount.target, source=f"{name}_{index}", type="volume")
            for index, mount in enumerate(task.mount_points)
        ],
    }
    canonical = json.dumps([task.image, settings], sort_keys=True).encode()
    labels = {_SERVICE_LABEL: task.urn, _DEFINITION_LABEL: hashlib.sha256(canonical).hexdigest()}
    return settings | {"labels": options.get("labels", {}) | labels}


def _said(error: APIError) -> str:
    said = error.explanation
    return (said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said or error))[:500]
