"""A benchmark's goals beside what it measured, and whether they held."""

from __future__ import annotations

from collections.abc import Sequence

Goal = tuple[str, str, bool]
"""(target, what was measured, held)"""


def table(goals: Sequence[Goal]) -> str:
    """Markdown."""
    lines = [("target", "measured", "held"), ("---", "---", "---")]
    lines += [(what, got, "yes" if held else "**no**") for what, got, held in goals]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
