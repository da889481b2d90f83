"""``python -m tests.soak --seconds 1200``: a soak, its verdict, a plot and the numbers; status 1: it isn't flat."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.soak.plot import draw
from tests.soak.samples import BOUNDS, judge
from tests.soak.world import Soak


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200.0, help="how long (1200); a look: 60")
    parser.add_argument("--out", type=Path, default=Path("build/soak"), help="folder for soak.svg and soak.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak = Soak(Path(folder), options.seconds)
        asyncio.run(soak.run())
    series = list(soak.series.values())
    verdicts = judge(series, options.seconds)
    options.out.mkdir(parents=True, exist_ok=True)
    title = f"{options.seconds / 60:.0f} minutes of churn, faults and attackers"
    (options.out / "soak.svg").write_text(draw(title, series, soak.marks, options.seconds))
    numbers = {
        "seconds": options.seconds,
        "carried": soak.carried,
        "failed": soak.failed,
        "problems": soak.problems,
        "verdicts": [asdict(one) | {"flat": one.flat} for one in verdicts],
        "marks": soak.marks,
        "series": [asdict(one) for one in series],
    }
    (options.out / "soak.json").write_text(json.dumps(numbers))
    for one in verdicts:
        unit = BOUNDS[one.quantity].unit
        print(
            f"{one.process:18} {one.quantity:12} {one.before:9.1f} -> {one.after:9.1f} {unit:4}"
            f" bound {one.most:9.1f}  {'flat' if one.flat else 'GROWS'}"
        )
    print(
        f"{soak.carried:,} connections carried by agents, {soak.failed:,} failed, {len(soak.marks)} faults and attacks"
    )
    for problem in soak.problems:
        print(f"problem: {problem}")
    if not verdicts:
        print("too short for a verdict")
    flat = all(one.flat for one in verdicts) and not soak.problems
    print(f"{'flat' if flat else 'NOT FLAT'}; {options.out}/soak.svg, {options.out}/soak.json")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
