"""How many times better one subject is than another, as one SVG: a line for each figure, a dot for each round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from tests.bench.report import Line

__all__ = ["draw"]

_LEFT, _WIDTH, _RIGHT, _TOP, _STEP = 400, 420, 150, 58, 18


def draw(title: str, found: Sequence[Line], *, aims: bool) -> str:
    """The picture's text. ``aims``: with a mark where each figure is to be."""
    shown = [line for line in found if all(0 < times < math.inf for times in line.each)]
    every = [times for line in shown for times in line.each] + [1.0]
    if aims:
        every += [line.aim.times for line in shown if line.aim.times]
    lowest, highest = math.floor(math.log2(min(every))), math.ceil(math.log2(max(every))) or 1
    height = _TOP + len(shown) * _STEP + 14

    def x(times: float) -> float:
        return _LEFT + (math.log2(times) - lowest) / (highest - lowest) * _WIDTH

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + _RIGHT}" height="{height}">',
        "<style>text { font: 12px sans-serif }</style>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="20" style="font-size: 15px">{escape(title)}</text>',
    ]
    for power in range(lowest, highest + 1):
        at = x(2.0**power)
        colour = "#333" if power == 0 else "#ddd"
        parts.append(f'<line x1="{at:.1f}" y1="{_TOP - 10}" x2="{at:.1f}" y2="{height - 8}" stroke="{colour}"/>')
        parts.append(f'<text x="{at:.1f}" y="{_TOP - 15}" text-anchor="middle">{2.0**power:g}</text>')
    for number, line in enumerate(shown):
        y = _TOP + number * _STEP + 4
        parts.append(f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(line.aim.title)}</text>')
        parts += [f'<circle cx="{x(times):.1f}" cy="{y}" r="2.5" fill="#9bc"/>' for times in line.each]
        parts.append(f'<circle cx="{x(line.times):.1f}" cy="{y}" r="4.5" fill="#1f77b4"/>')
        if aims and line.aim.times:
            at = x(line.aim.times)
            parts.append(
                f'<line x1="{at:.1f}" y1="{y - 7}" x2="{at:.1f}" y2="{y + 7}" stroke="#d62728" stroke-width="2"/>'
            )
        said = f"{line.second:.3g} {line.aim.unit}".strip()
        parts.append(f'<text x="{_LEFT + _WIDTH + 12}" y="{y + 4}">{escape(said)}</text>')
    return "\n".join([*parts, "</svg>", ""])
