"""Apache Kafka in a container, through testcontainers.

Counterpart: :mod:`tests.support.kafka`. Everything asked of the engine is bounded in time: an engine that hangs, or an
image that cannot be had soon, only means that the next way to a broker is tried.
"""

from __future__ import annotations

import os
import socket
import subprocess

from testcontainers.core.container import DockerContainer

from spnhub.demo.site import free_port
from tests.support.kafka import KafkaBroker
from tests.support.kafka_jars import KAFKA, SETTINGS

__all__ = ["DockerBroker", "DockerMissing"]

IMAGE = os.environ.get("SPNHUB_TEST_KAFKA_IMAGE", f"apache/kafka:{KAFKA}")
_ANSWER_TIMEOUT = 3
_PULL_TIMEOUT = 90.0


class DockerMissing(Exception):
    """No engine, or no image; the message says which."""


class DockerBroker(KafkaBroker):
    """A container of our own with a fixed host port."""

    def __init__(self) -> None:
        # The clean-up container is another image to pull; close() removes the one container there is.
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
        self.description = f"Apache Kafka in Docker, image {IMAGE}"
        self._port = free_port(socket.SOCK_STREAM)
        self._container: DockerContainer | None = None

    @classmethod
    def find(cls) -> DockerBroker:
        """The broker, not started yet.

        :raises DockerMissing: no engine answers, or the image is not there and cannot be pulled.
        """
        why = _engine_problem()
        if why is not None:
            raise DockerMissing(why)
        return cls()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self, *, wait: bool = True) -> None:
        if self._container is None:
            container = DockerContainer(IMAGE).with_bind_ports(9092, self._port)
            settings = SETTINGS | {
                "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
                "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
                "controller.quorum.voters": "1@localhost:9093",
            }
            for name, value in settings.items():
                container = container.with_env(f"KAFKA_{name.upper().replace('.', '_')}", value)
            self._container = container.start()
        else:
            container = self._container.get_wrapped_container()
            container.reload()
            if container.status == "paused":
                container.unpause()
            container.start()
        if wait:
            self.wait_ready()

    def stop(self) -> None:
        if self._container is not None:
            self._container.get_wrapped_container().stop(timeout=20)

    def kill(self) -> None:
        if self._container is not None:
            self._container.get_wrapped_container().kill()
            self._container.get_wrapped_container().wait()

    def pause(self) -> None:
        assert self._container is not None
        self._container.get_wrapped_container().pause()

    def unpause(self) -> None:
        assert self._container is not None
        self._container.get_wrapped_container().unpause()

    def wipe(self) -> None:
        self.close()

    def close(self) -> None:
        if self._container is not None:
            self._container.stop(force=True)
            self._container = None


def _engine_problem() -> str | None:
    """What stands in the way of a container, or None. Takes at most the two timeouts."""
    try:
        _docker("version", "--format", "{{.Server.Version}}", timeout=_ANSWER_TIMEOUT)
    except FileNotFoundError:
        return "no docker command"
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return "no engine answers"
    try:
        _docker("image", "inspect", IMAGE, timeout=_ANSWER_TIMEOUT)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        try:
            _docker("pull", "--quiet", IMAGE, timeout=_PULL_TIMEOUT)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return f"image {IMAGE} cannot be pulled"
    return None


def _docker(*arguments: str, timeout: float) -> None:
    # No pipes: a grandchild that keeps one open would hold us beyond the timeout.
    subprocess.run(
        ["docker", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=timeout, check=True
    )
