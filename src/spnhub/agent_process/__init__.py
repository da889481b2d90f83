"""A process with agents: one (``spnagent consumer``, ``spnagent provider``) or many (``spnagent run``), and its HTTP.

Joins the agents of :mod:`spnhub.transport.agent` with settings, signals and the service manager. Nothing here imports
the command line; ``ops`` is imported when it is asked for, since an agent has to start quickly.
"""

from __future__ import annotations

from spnhub.agent_process.main import Settings, run_host, run_one

__all__ = ["Settings", "run_host", "run_one"]
