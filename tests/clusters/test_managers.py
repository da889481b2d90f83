"""Which manager a clusterManagerUrn names, and what definitions say in their own words."""

from __future__ import annotations

import subprocess
import sys

import pytest

from spnhub.clusters import ClusterError, check_urn, environment, manager_for, split_command


@pytest.mark.parametrize(
    ("urn", "kind"),
    [
        ("docker:", "DockerManager"),
        ("k8s:shop", "KubernetesManager"),
        ("k8s:https://10.0.0.1:6443/shop", "KubernetesManager"),
        ("k8s:https://proxy.example/k8s/eu/shop", "KubernetesManager"),
        ("nomad:http://[::1]:4646/v1/job/web?namespace=eu", "NomadManager"),
        ("process:", "ProcessManager"),
    ],
)
async def test_managers(urn: str, kind: str) -> None:
    """Every scheme has its manager, which does nothing before it is asked."""
    manager = manager_for(urn)
    assert type(manager).__name__ == kind
    await manager.close()


@pytest.mark.parametrize(
    ("urn", "problem"),
    [
        ("podman:", "'podman' is none of docker:, k8s:, nomad:, process:"),
        ("docker", "'docker' is none of"),
        ("", "'' is none of"),
        ("Docker:", "'Docker' is none of"),
        ("docker:unix:///run/docker.sock", "docker: takes nothing after the colon"),
        ("process:sh", "process: takes nothing after the colon"),
        ("k8s:", "'' is not a namespace"),
        ("k8s:https://10.0.0.1:6443/", "'' is not a namespace"),
        ("k8s:Shop", "'Shop' is not a namespace"),
        ("k8s:ftp://10.0.0.1/shop", "'ftp://10.0.0.1' is not an http or https URL"),
        ("k8s:a/shop", "'a' is not an http or https URL"),
        ("nomad:", "'' is not an http or https URL"),
        ("nomad:job/web", "'job/web' is not an http or https URL"),
        ("nomad:http:///v1/job/web", "is not an http or https URL"),
        ("nomad:http://host:99999/v1/job/web", "is not an http or https URL"),
    ],
)
def test_unusable_urns(urn: str, problem: str) -> None:
    """What names no manager is refused with what is wrong, for validation and at a start alike."""
    with pytest.raises(ValueError, match="names no cluster manager") as refused:
        check_urn(urn)
    with pytest.raises(ClusterError) as caught:
        manager_for(urn)
    assert (problem in caught.value.message, caught.value.retryable) == (True, False)
    assert str(refused.value) == caught.value.message


@pytest.mark.outside
def test_importing_is_cheap() -> None:
    """A hub that starts services nowhere, or only some way, doesn't load the other ways' libraries."""
    code = "import sys, spnhub.clusters; print(*sorted({'docker', 'lightkube', 'httpx2', 'httpx2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (None, ()),
        ("", ()),
        ("serve --name 'a b' $HOME", ("serve", "--name", "a b", "$HOME")),
        (["serve", "a b"], ("serve", "a b")),
    ],
)
def test_split_command(command: str | list[str] | None, words: tuple[str, ...]) -> None:
    """A string is split like a shell's words, an array is taken as it is."""
    assert split_command(command) == words


def test_command_without_end() -> None:
    """A quotation without an end is a fault."""
    with pytest.raises(ValueError, match="is not a command line: No closing quotation"):
        split_command("serve 'a")


def test_environment() -> None:
    """Values become text as a shell's user would write them."""
    assert environment({"A": "x", "B": 8080, "C": True, "D": None, "E": ["f"]}) == {
        "A": "x",
        "B": "8080",
        "C": "true",
        "D": "null",
        "E": '["f"]',
    }
    assert environment(None) == {}
