"""The sweep as a small SVG: kept rows (a band where something is undecided) and, if it is known, true correctness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from gra_train.synthesis.replay import Count, Rule

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM, GAP = 520, 300, 64, 36, 24, 46, 44
COLOURS = ("#1f6f8b", "#c8553d", "#588157", "#7b4b94", "#b8860b", "#444444")
Band = tuple[float, float, float]
"""(x, least, most)"""


def plot(rules: Sequence[Rule], counts: Sequence[Count], committee: Callable[[Rule], str]) -> str:
    """One panel for kept rows, a second for the share of correct rows. x: what is swept most finely."""
    axes = {
        "T_mean": [r.T_mean for r in rules], "T_std": [r.T_std for r in rules], "dedup": [r.dedup for r in rules],
    }  # fmt: skip
    name = max(axes, key=lambda key: len(set(axes[key])))
    xs = axes[name]
    others = [key for key in axes if key != name and len(set(axes[key])) > 1]
    labels = []
    for i, rule in enumerate(rules):
        parts = [f"{key} {axes[key][i]:g}" for key in others]
        parts += [rule.mode] * (len({r.mode for r in rules}) > 1)
        parts += [f"committee {committee(rule)}"] * (len({committee(r) for r in rules}) > 1)
        labels.append(", ".join(parts))
    panels: list[tuple[str, list[tuple[float, float]], bool]] = [("kept rows", [c.kept for c in counts], False)]
    if all(c.correct for c in counts):
        panels.append(
            ("correct % of accepted", [(100 * c.correct[0], 100 * c.correct[1]) for c in counts if c.correct], True)
        )
    if any(c.undecided for c in counts):
        panels = [(f"{title} (solid: at least, dashed: at most)", values, percent) for title, values, percent in panels]
    body = []
    for place, (title, values, percent) in enumerate(panels):
        lines: dict[str, list[Band]] = {}
        for x, label, (low, high) in zip(xs, labels, values, strict=True):
            lines.setdefault(label, []).append((x, low, high))
        body.append(_panel(title, name, lines, place * (WIDTH + GAP), top=100.0 if percent else None))
    legend = _legend(list(dict.fromkeys(labels)))
    total, height = len(panels) * WIDTH + (len(panels) - 1) * GAP, HEIGHT + 22 * bool(legend)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" width="{total}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="#222">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join([*body, legend])
        + "\n</svg>\n"
    )


def _panel(title: str, axis: str, lines: dict[str, list[Band]], shift: int, *, top: float | None) -> str:
    xs = sorted({x for band in lines.values() for x, _, _ in band})
    most = max(high for band in lines.values() for _, _, high in band)
    step = _step((top or most or 1) / 5)
    highest = top or step * (int(most / step) + 1)

    def at(x: float, y: float) -> tuple[float, float]:
        width = xs[-1] - xs[0] or 1.0
        share = (x - xs[0]) / width if xs[-1] > xs[0] else 0.5
        across = shift + LEFT + share * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(TOP + (1 - y / highest) * (HEIGHT - TOP - BOTTOM), 1)

    floor = HEIGHT - BOTTOM
    parts = [f'<text x="{shift + LEFT}" y="20" font-weight="bold">{escape(title)}</text>']
    for i in range(int(highest / step + 1e-9) + 1):
        _, y = at(xs[0], i * step)
        parts.append(f'<line x1="{shift + LEFT}" x2="{shift + WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{shift + LEFT - 8}" y="{y + 4}" text-anchor="end">{i * step:g}</text>')
    every = max(1, -(-len(xs) // 10))
    for x in xs[::every]:
        across, _ = at(x, 0)
        parts.append(f'<text x="{across}" y="{floor + 18}" text-anchor="middle">{x:g}</text>')
    middle = shift + (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(axis)}</text>')
    for colour, band in zip(_colours(len(lines)), lines.values(), strict=True):
        band = sorted(band)
        edge = [at(x, high) for x, _, high in band] + [at(x, low) for x, low, _ in reversed(band)]
        parts.append(f'<polygon points="{_points(edge)}" fill="{colour}" fill-opacity="0.18"/>')
        low_line = [at(x, low) for x, low, _ in band]
        parts.append(f'<polyline points="{_points(low_line)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        high_line = [at(x, high) for x, _, high in band]
        parts.append(
            f'<polyline points="{_points(high_line)}" fill="none" stroke="{colour}" stroke-width="1" '
            'stroke-dasharray="4 3"/>'
        )
        parts += [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>' for x, y in low_line]
    return "\n".join(parts)


def _legend(labels: Sequence[str]) -> str:
    if len(labels) < 2:
        return ""
    parts, x = [], LEFT
    for colour, label in zip(_colours(len(labels)), labels, strict=True):
        parts.append(f'<rect x="{x}" y="{HEIGHT + 4}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 17}" y="{HEIGHT + 14}">{escape(label)}</text>')
        x += 40 + 7 * len(label)
    return "\n".join(parts)


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in places)


def _step(rough: float) -> float:
    """The next of 1, 2, 5 x 10^n."""
    size = 10.0 ** (len(str(int(rough))) - 1 if rough >= 1 else -1)
    return next((s * size for s in (1, 2, 5, 10) if s * size >= rough), 10 * size)
