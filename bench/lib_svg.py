"""Plots as SVG text: grouped bars, and lines over a logarithmic axis. Pure: numbers in, text out.

One look for all: light background so that they are legible in dark themes too, a figure at every bar.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

_WIDTH, _LEFT, _TOP, _BAR, _GAP = 760, 150, 56, 18, 14
_COLOURS = ("#1f6feb", "#8250df", "#bf8700", "#1a7f37", "#cf222e", "#57606a", "#0a7ea4", "#a0418f")
_LETTER = 7.2  # how wide one is, about
_STYLE = "font-family='system-ui,sans-serif' font-size='12' fill='#24292f'"
_SMALL = "font-family='system-ui,sans-serif' font-size='10' fill='#57606a'"
_WARNING = "font-family='system-ui,sans-serif' font-size='12' font-weight='bold' fill='#cf222e'"


class Plot(NamedTuple):
    """What is written at a plot: its title, and what the figures are."""

    title: str
    unit: str
    is_linear: bool = False  # whatever the figures span


def bars(plot: Plot, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Horizontal bars, in groups; the axis is logarithmic where the figures span more than a factor of 30."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    figures = [value for group in groups.values() for value in group.values() if value > 0]
    top = max(figures, default=1.0)
    is_log = top / min(figures, default=1.0) > 30 and not plot.is_linear
    low = 10 ** math.floor(math.log10(min(figures))) if is_log else 0.0
    left = max(60.0, 16 + _LETTER * max(map(len, groups), default=0))
    room = _WIDTH - left - 90
    shapes, y = [], float(_TOP)
    for title, group in groups.items():
        shapes.append(_text(left - 8, y + _BAR * len(group) / 2 + 4, title, "end"))
        for name, value in group.items():
            width = room * _part(value, low, top, is_log)
            colour = _COLOURS[names.index(name) % len(_COLOURS)]
            shapes.append(f"<rect x='{left:.1f}' y='{y:.1f}' width='{width:.1f}' height='{_BAR - 3}' fill='{colour}'/>")
            shapes.append(_text(left + width + 5, y + _BAR - 7, f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"))
            y += _BAR
        y += _GAP
    scale = ", logarithmic" if is_log else ""
    # where each bar tells its own name, or all are of one kind, a legend says nothing
    has_legend = len(names) > 1 and any(list(group) != [title] for title, group in groups.items())
    return _page(plot._replace(unit=plot.unit + scale), names if has_legend else [], shapes, y)


def lines(plot: Plot, series: Mapping[str, Sequence[tuple[float, float]]], ticks: Mapping[float, str]) -> str:
    """Lines through (x, y), x as it is (where `ticks` name it), y logarithmic."""
    height, bottom = 300, _TOP + 300
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points if y > 0]
    low, top = 10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys)))
    span = (max(xs) - min(xs)) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT / 2 + (_WIDTH - _LEFT) * (x - min(xs)) / span
        return across, bottom - height * _part(max(y, low), low, top, True)

    shapes = []
    for power in range(round(math.log10(low)), round(math.log10(top)) + 1):
        _, y = place(min(xs), 10.0**power)
        shapes.append(f"<line x1='{_LEFT / 2}' x2='{_WIDTH - _LEFT / 2}' y1='{y:.1f}' y2='{y:.1f}' stroke='#d0d7de'/>")
        shapes.append(_text(_LEFT / 2 - 6, y + 4, f"{10.0**power:,.12g}", "end"))
    for at, name in ticks.items():
        x, _ = place(at, low)
        shapes.append(_text(x, bottom + 16, name, "middle"))
    for index, points in enumerate(series.values()):
        colour = _COLOURS[index % len(_COLOURS)]
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points)
        shapes.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
    return _page(plot, list(series), shapes, bottom + 24)


def stamped(drawn: str, words: str, is_busy: bool) -> str:
    """A plot with a line below that says where it was taken, and a warning when the machine was busy."""
    found = re.search(r" height='(\d+)' viewBox='0 0 \d+ (\d+)'", drawn)
    if found is None:
        return drawn
    height = int(found[1])
    taller = f" height='{height + 20}' viewBox='0 0 {_WIDTH} {height + 20}'"
    below = f"<text x='12' y='{height + 8}' {_SMALL}>{escape(words)}</text>"
    if is_busy:
        below += f"\n<text x='{_WIDTH - 12}' y='20' text-anchor='end' {_WARNING}>taken on a busy machine</text>"
    return drawn.replace(found[0], taller, 1).replace("</svg>", f"{below}\n</svg>")


def _part(value: float, low: float, top: float, is_log: bool) -> float:
    if value <= 0 or top <= 0:
        return 0.0
    if not is_log:
        return value / top
    return max(0.0, math.log(value / low) / math.log(top / low)) if top > low else 1.0


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {_STYLE}>{escape(words)}</text>"


def _page(plot: Plot, names: Sequence[str], shapes: Sequence[str], bottom: float) -> str:
    legend, x = [], 12.0
    for index, name in enumerate(names):
        colour = _COLOURS[index % len(_COLOURS)]
        legend.append(f"<rect x='{x:.0f}' y='32' width='11' height='11' fill='{colour}'/>" + _text(x + 15, 42, name))
        x += 30 + _LETTER * len(name)
    head = f"<text x='12' y='20' font-weight='bold' {_STYLE}>{escape(f'{plot.title} ({plot.unit})')}</text>"
    size = f"width='{_WIDTH}' height='{bottom + 8:.0f}' viewBox='0 0 {_WIDTH} {bottom + 8:.0f}'"
    frame = f"<svg xmlns='http://www.w3.org/2000/svg' {size}><rect width='100%' height='100%' fill='#fff'/>"
    return "\n".join([frame, head, *legend, *shapes, "</svg>", ""])
