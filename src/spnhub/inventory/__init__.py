"""What the hub is to serve: read from the inventory API or a file, judged, and made into the hub's own definitions.

Counterparts: :mod:`spnhub.actors.contract.definitions` and :mod:`spnhub.transport.engine`, which take the result.
"""

from spnhub.inventory.build import (
    Inventory,
    ListenAddress,
    Listening,
    build,
    load_inventory,
    log_warnings,
    shown_faults,
)
from spnhub.inventory.crl import CrlStore
from spnhub.inventory.source import InventoryError, InventoryFault

__all__ = [
    "CrlStore",
    "Inventory",
    "InventoryError",
    "InventoryFault",
    "ListenAddress",
    "Listening",
    "build",
    "load_inventory",
    "log_warnings",
    "shown_faults",
]
