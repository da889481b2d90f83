"""What is released: an sdist with all that tests need, a wheel with all that runs, and the files that release them."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

_ROOT = Path(__file__).parents[1]
_ADDRESS = "https://example.org/group/spn-hub"
_WORKFLOWS = sorted((_ROOT / ".github" / "workflows").glob("*.yml"))


def _tracked(*folders: str) -> set[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z", *folders], cwd=_ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    return {name for name in done.stdout.split("\0") if name}


@pytest.mark.parametrize("path", _WORKFLOWS, ids=lambda path: path.name)
def test_workflows(path: Path) -> None:
    """They run what there is: targets of the Makefile, scripts of the repository; and may do nothing by default."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    targets = set(re.findall(r"^([a-z-]+):", (_ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        needed = job.get("needs", [])
        assert set([needed] if isinstance(needed, str) else needed) <= workflow["jobs"].keys(), name
        for step in job["steps"]:
            # An action is one of a release, or of a release's branch.
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step.get("uses", "a/b@v1")), step
            for target in re.findall(r"\bmake (\w+)", step.get("run", "")):
                assert target in targets
            for script in re.findall(r"\bbash (\S+)", step.get("run", "")):
                assert (_ROOT / script).is_file()
    assert _WORKFLOWS


def test_address(tmp_path: Path) -> None:
    """The repository names none; what is published has URLs, and a README whose links work anywhere."""
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(_ROOT / name, tmp_path)
    assert "urls" not in tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runpy.run_path(str(_ROOT / ".ci" / "address.py"))["main"](tmp_path, _ADDRESS)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["urls"].keys() == {"Source", "Issues", "Documentation", "Changelog"}
    assert all(url.startswith(_ADDRESS) for url in project["urls"].values())
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]*)\)", readme)
    assert len(targets) > 10
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    ours = {target.removeprefix(f"{_ADDRESS}/blob/v{project['version']}/") for target in targets if _ADDRESS in target}
    assert [target for target in ours if not (_ROOT / target.partition("#")[0]).exists()] == []


@pytest.mark.prove
@pytest.mark.outside
@pytest.mark.timeout(300)
def test_what_is_published(tmp_path: Path) -> None:
    """``make dist ADDRESS=…`` in a clone: the wheel's metadata has it."""
    subprocess.run(["git", "clone", "--quiet", str(_ROOT), str(tmp_path / "clone")], timeout=60, check=True)
    programs = Path(sys.executable).parent
    command = ["make", "dist", "--old-file=install-dev", f"BIN={programs}", f"ADDRESS={_ADDRESS}"]
    subprocess.run(command, cwd=tmp_path / "clone", capture_output=True, timeout=240, check=True)
    (wheel,) = (tmp_path / "clone" / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        (metadata,) = (name for name in packed.namelist() if name.endswith(".dist-info/METADATA"))
        text = packed.read(metadata).decode()
    assert f"Project-URL: Source, {_ADDRESS}\n" in text
    assert "](docs/" not in text and f"]({_ADDRESS}/blob/v" in text


@pytest.mark.prove
@pytest.mark.outside
@pytest.mark.timeout(300)
def test_sdist_and_wheel(tmp_path: Path) -> None:
    """The sdist has every file of the repository but what is CI's own; the wheel has every module and schema."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(_ROOT)],
        capture_output=True,
        timeout=240,
        check=True,
    )
    (sdist,) = tmp_path.glob("*.tar.gz")
    (wheel,) = tmp_path.glob("*.whl")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    wanted = _tracked("actors", "events", "transport", "schemas", "tests", "compose", "docs")
    assert wanted - held == set()
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    for folder in ("actors", "events", "transport"):
        modules = {f"spnhub/{name}" for name in _tracked(folder) if name.endswith(".py")}
        assert {name for name in modules if "native_engine/prepare" not in name} <= names
    assert {f"spnhub/{name}" for name in _tracked("schemas") if name.endswith((".avsc", "ids.json"))} <= names
    assert "spnhub/py.typed" in names
