"""A soak's series as one SVG: a panel for each quantity, a line for each process, a mark for each fault."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from tests.soak.samples import BOUNDS, Series

__all__ = ["draw"]

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 860, 130, 70, 40, 36
_COLOURS: Final = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f")


def draw(title: str, series: Sequence[Series], marks: Sequence[tuple[float, str]], seconds: float) -> str:
    """The picture's text."""
    processes = list(dict.fromkeys(one.process for one in series))
    colours = {process: _COLOURS[number % len(_COLOURS)] for number, process in enumerate(processes)}
    quantities = [name for name in BOUNDS if any(one.quantity == name for one in series)]
    height = _TOP + 24 + len(quantities) * (_HEIGHT + _GAP) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 20}" height="{height}">',
        "<style>text { font: 11px sans-serif }</style>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="18" font-size="14">{escape(title)}</text>',
    ]
    for number, process in enumerate(processes):
        x = _LEFT + number * 150
        parts.append(f'<rect x="{x}" y="27" width="10" height="10" fill="{colours[process]}"/>')
        parts.append(f'<text x="{x + 14}" y="36">{escape(process)}</text>')
    for number, quantity in enumerate(quantities):
        top = _TOP + 24 + number * (_HEIGHT + _GAP)
        parts += _panel(quantity, [one for one in series if one.quantity == quantity], marks, seconds, top, colours)
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    quantity: str,
    series: Sequence[Series],
    marks: Sequence[tuple[float, str]],
    seconds: float,
    top: float,
    colours: dict[str, str],
) -> Iterable[str]:
    highest = max((value for one in series for _, value in one.points), default=1) * 1.05 or 1
    bottom = top + _HEIGHT

    def x(at: float) -> float:
        return _LEFT + at / seconds * _WIDTH

    unit = BOUNDS[quantity].unit
    yield f'<text x="{_LEFT}" y="{top - 6}" font-weight="bold">{quantity}{f", {unit}" if unit else ""}</text>'
    yield f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#999"/>'
    for at, name in marks:
        yield (
            f'<line x1="{x(at):.1f}" y1="{top}" x2="{x(at):.1f}" y2="{bottom}" stroke="#ddd">'
            f"<title>{escape(name)}</title></line>"
        )
    for part in (0.0, 0.5, 1.0):
        y = bottom - part * _HEIGHT + 4
        yield f'<text x="{_LEFT - 6}" y="{y:.1f}" text-anchor="end">{highest * part:.4g}</text>'
    for minute in range(0, int(seconds // 60) + 1, max(1, int(seconds // 600))):
        yield f'<text x="{x(minute * 60):.1f}" y="{bottom + 14}" text-anchor="middle">{minute} min</text>'
    for one in series:
        points = " ".join(f"{x(at):.1f},{bottom - value / highest * _HEIGHT:.1f}" for at, value in one.points)
        yield f'<polyline points="{points}" fill="none" stroke="{colours[one.process]}" stroke-width="1.3"/>'
