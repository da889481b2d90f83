"""All harnesses: what takes bytes from outside is in one of these rooms, and nowhere else is a list of them."""

from __future__ import annotations

from typing import Final

from tests.fuzz.files import FILES
from tests.fuzz.harness import Harness
from tests.fuzz.logs import LOGS
from tests.fuzz.peers import PEERS
from tests.fuzz.servers import SERVERS

__all__ = ["HARNESSES"]

HARNESSES: Final[dict[str, Harness]] = {one.name: one for one in (*PEERS, *FILES, *LOGS, *SERVERS)}
"""By name."""
