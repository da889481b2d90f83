"""A service in a real container (D-29): the first request starts it, idleness stops it, the next starts it again.

The image is made of what is at hand: the Python that runs the tests, its packages and their shared libraries, at the
same paths. The container shares the host's network, as the hub runs beside the engine.
"""

from __future__ import annotations

import io
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

import spnhub
from tests.clusters.engine import EngineMissing, engine
from tests.support.command import BIN
from tests.support.world import World
from tests.system.sizes import report
from tests.system.test_on_demand import get, on_demand, story

IMAGE = "spnhub-test-python:1"
_LEFT_OUT = {
    *("test", "tests", "idlelib", "ensurepip", "tkinter", "__pycache__", Path(sysconfig.get_config_var("LIBPL")).name),
    # What only tests use, and is large.
    *(
        "mypy",
        "mypyc",
        "ruff",
        "hypothesis",
        "chdb",
        "numpy",
        "numpy.libs",
        "pandas",
        "pandas.libs",
        "pyarrow",
        "pyarrow.libs",
    ),
    *("atheris", "babel", "datastore", "docutils", "grimp", "pip", "promql_parser", "pygments", "setuptools", "sphinx"),
}


def _libraries(binaries: list[Path]) -> set[Path]:
    """The shared libraries that programs and extension modules want, the dynamic linker among them."""
    found: set[Path] = set()
    said = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=False).stdout
    for word in said.split():
        if word.startswith("/") and not word.endswith(":"):
            found.add(Path(word))
    return found


class _Forgetful(dict[object, object]):
    """Keeps nothing."""

    def __setitem__(self, key: object, value: object) -> None:
        pass


def _links(path: Path) -> Iterator[Path]:
    """A path and what it leads to, link by link: a venv's ``python`` may be two of them away from the program."""
    yield path
    while path.is_symlink():
        path = path.parent / path.readlink()
        yield path


def _archive() -> bytes:
    python = Path(sys.executable).resolve()
    standard, packages = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))
    project = Path(spnhub.__file__).resolve().parents[2]
    trees = [standard, packages, *(project / name for name in ("src", "actors", "transport", "events", "schemas"))]
    extensions = [*(standard / "lib-dynload").glob("*.so"), *packages.rglob("*.so")]
    extensions = [file for file in extensions if not _LEFT_OUT.intersection(file.parts)]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        # Each file whole: what another of its names is left out can't be a link to it.
        archive.inodes = _Forgetful()  # type: ignore[attr-defined]

        def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
            return None if Path(member.name).name in _LEFT_OUT or "site-packages" in member.name[-14:] else member

        for tree in trees:
            inside = tree is packages
            for part in sorted(tree.iterdir()) if inside else [tree]:
                archive.add(part, str(part).lstrip("/"), filter=wanted)
        for file in {python, *_links(Path(sys.executable)), BIN / "spnagent", BIN.parent / "pyvenv.cfg"}:
            archive.add(file, str(file).lstrip("/"))
        for library in _libraries([python, *extensions]):
            if packages in library.parents:
                continue  # it is there already
            archive.add(library.resolve(), str(library).lstrip("/"))
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        archive.addfile(folder)
    return buffer.getvalue()


@pytest.fixture
def image(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An image with this Python, in an engine that the hub finds."""
    with tempfile.TemporaryDirectory(prefix="spn-", ignore_cleanup_errors=True) as folder:
        running = engine(Path(folder))
        try:
            url = running.__enter__()
        except EngineMissing as missing:
            pytest.skip(f"Docker: {missing}")
        try:
            monkeypatch.setenv("DOCKER_HOST", url)
            client = docker.DockerClient(base_url=url, timeout=120)
            client.api.import_image_from_data(_archive(), *IMAGE.split(":"))
            yield IMAGE
            for container in client.containers.list(all=True, filters={"ancestor": IMAGE}):
                container.remove(force=True, v=True)
            client.images.remove(IMAGE, force=True)
            client.close()
        finally:
            running.__exit__(None, None, None)


@pytest.mark.timeout(300)
async def test_cold_start_idle_stop_and_again_in_a_container(world: World, image: str) -> None:
    """As with ``process:``, on a real Docker engine: the bytes of the first request wait for the container."""
    mine = world.authority.client("provider")
    on_demand(
        world,
        clusterManagerUrn="docker:",
        image=image,
        ondemandStartOnPayload=True,
        idleTimeout=2,
    )
    management = world.service()["availabilityManagement"]
    program = (world.folder / "service.py").read_text()
    management["command"] = [sys.executable, "-c", program, str(BIN / "spnagent")]
    management["options"] = ["--network=host"]
    management["env"] |= {
        "SPN_CERTIFICATE": mine.certificate.decode(),
        "SPN_CERTIFICATE_KEY": mine.key.decode(),
        "SPN_TRUST": world.authority.certificate.decode(),
    }
    world.write_inventory()
    hub = await world.start_hub()
    consumer = await world.start_consumer()
    _, seen, cold = await get(consumer, "/cold")
    assert seen == "/cold"
    _, _, warm = await get(consumer, "/warm")
    await hub.line("serviceStopped", timeout=90)
    _, seen, again = await get(consumer, "/again")
    assert seen == "/again"
    report(cold=f"{cold:.1f} s", warm=f"{warm * 1000:.0f} ms", again=f"{again:.1f} s")
    await hub.line("serviceStopped", nth=2, timeout=90)
    await world.end()
    names = [event for event, _ in story(await world.events())]
    life = ["serviceStartRequested", "serviceStarted", "serviceStopRequested", "serviceStopped"]
    assert names == life * 2
