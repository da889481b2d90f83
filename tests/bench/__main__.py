"""Run the measurements and print them; ``--quick`` for a look, ``--check`` fails where a figure misses its aim."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable

from tests.bench.event_cost import event_cost
from tests.bench.harness import Result
from tests.bench.hub_cost import churn, idle_neighbours, idle_sessions, throughput
from tests.bench.shipping import shipping

Measurement = Callable[[bool], AsyncIterator[Result]]


async def _bytes(quick: bool) -> AsyncIterator[Result]:
    scale = 4 if quick else 1
    yield await throughput(1200, 128 // scale)
    yield await throughput(8952, 256 // scale)


async def _idle(quick: bool) -> AsyncIterator[Result]:
    scale = 4 if quick else 1
    for result in await idle_neighbours(1000 // scale, 64 // scale):
        yield result
    yield await idle_sessions(200 // scale)


async def _churn(quick: bool) -> AsyncIterator[Result]:
    yield await churn(500 if quick else 2000, 20)


async def _events(quick: bool) -> AsyncIterator[Result]:
    for result in await event_cost(200.0, 2.0 if quick else 4.0, 4 if quick else 8):
        yield result


async def _shipping(quick: bool) -> AsyncIterator[Result]:
    for result in await shipping(50_000 if quick else 200_000, 1 if quick else 3):
        yield result


MEASUREMENTS: dict[str, Measurement] = {
    "bytes": _bytes,
    "idle": _idle,
    "churn": _churn,
    "events": _events,
    "shipping": _shipping,
}


async def run(names: list[str], quick: bool) -> list[Result]:
    """One after the other; printed as they come."""
    results: list[Result] = []
    for name in names:
        async for result in MEASUREMENTS[name](quick):
            print(result.line(), flush=True)
            results.append(result)
    return results


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)}; none: all")
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a figure misses its aim")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in MEASUREMENTS]:
        parser.error(f"no measurement {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    results = asyncio.run(run(arguments.names or list(MEASUREMENTS), arguments.quick))
    missed = [result.name for result in results if result.missed]
    for name in missed:
        print(f"misses its aim: {name}", file=sys.stderr)
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
