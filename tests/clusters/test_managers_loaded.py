"""What a manager is made of is loaded with the inventory that names it, not when its first service is to start."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.outside

_URNS = ("docker:", "k8s:default", "nomad:http://127.0.0.1:4646", "process:")


@pytest.mark.parametrize("urn", _URNS)
def test_a_manager_is_made_of_what_is_there(urn: str) -> None:
    """Nothing is imported then."""
    program = f"""
import sys
from spnhub.clusters import ClusterError, load_managers, manager_for
before = set(sys.modules)
load_managers([{urn!r}])
assert len(set(sys.modules) - before) > 0
loaded = set(sys.modules)
try:
    manager_for({urn!r})
except ClusterError:
    pass  # there is no such cluster here
print(sorted(set(sys.modules) - loaded))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


def test_what_is_no_urn_is_named() -> None:
    """As elsewhere."""
    from spnhub.clusters import load_managers

    with pytest.raises(ValueError, match="swarm"):
        load_managers(["swarm:x"])
