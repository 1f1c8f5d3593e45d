"""The estimate as text: a table by stage, one by model, and every assumption with its value and origin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from gra_train.chat.serve import resolve
from gra_train.schema import Config
from gra_train.synthesis import demand
from gra_train.synthesis.assumptions import KINDS, Assumptions, Basis
from gra_train.synthesis.estimate import StageCost, prices, ways
from gra_train.view import clock

MISSING = "n/a"
SHARES = ("pass_instruction", "adjudicated", "good", "survive", "retried")


def costs(config: Config, stages: Sequence[StageCost], notes: Sequence[str]) -> str:
    """Everything that is known before a run; what is not known is n/a, with the reason below."""
    sums = ("calls", "read", "written", "scored")
    rows = [
        [
            s.title + " (done: reused)" * s.done,
            _number(s.candidates),
            *(_number(s.total(what)) for what in sums),
            _time(s.seconds),
            _money(s.money),
        ]
        for s in stages
    ]
    todo = [s for s in stages if not s.done]
    total = [_number(sum(s.total(what) for s in todo)) for what in sums]
    rows.append(
        ["still to do", "", *total, _time(_sum([s.seconds for s in todo])), _money(_sum([s.money for s in todo]))]
    )
    counts = ["calls", "tokens read", "written", "scored"]
    parts = [
        "estimate (upper end: calls that another stage or an earlier run shares through the ledger cost nothing)",
        grid(["stage", "candidates", *counts, "time", "money"], rows) + "\n",
        grid(["model", *counts, "endpoints", "price in/out"], _by_model(config, todo)) + "\n",
    ]
    rests = [*notes, *_limits(stages), *_bases(stages)]
    parts += ["what this rests on", *(line if line.startswith(" ") else f"- {line}" for line in rests)]
    return "\n".join(parts)


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first to the left."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    )


def _by_model(config: Config, todo: Sequence[StageCost]) -> list[list[str]]:
    pool = resolve(config.pool)
    everyone = [*pool.models, *([pool.large] if pool.large else [])]
    rows = []
    for model in everyone:
        own = [d for s in todo for d in s.demands if d.model == model.name]
        sums = [_number(sum(getattr(d, what) for d in own)) for what in ("calls", "read", "written", "scored")]
        price = "/".join(MISSING if p is None else f"{p:g}" for p in prices(model))
        rows.append([model.name, *sums, str(ways(model) or "in process"), price])
    return rows


def _limits(stages: Sequence[StageCost]) -> list[str]:
    lines = ["training, COLLATE's rationales and evaluation are not estimated"]
    for s in stages:
        if s.node.stage != "synthesize" or s.done:
            continue
        synthesis = s.node.config.synthesis
        if demand.candidates(synthesis, s.basis.values) > synthesis.max_candidates:
            lines.append(
                f"{s.title}: synthesis.max_candidates={synthesis.max_candidates} would be used up "
                f"before {synthesis.target} rows are kept"
            )
    if any(s.seconds is None for s in stages):
        lines.append("time is n/a where models run in process and no earlier run measured them (from=RUN)")
    if any(s.money is None for s in stages):
        lines.append("money is n/a: a model has no price (price_in, price_out: per million tokens)")
    return lines


def _bases(stages: Sequence[StageCost]) -> list[str]:
    """The assumptions, once for each group of stages that share them."""
    groups: dict[str, tuple[list[str], Basis]] = {}
    for s in stages:
        groups.setdefault(s.basis.run, ([], s.basis))[0].append(s.title)
    lines = []
    for labels, basis in groups.values():
        values = basis.values
        lines.append(f"for {'; '.join(labels)}:")
        by_origin: dict[str, list[str]] = {}
        for field in fields(Assumptions):
            if field.name in (*SHARES, *KINDS):
                unit = " tokens" if field.name in KINDS else ""
                by_origin.setdefault(basis.origin[field.name], []).append(
                    f"{field.name} {getattr(values, field.name):g}{unit}"
                )
        lines += [f"    {origin}: {', '.join(named)}" for origin, named in by_origin.items()]
        if basis.seconds is not None:
            lines.append(f"    time: {1000 * basis.seconds:.3g} ms per call, measured in {basis.run}")
        elif any(s.seconds is not None and s.basis is basis for s in stages):
            lines.append(
                f"    time: an endpoint writes {values.written_per_s:g} and reads {values.read_per_s:g} tokens per s "
                f"({basis.origin['written_per_s']}, {basis.origin['read_per_s']}); the busiest model decides"
            )
    helps = ", ".join(f"{f.name}: {f.metadata['help']}" for f in fields(Assumptions) if f.name in SHARES)
    return [*lines, f"the shares: {helps}", "set any of them: assume.NAME=VALUE; measure them: from=RUN"]


def _sum(values: Sequence[float | None]) -> float | None:
    return None if any(v is None for v in values) else sum(v for v in values if v is not None)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if letter == 'k' else size):.1f}{letter}"
    return f"{value:.0f}"


def _time(seconds: float | None) -> str:
    return MISSING if seconds is None else clock(seconds)


def _money(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"
