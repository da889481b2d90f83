"""What operators see of a running hub over HTTP. It is read-only: nothing here changes what the hub does.

``server`` answers, ``state`` and ``metrics`` are what it answers with. Counterparts: :mod:`spnhub.hub_process`, whose
loop it runs in; :mod:`spnhub.cli.check`, which reads ``/state``.
"""

from spnhub.ops.metrics import HubMetrics
from spnhub.ops.server import Ops
from spnhub.ops.state import Progress, Snapshot

__all__ = ["HubMetrics", "Ops", "Progress", "Snapshot"]
