"""Measure aioquic and native beside each other, with direct TCP as the reference; or two revisions of this project.

Prints a table of medians and writes it, with every single figure and the environment, to a folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path

from spnhub.transport.native_engine import why_not
from tests.bench.compare import subject_of
from tests.bench.event_cost import event_cost
from tests.bench.floors import floors
from tests.bench.harness import Result
from tests.bench.hub_cost import throughput
from tests.bench.limit_cost import limit_cost
from tests.bench.loops import loops
from tests.bench.paths import paths
from tests.bench.plot import draw
from tests.bench.receive_calls import receive_calls
from tests.bench.report import environment, lines, table
from tests.bench.rows import ROWS, Sizes
from tests.bench.run import measure
from tests.bench.shipping import shipping
from tests.bench.tunnel import DIRECT, Subject
from tests.bench.wakes import wakes
from tests.bench.worker_share import workers

Measurement = Callable[[bool], AsyncIterator[Result]]


async def _reference(quick: bool) -> AsyncIterator[Result]:
    scale = 4 if quick else 1
    yield await throughput(1200, 128 // scale)
    yield await throughput(8952, 256 // scale)


async def _paths(quick: bool) -> AsyncIterator[Result]:
    if why_not() is None:
        async for result in paths(quick):
            yield result


async def _events(quick: bool) -> AsyncIterator[Result]:
    for rate, seconds in ((200.0, 4.0), (1000.0, 2.0)):
        for result in await event_cost(rate, seconds / 2 if quick else seconds, 4 if quick else 8):
            yield result


async def _shipping(quick: bool) -> AsyncIterator[Result]:
    for result in await shipping(50_000 if quick else 200_000, 1 if quick else 3):
        yield result


OWN: dict[str, Measurement] = {
    "reference": _reference,
    "receive": receive_calls,
    "wakes": wakes,
    "workers": workers,
    "paths": _paths,
    "events": _events,
    "limits": limit_cost,
    "floors": floors,
    "loops": loops,
    "shipping": _shipping,
}
"""What compares parts of this install with each other, not subjects."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="ROW", help=f"of {', '.join([*ROWS, *OWN])}; none: all")
    parser.add_argument("--rounds", type=int, default=3, help="of all subjects in turn (3)")
    parser.add_argument("--seconds", type=float, default=Sizes.seconds, help=f"of each load ({Sizes.seconds:g})")
    parser.add_argument(
        "--idle", type=int, default=Sizes.idle, help=f"idle connections that are weighed ({Sizes.idle})"
    )
    parser.add_argument("--sessions", type=int, default=Sizes.sessions, help=f"sessions likewise ({Sizes.sessions})")
    parser.add_argument(
        "--conversations", type=int, default=Sizes.conversations, help=f"when a hub goes ({Sizes.conversations})"
    )
    parser.add_argument("--quick", action="store_true", help="one round of small sizes")
    parser.add_argument("--compare", nargs=2, metavar="REVISION", help="these, in place of the engines")
    parser.add_argument("--engine", default="native", help="with --compare: what both run on (native)")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder for bench.json, .md and .svg")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a figure misses its aim")
    arguments = parser.parse_args()
    known = ROWS if arguments.compare else [*ROWS, *OWN]
    if unknown := [name for name in arguments.names if name not in known]:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(known)}")
    return arguments


def _subjects(arguments: argparse.Namespace) -> list[Subject]:
    if arguments.compare:
        folder = arguments.out / "trees"
        return [subject_of(revision, folder, arguments.engine) for revision in arguments.compare]
    engines = ["aioquic", "native", DIRECT]
    if missing := why_not():
        print(f"{missing}: only aioquic is measured (make native)", file=sys.stderr)
        engines.remove("native")
    return [Subject(engine, engine) for engine in engines]


async def _own(names: list[str], quick: bool) -> list[Result]:
    results: list[Result] = []
    for name in names:
        async for result in OWN[name](quick):
            print(result.line(), flush=True)
            results.append(result)
    return results


def main() -> int:
    """The command."""
    arguments = _arguments()
    names = arguments.names or [*ROWS, *([] if arguments.compare else OWN)]
    sizes = Sizes(arguments.seconds, arguments.idle, arguments.sessions, arguments.conversations)
    rounds = arguments.rounds
    if arguments.quick:
        sizes, rounds = Sizes(1.0, 200, 20, 20), 1
    subjects = _subjects(arguments)
    where = environment(subjects)
    records = asyncio.run(measure(subjects, [ROWS[name] for name in names if name in ROWS], rounds, sizes))
    own = asyncio.run(_own([name for name in names if name in OWN], arguments.quick))
    # Without the native engine aioquic stands beside itself: its figures are told, and nothing is compared.
    first, second = subjects[0].name, subjects[1].name if not subjects[1].direct else subjects[0].name
    aims = (first, second) == ("aioquic", "native")
    found = lines(records, first, second)
    told = table(found, first, second, aims=aims)
    failed = [f"{one.row} of {one.subject}, round {one.round}: {one.error}" for one in records if one.error]
    missed = [line.aim.title for line in found if aims and not all(line.verdicts())]
    missed += [result.name for result in own if result.missed]
    _write(
        arguments.out,
        {
            "environment": where,
            "sizes": asdict(sizes),
            "rounds": rounds,
            "records": [asdict(one) for one in records],
            "own": [asdict(one) for one in own],
            "missed": missed,
            "failed": failed,
        },
        told,
        draw(f"How many times better {second} is than {first}", found, aims=aims),
    )
    print(f"\n{told}\n")
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    for name in missed:
        print(f"misses its aim: {name}", file=sys.stderr)
    return 1 if failed or (arguments.check and missed) else 0


def _write(folder: Path, numbers: dict[str, object], told: str, picture: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(numbers, indent=1))
    (folder / "bench.md").write_text(told + "\n")
    (folder / "bench.svg").write_text(picture)
    print(f"{folder}/bench.json, {folder}/bench.md, {folder}/bench.svg")


if __name__ == "__main__":
    sys.exit(main())
