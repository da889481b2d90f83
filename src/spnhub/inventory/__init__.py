"""What the hub is to serve: read from the inventory API or a file, judged, and made into the hub's own definitions.

Counterparts: :mod:`spnhub.actors.contract.definitions` and :mod:`spnhub.transport.engine`, which take the result.
"""

from spnhub.inventory.build import Inventory, ListenAddress, Listening, build, load_inventory, log_warnings
from spnhub.inventory.source import Fault, InventoryError

__all__ = [
    "Fault",
    "Inventory",
    "InventoryError",
    "ListenAddress",
    "Listening",
    "build",
    "load_inventory",
    "log_warnings",
]
