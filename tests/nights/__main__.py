"""``python -m tests.nights``: ten faults on purpose, and how soon who says what; status 1: somebody doesn't in time."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.nights.faults import FAULTS, Fault, Night
from tests.nights.watch import Seen
from tests.support.kafka import NoBroker, find_broker

__all__ = ["run"]


async def run(fault: Fault) -> Seen:
    """Make one in a network of its own.

    :raises NoBroker: it is about Kafka, and there is none.
    """
    with tempfile.TemporaryDirectory(prefix="night-") as folder:
        if not fault.needs_broker:
            async with Night.begun(Path(folder)) as night:
                return await fault.run(night)
        broker = find_broker()
        if not broker.controllable:
            raise NoBroker(f"{broker.description} can't be stopped")
        await asyncio.to_thread(broker.start)
        try:
            async with Night.begun(Path(folder), broker) as night:
                return await fault.run(night)
        finally:
            await asyncio.to_thread(broker.close)


def _after(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"


def _show(fault: Fault, seen: Seen) -> None:
    print(f"{fault.name}")
    if fault.kinds:
        print(f"  incidents {_after(seen.incident_after):>7}  {seen.incident}")
    if fault.kinds:
        print(f"  console   {_after(seen.console_after):>7}  {seen.console}")
    for program, (after, text) in sorted(seen.logs.items(), key=lambda one: one[1]):
        print(f"  log       {_after(after):>7}  {program}: {text}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    names = {fault.name: fault for fault in FAULTS}
    parser = argparse.ArgumentParser(prog="python -m tests.nights", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(names)}; none: all")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args(arguments)
    if unknown := set(options.faults) - set(names):
        parser.error(f"no fault {', '.join(sorted(unknown))}")
    missed = 0
    figures = {}
    for fault in [names[name] for name in options.faults] or FAULTS:
        try:
            seen = asyncio.run(run(fault))
        except NoBroker as exc:
            print(f"{fault.name}\n  not made: {exc}", flush=True)
            continue
        _show(fault, seen)
        figures[fault.name] = {
            "incidents": seen.incident_after,
            "console": seen.console_after,
            "logs": {name: list(one) for name, one in seen.logs.items()},
        }
        if misses := seen.misses(fault.kinds, fault.within):
            print(f"  not within {fault.within:g} s: {', '.join(misses)}", flush=True)
            missed += 1
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
