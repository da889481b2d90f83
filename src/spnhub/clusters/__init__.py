"""Services started and stopped on demand or by the clock, through the cluster manager that their definition names.

Nothing here decides: the service actor does, :class:`Starter` carries out and reports. Counterparts:
:mod:`spnhub.actors` (decisions), :mod:`spnhub.inventory` (definitions).
"""

from spnhub.clusters.managers import check_urn, load_managers, manager_for
from spnhub.clusters.schedule import Schedule, ScheduleError, is_on
from spnhub.clusters.starter import Starter
from spnhub.clusters.task import ClusterError, ClusterManager, ServiceTask, TaskMount, environment, split_command

__all__ = [
    "ClusterError",
    "ClusterManager",
    "Schedule",
    "ScheduleError",
    "ServiceTask",
    "Starter",
    "TaskMount",
    "check_urn",
    "environment",
    "is_on",
    "load_managers",
    "manager_for",
    "split_command",
]
