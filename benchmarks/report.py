"""The benchmark's table: medians over repetitions with their spread, in the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from runner import BARE, OURS, Cell, Outcome

HEADER = ("side", "calls/s", "of the ideal", "in the middle", "CPU ms/call", "peak MB", "wall s", "first call s",
          "rows lost", "calls sent", "runs")  # fmt: skip
Results = Mapping[Cell, Sequence[Outcome]]


def spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    """The median, and the least and the largest where there are several: "240 [233, 251]"."""
    middle = show(median(values))
    return middle if len(values) < 2 else f"{middle} [{show(min(values))}, {show(max(values))}]"


def row(cell: Cell, side: str, runs: Sequence[Outcome]) -> list[str]:
    """One line of the table; of runs that failed, the reason."""
    done = [r for r in runs if not r.failure]
    if not done:
        return [side, runs[0].failure, *[""] * (len(HEADER) - 3), str(len(runs))]
    return [
        side,
        spread([r.throughput for r in done], "{:.0f}".format),
        spread([r.throughput / cell.ideal for r in done], "{:.1%}".format),
        f"{median(r.middle / cell.ideal for r in done):.1%}",
        spread([r.cpu_ms for r in done], "{:.2f}".format),
        f"{median(r.peak_mb for r in done):.0f}",
        spread([r.wall_s for r in done], "{:.1f}".format),
        f"{median(r.first_s for r in done):.1f}",
        str(sum(r.lost for r in done)),
        spread([r.calls for r in done], "{:.0f}".format) if len({r.calls for r in done}) > 1 else str(done[0].calls),
        str(len(done)) + (f", {len(runs) - len(done)} failed: {next(r.failure for r in runs if r.failure)}"
                          if len(done) < len(runs) else ""),
    ]  # fmt: skip


def tables(results: Results) -> str:
    """One Markdown table per cell, sides in the order of the run."""
    parts = []
    for cell, outcomes in results.items():
        sides = list(dict.fromkeys(o.side for o in outcomes))
        rows = [row(cell, side, [o for o in outcomes if o.side == side]) for side in sides]
        title = f"{cell.name}: {cell.rows} rows, {cell.calls} calls, ideal {cell.ideal:.0f} calls/s"
        parts.append(f"### {title}\n\n{markdown(HEADER, rows)}")
    return "\n\n".join(parts)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An aligned Markdown table: the first column to the left, the others to the right."""
    widths = [max(3, *(len(line[i]) for line in (header, *rows))) for i in range(len(header))]
    rule = [("-" * w if i == 0 else "-" * (w - 1) + ":") for i, w in enumerate(widths)]
    pad = [[c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
           for line in (header, rule, *rows)]  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in pad)


def targets(results: Results) -> list[tuple[str, str, bool]]:
    """(target, what was measured, held) for each target that this run can speak to."""
    found = []
    for cell, outcomes in results.items():
        ours = [o for o in outcomes if o.side == OURS and not o.failure]
        bare = [o for o in outcomes if o.side == BARE and not o.failure]
        if not ours or not bare:
            continue
        if (cell.latency, cell.concurrency) == (0.5, 256) and not cell.stragglers:
            share, yardstick = (median(o.throughput for o in side) / cell.ideal for side in (ours, bare))
            text = f"{share:.1%} (bare aiohttp {yardstick:.1%})"
            found.append((f"{cell.name}: at least 95% of the latency-bound ideal", text, share >= 0.95))
        if cell.stragglers:
            ratio = median(bare_.throughput / own.throughput for own, bare_ in zip(ours, bare, strict=False))
            found.append((f"{cell.name}: within 1.1 x of bare aiohttp", f"{ratio:.2f} x its time", ratio <= 1.1))
        cpu = median(o.cpu_ms for o in ours)
        found.append((f"{cell.name}: at most 0.6 ms of client CPU per call", f"{cpu:.2f} ms", cpu <= 0.6))
        lost, extra = sum(o.lost for o in ours), sum(o.calls - cell.calls for o in ours)
        found.append(
            (f"{cell.name}: no row lost, no call sent twice", f"{lost} lost, {extra} extra", not lost and not extra)
        )
    return found
