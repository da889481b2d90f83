"""What was measured, where, and how it compares: records as JSON, and a table of medians."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from tests.bench.load import Figures
from tests.bench.rows import ROWS, Aim
from tests.bench.tunnel import DIRECT, Subject

__all__ = ["Line", "Record", "environment", "lines", "ratios", "table"]

_PACKAGES: Final = ("aioquic", "spnhub-native", "cryptography", "pykka", "fastavro", "uvloop")


@dataclass(frozen=True)
class Record:
    """One row of one subject in one round."""

    round: int
    subject: str
    row: str
    load: float
    """The machine's load average when it began."""
    figures: Figures
    error: str | None = None


def ratios(records: Iterable[Record], row: str, figure: str, over: str, under: str) -> list[float]:
    """One subject's figure over another's, by rounds: what disturbs the machine disturbs both of a round."""
    found = {(one.round, one.subject): one.figures[figure] for one in records if one.row == row and not one.error}
    return [found[number, over] / found[number, under] for number in sorted({number for number, _ in found})]


@dataclass(frozen=True)
class Line:
    """One figure: medians over the rounds."""

    figure: str
    """Its row and its name."""
    aim: Aim
    reference: float | None
    """Direct TCP."""
    first: float
    second: float
    each: tuple[float, ...]
    """How many times better the second was than the first, by round."""

    @property
    def times(self) -> float:
        """How many times better the second is: the median over the rounds."""
        return float(statistics.median(self.each))

    def verdicts(self) -> list[bool]:
        """Whether each of its aims is kept, when aioquic is first and native second."""
        kept = []
        if self.aim.times is not None:
            kept.append(self.times >= self.aim.times)
        for engine, value in (("aioquic", self.first), ("native", self.second)):
            bound = self.aim.bound(engine)
            if bound is not None:
                kept.append(self.aim.holds(value, bound))
        return kept


def lines(records: Sequence[Record], first: str, second: str) -> list[Line]:
    """All figures that both subjects have, in the order of the rows."""
    found = []
    for row in ROWS.values():
        for name, its_aim in row.aims.items():
            by_round = {
                subject: {
                    one.round: one.figures[name]
                    for one in records
                    if (one.subject, one.row) == (subject, row.name) and name in one.figures
                }
                for subject in (first, second, DIRECT)
            }
            both = sorted(by_round[first].keys() & by_round[second].keys())
            if not both:
                continue
            reference = by_round[DIRECT].values()
            found.append(
                Line(
                    f"{row.name} {name}",
                    its_aim,
                    statistics.median(reference) if reference else None,
                    statistics.median(by_round[first].values()),
                    statistics.median(by_round[second].values()),
                    tuple(its_aim.better(by_round[second][n], by_round[first][n]) for n in both),
                )
            )
    return found


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(found: Iterable[Line], first: str, second: str, *, aims: bool) -> str:
    """As Markdown. ``aims``: what is promised of native over aioquic, and whether it is kept."""
    head = ["what", "unit", "direct TCP", first, second, "times better", *(["target", "kept"] if aims else [])]
    rows = [head, ["---"] * len(head)]
    for line in found:
        rounds = f"{line.times:.3g} ({min(line.each):.3g} to {max(line.each):.3g})"
        cells = [line.aim.title, line.aim.unit, *map(_number, (line.reference, line.first, line.second)), rounds]
        if aims:
            cells += [_target(line.aim), ", ".join("yes" if kept else "NO" for kept in line.verdicts())]
        rows.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _target(its_aim: Aim) -> str:
    sign = "≥" if its_aim.high else "≤"
    parts = [] if its_aim.times is None else [f"{its_aim.times:g} times"]
    parts += [f"{engine} {sign} {bound:g}" for engine in ("aioquic", "native") if (bound := its_aim.bound(engine))]
    return ", ".join(parts)


def environment(subjects: Sequence[Subject]) -> dict[str, Any]:
    """The machine and the programs."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": sys.version,
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "revision": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "load": os.getloadavg(),
        "subjects": [asdict(one) | {"programs": str(one.programs)} for one in subjects],
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()
