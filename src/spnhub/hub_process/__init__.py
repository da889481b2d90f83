"""The hub as a process: the composition root that joins journal, actors, engine, sockets and cluster managers.

``process`` is its life, ``main`` its signals and exit status, ``reload`` and ``listening`` bring another inventory in,
``services`` carries out what concerns cluster managers, ``printing`` writes the log lines. Counterparts:
:mod:`spnhub.cli.hub` starts it; :mod:`spnhub.transport.hub` is its heart; :mod:`spnhub.ops` looks at it.
"""

from spnhub.hub_process.main import run
from spnhub.hub_process.process import HubProcess

__all__ = ["HubProcess", "run"]
