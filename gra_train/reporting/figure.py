"""The figure of a table as a small SVG: bars with intervals, or lines. One panel for each set of numbers.

Written by hand, so that the same numbers give the same bytes and nothing need be installed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 300, 52, 34, 16, 58
COLOURS = ("#1f6f8b", "#c8553d", "#588157", "#7b4b94", "#b8860b", "#444444", "#d4a373", "#3a86a8", "#9b2226")


@dataclass(frozen=True)
class Point:
    """A value with its interval, if it has one. x: place on the axis of lines."""

    value: float
    low: float | None = None
    high: float | None = None
    x: float = 0.0


@dataclass(frozen=True)
class Panel:
    """series: name -> points. bars: one point for each group, None where it is missing; lines: in order of x."""

    title: str
    groups: tuple[str, ...]
    series: Mapping[str, Sequence[Point | None]]
    lines: bool = False
    x_title: str = ""


def figure(panels: Sequence[Panel]) -> str:
    """The SVG's text: panels side by side, with legends below."""
    body, shift, height = [], 0, HEIGHT
    for panel in panels:
        width = _width(panel)
        body.append(_lines(panel, shift, width) if panel.lines else _bars(panel, shift, width))
        legend, bottom = _legend(panel, shift, width)
        body.append(legend)
        shift, height = shift + width + 24, max(height, bottom)
    total = max(shift - 24, 0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" width="{total}" height="{height}" '
        'font-family="sans-serif" font-size="11" fill="#222">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _width(panel: Panel) -> int:
    if panel.lines:
        return 440
    longest = max((len(line) for group in panel.groups for line in group.split("/")), default=0)
    bars = max(1, len(panel.groups)) * max(len(panel.series) * 13 + 16, 7 * longest)
    return max(300, LEFT + RIGHT + bars)


def _axis(panel: Panel, shift: int, width: int) -> tuple[float, float, str]:
    """(lowest, highest, grid lines) of the vertical axis. Bars begin at 0; lines near their lowest value."""
    known = [p for points in panel.series.values() for p in points if p]
    most = max((p.value if p.high is None else p.high for p in known), default=1.0)
    least = min((p.value if p.low is None else p.low for p in known), default=0.0)
    start = least if panel.lines else min(0.0, least)
    step = nice((most - start) / 5 or 1.0)
    lowest, highest = step * math.floor(start / step), step * (math.floor(most / step) + 1)
    parts = [f'<text x="{shift + LEFT}" y="18" font-weight="bold" font-size="12">{escape(panel.title)}</text>']
    for i in range(round((highest - lowest) / step) + 1):
        y = _y(lowest + i * step, lowest, highest)
        parts.append(f'<line x1="{shift + LEFT}" x2="{shift + width - RIGHT}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{shift + LEFT - 6}" y="{y + 4}" text-anchor="end">{lowest + i * step:g}</text>')
    return lowest, highest, "\n".join(parts)


def _y(value: float, lowest: float, highest: float) -> float:
    return round(TOP + (highest - value) / (highest - lowest) * (HEIGHT - TOP - BOTTOM), 1)


def _bars(panel: Panel, shift: int, width: int) -> str:
    lowest, highest, axis = _axis(panel, shift, width)
    parts, zero = [axis], _y(max(lowest, 0.0), lowest, highest)
    room = (width - LEFT - RIGHT) / max(1, len(panel.groups))
    bar = min(26.0, (room - 10) / max(1, len(panel.series)))
    for g, group in enumerate(panel.groups):
        middle = shift + LEFT + (g + 0.5) * room
        for s, (name, points) in enumerate(panel.series.items()):
            point = points[g]
            x = round(middle + (s - len(panel.series) / 2) * bar, 1)
            if point is None:  # missing is shown as missing
                parts.append(
                    f'<text x="{round(x + bar / 2, 1)}" y="{zero - 3}" text-anchor="middle">?'
                    f"<title>{escape(f'{group} {name}'.strip())}: missing</title></text>"
                )
                continue
            y = _y(point.value, lowest, highest)
            parts.append(
                f'<rect x="{x}" y="{min(y, zero)}" width="{round(bar - 2, 1)}" height="{round(abs(zero - y), 1)}" '
                f'fill="{_colour(s)}"><title>{escape(f"{group} {name}".strip())}: {point.value:.2f}</title></rect>'
            )
            parts.append(_interval(point, round(x + bar / 2 - 1, 1), lowest, highest))
        parts.append(_tick(group, middle, panel))
    return "\n".join(part for part in parts if part)


def _tick(text: str, x: float, panel: Panel) -> str:
    lines = text.split("/")
    spans = "".join(f'<tspan x="{round(x, 1)}" dy="12">{escape(line)}</tspan>' for line in lines)
    return f'<text x="{round(x, 1)}" y="{HEIGHT - BOTTOM + 4}" text-anchor="middle">{spans}</text>'


def _interval(point: Point, x: float, lowest: float, highest: float) -> str:
    if point.low is None or point.high is None or point.low != point.low:
        return ""
    ends = [_y(min(max(v, lowest), highest), lowest, highest) for v in (point.low, point.high)]
    return f'<line x1="{x}" x2="{x}" y1="{ends[0]}" y2="{ends[1]}" stroke="#222" stroke-width="1.5"/>'


def _lines(panel: Panel, shift: int, width: int) -> str:
    lowest, highest, axis = _axis(panel, shift, width)
    parts = [axis]
    places = sorted({p.x for points in panel.series.values() for p in points if p})
    if not places:
        return f'{axis}\n<text x="{shift + width // 2}" y="{HEIGHT // 2}" text-anchor="middle">missing</text>'
    reach = places[-1] - places[0] or 1.0

    def across(x: float) -> float:
        return round(shift + LEFT + 14 + (x - places[0]) / reach * (width - LEFT - RIGHT - 28), 1)

    for s, points in enumerate(panel.series.values()):
        known = sorted((p for p in points if p), key=lambda p: p.x)
        at = [(across(p.x), _y(p.value, lowest, highest)) for p in known]
        joined = " ".join(f"{x},{y}" for x, y in at)
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{_colour(s)}" stroke-width="2"/>')
        for point, (x, y) in zip(known, at, strict=True):
            parts.append(f'<circle cx="{x}" cy="{y}" r="2.5" fill="{_colour(s)}"/>')
            parts.append(_interval(point, x, lowest, highest))
    for x in places:
        parts.append(f'<text x="{across(x)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
    middle = shift + (LEFT + width - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - BOTTOM + 34}" text-anchor="middle">{escape(panel.x_title)}</text>')
    return "\n".join(part for part in parts if part)


def _legend(panel: Panel, shift: int, width: int) -> tuple[str, int]:
    """(its text, where it ends), in as many lines as it takes."""
    parts, x, y = [], shift + LEFT, HEIGHT + 4
    if len(panel.series) < 2:
        return "", HEIGHT
    for s, name in enumerate(panel.series):
        room = 24 + 6 * len(name)
        if x + room > shift + width and x > shift + LEFT:
            x, y = shift + LEFT, y + 17
        parts.append(f'<rect x="{x}" y="{y}" width="11" height="11" fill="{_colour(s)}"/>')
        parts.append(f'<text x="{x + 15}" y="{y + 10}">{escape(name)}</text>')
        x += room
    return "\n".join(parts), y + 20


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def nice(rough: float) -> float:
    """The next of 1, 2, 5 x 10^n that is not below `rough` (> 0)."""
    size = 10.0 ** math.floor(math.log10(rough))
    return next(s * size for s in (1, 2, 5, 10) if s * size >= rough * (1 - 1e-9))
