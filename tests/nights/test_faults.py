"""Each of ten faults is told by logs, by ``spnlog incidents`` and by the console, in time."""

from __future__ import annotations

import pytest

from tests.nights.__main__ import run
from tests.nights.faults import FAULTS, Fault
from tests.system.sizes import report

pytestmark = [pytest.mark.system, pytest.mark.measured, pytest.mark.prove, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    "fault",
    [pytest.param(one, id=one.name, marks=[pytest.mark.kafka] if one.needs_broker else []) for one in FAULTS],
)
async def test_told(fault: Fault) -> None:
    """Who, what and why, and soon."""
    seen = await run(fault)
    report(incidents=seen.incident_after, console=seen.console_after, **{n: one[0] for n, one in seen.logs.items()})
    assert seen.misses(fault.kinds, fault.within) == []
