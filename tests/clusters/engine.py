"""A real Docker engine for tests: the one that answers already, else one of our own.

Our own is ``dockerd`` (Debian: docker.io), started as root with every path under a folder of the test's, no bridge and
no firewall rules, and an image made of nothing but a static busybox (Debian: busybox-static). Everything is bounded;
where no engine can run, :class:`EngineMissing` says why.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import requests
from docker.errors import DockerException

__all__ = ["IMAGE", "EngineMissing", "engine"]

IMAGE = "spnhub-test-busybox:1"
_BUSYBOX = Path("/bin/busybox")
_START_TIMEOUT = 30.0


class EngineMissing(Exception):
    """No engine, or nothing to make an image of; the message says which."""


@contextlib.contextmanager
def engine(folder: Path) -> Iterator[str]:
    """The URL of an engine that has :data:`IMAGE`.

    :raises EngineMissing: there is none and none can be started.
    """
    archive = _busybox_archive()
    with contextlib.ExitStack() as stack:
        url = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        if not _answers(url):
            url = stack.enter_context(_own(folder))
        client = docker.DockerClient(base_url=url, timeout=20)
        stack.callback(client.close)
        try:
            client.api.import_image_from_data(archive, *IMAGE.split(":"))
            stack.callback(_remove_all, client)
            client.containers.run(IMAGE, ["/bin/busybox", "true"], network="none", remove=True)
        except (DockerException, requests.RequestException) as error:
            raise EngineMissing(f"the engine runs no container: {error}") from error
        yield url


def _remove_all(client: docker.DockerClient) -> None:
    for container in client.containers.list(all=True, filters={"ancestor": IMAGE}):
        container.remove(force=True, v=True)
    for volume in client.volumes.list(filters={"name": "spn_hub_test"}):
        volume.remove(force=True)
    client.images.remove(IMAGE, force=True)


def _busybox_archive() -> bytes:
    if not _BUSYBOX.is_file():
        raise EngineMissing("no busybox to make an image of (Debian: busybox-static)")
    content = _BUSYBOX.read_bytes()
    # A program header of type 3, PT_INTERP, names a dynamic linker, which the image wouldn't have.
    table, size, count = (int.from_bytes(content[at : at + n], "little") for at, n in ((32, 8), (54, 2), (56, 2)))
    if any(content[table + size * index : table + size * index + 4] == b"\3\0\0\0" for index in range(count)):
        raise EngineMissing("busybox is not static (Debian: busybox-static)")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("bin/busybox")
        member.size, member.mode = len(content), 0o755
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@contextlib.contextmanager
def _own(folder: Path) -> Iterator[str]:
    program = shutil.which("dockerd")
    if program is None:
        raise EngineMissing("no engine answers and there is no dockerd (Debian: docker.io)")
    if os.geteuid() != 0:
        raise EngineMissing("no engine answers and only root can start one")
    url = f"unix://{folder}/socket"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(program, "--host", url, "--storage-driver", "vfs"),
                *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
                *("--pidfile", str(folder / "pid"), "--bridge", "none", "--iptables=false", "--ip6tables=false"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + _START_TIMEOUT
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                last = (folder / "log").read_text("utf-8", "replace").strip().splitlines()[-1:]
                raise EngineMissing(f"dockerd does not start: {''.join(last)[-300:]}")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            # containerd is in the same process group.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        # The name of the host's network is left mounted, and the folder could not be removed.
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if (mounted := line.split(" ")[1]).startswith(f"{folder}/"):
                subprocess.run(["umount", "--lazy", mounted], check=False, timeout=10)


def _answers(url: str) -> bool:
    if url.startswith("unix://") and not Path(url.removeprefix("unix://")).exists():
        return False
    try:
        client = docker.DockerClient(base_url=url, timeout=3)
    except (DockerException, requests.RequestException):
        return False
    client.close()
    return True
