"""``python -m tests.attacks``: each row of the attack table against a real hub, and who noticed; status 1: anybody."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from spnhub.transport.native_engine import why_not
from tests.attacks import faults
from tests.attacks.attackers import ATTACKS
from tests.attacks.stage import Figures, Stage, staged

__all__ = ["ROWS", "run"]

Act = Callable[[Stage, float], Awaitable[float]]
"""Returns how often a second it did what it does."""


async def _attack(name: str, stage: Stage, seconds: float) -> float:
    arguments = stage.target(name, seconds).arguments(stage.world.folder / "target.json")
    program = await stage.world.start_program(f"attacker {name}", *arguments)
    await program.line("attacker.begun")
    await program.wait(timeout=seconds + 60)
    return float((await program.line("attacker.ended"))["perSecond"])


ROWS: Final[dict[str, tuple[str, Act]]] = {
    **{name: (str(one.__doc__), partial(_attack, name)) for name, one in ATTACKS.items()},
    **{
        one.__name__: (str(one.__doc__), one)
        for one in (
            faults.descriptors,
            faults.documents,
            faults.http,
            faults.journal_gone,
            faults.journal_full,
            *((faults.journal_read_only,) if faults.CAN_FREEZE else ()),
        )
    },
}
"""By name: what is done (its number is the report's), and what does it."""


async def run(engine: str, names: Sequence[str], seconds: float) -> dict[str, Figures]:
    """The rows, one after the other, against one hub."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="attacks-") as folder:
        async with staged(Path(folder), engine) as stage:
            for name in names:
                what, act = ROWS[name]
                figures = found[name] = await stage.measure(partial(act, stage), seconds)
                _print(engine, what, figures)
            mode = max(path.stat().st_mode & 0o077 for path in stage.world.journal.iterdir())
            print(f"{engine:8} 16: journal files that others may read: {'some' if mode else 'none'}", flush=True)
            assert not mode
            # The journal's bound is small: whoever filled it has taken its own history with it, and nobody else's.
            kept = await stage.kept()
            print(
                f"{engine:8} 10: the other realm's history since its beginning: {'there' if kept else 'GONE'}",
                flush=True,
            )
            assert kept
    return found


def _print(engine: str, what: str, seen: Figures) -> None:
    print(
        f"{engine:8} {what[:66]:66} {seen.before * 1000:6.0f} -> {seen.during * 1000:6.0f} ms"
        f"  newcomer {seen.newcomer:5.2f} s  {seen.memory_before:4.0f} -> {seen.memory_after:4.0f} MiB"
        f"  {seen.rate:7.0f}/s  {seen.faults} tracebacks  {', '.join(seen.misses()) or 'held'}",
        flush=True,
    )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; none: all")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each row (6)")
    parser.add_argument("--engine", choices=("aioquic", "native"), help="one only")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no row {', '.join(sorted(unknown))}")
    engines = [options.engine] if options.engine else ["aioquic", *(["native"] if why_not() is None else [])]
    missed = 0
    for engine in engines:
        for figures in asyncio.run(run(engine, options.rows or list(ROWS), options.seconds)).values():
            missed += bool(figures.misses())
    print(f"{missed} rows missed" if missed else "nobody noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
