"""An installation without the extras: whoever asks for what needs one learns what to install, and the rest works."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from spnhub.clusters import ClusterError, load_managers, manager_for
from spnhub.extras import EXTRAS, MissingExtra, check_extra

_ROOT = Path(__file__).parents[1]
_PROGRAM = """
import sys
sys.modules.update(dict.fromkeys({packages!r}))
from spnhub.cli import start
sys.exit(start.{command}())
"""


def run(command: str, *arguments: str) -> tuple[int, str]:
    """A command where no extra is installed: its exit status, and what it says on standard error."""
    program = _PROGRAM.format(packages=[*EXTRAS.values()], command=command)
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stderr.strip()


def test_extras_are_those_of_the_distribution() -> None:
    """Each brings what this says, and a plain install doesn't; all of them come with ``all``."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    names = {extra: [re.split(r"[\[<>=]", line)[0] for line in lines] for extra, lines in extras.items()}
    assert {extra: [package] for extra, package in EXTRAS.items()} == {extra: names[extra] for extra in EXTRAS}
    plain = {re.split(r"[\[<>=]", line)[0] for line in project["dependencies"]}
    assert not plain & set(EXTRAS.values())
    (everything,) = extras["all"]
    assert set(everything.removeprefix("spnhub[").removesuffix("]").split(",")) == extras.keys() - {"all"}


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_one_is_named(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the words that install it."""
    check_extra(extra)
    monkeypatch.setitem(sys.modules, EXTRAS[extra], None)
    with pytest.raises(MissingExtra, match=rf"^{EXTRAS[extra]} is not installed: pip install 'spnhub\[{extra}\]'$"):
        check_extra(extra)


def test_no_service_starts_by_a_manager_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the service learns why, and that no retry helps; the other managers are loaded."""
    monkeypatch.setitem(sys.modules, "docker", None)
    reason = "docker: docker is not installed: pip install 'spnhub[docker]'"
    assert load_managers(["docker:", "process:", "k8s:default"]) == [reason]
    with pytest.raises(ClusterError) as caught:
        manager_for("docker:")
    assert (caught.value.message, caught.value.retryable) == (reason, False)


_KAFKA = "aiokafka is not installed: pip install 'spnhub[kafka]'"


@pytest.mark.outside
def test_commands_that_need_kafka(tmp_path: Path) -> None:
    """One line, exit status 2."""
    topic = "kafka://127.0.0.1:1/topic"
    for command, arguments in {
        "log": ("state", topic),
        "hub": ("--kafka", "127.0.0.1:1", "--inventory", "file:///nothing", "--journal", str(tmp_path / "journal")),
    }.items():
        status, said = run(command, *arguments)
        assert (status, said.count("\n"), _KAFKA in said) == (2, 0, True), said
    status, said = run("log", "serve", topic, "--listen", "127.0.0.1:0")
    assert (status, said) == (2, f"spnlog: source {topic}: {_KAFKA}")


@pytest.mark.outside
@pytest.mark.parametrize("command", ["hub", "agent", "log"])
def test_commands_that_need_none(command: str) -> None:
    """All that their modules import at their top is there."""
    assert run(command, "--help") == (0, "")
