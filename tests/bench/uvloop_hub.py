"""A hub on uvloop, where that is installed: whether its loop would pay (``python -m tests.bench loops``).

``python -m tests.bench.uvloop_hub OPTIONS`` is a hub's command line. Not for use: that loop looks names up otherwise.
"""

from __future__ import annotations

from typing import Any

from spnhub.cli.hub import main
from spnhub.transport.system import loop

if __name__ == "__main__":
    import uvloop  # type: ignore[import-not-found, unused-ignore]

    made: Any = uvloop.new_event_loop
    setattr(loop, "Loop", made)  # noqa: B010 - a class there, and a function here
    main()
