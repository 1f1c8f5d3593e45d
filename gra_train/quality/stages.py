"""The quality stage: a training set's diversity, difficulty and judge score, on rows that are drawn from it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from gra_train import progress
from gra_train.data.tokens import count_tokens
from gra_train.errors import UserError
from gra_train.evaluation.statistics import mean, share
from gra_train.quality.difficulty import difficulties
from gra_train.quality.diversity import distinct, effective_number, spread
from gra_train.quality.judging import Opinion, judge
from gra_train.records import Sample, read_samples
from gra_train.runs import read_json, write_json
from gra_train.schema import Model
from gra_train.stages import QualityStage
from gra_train.synthesis.embed import encoder

PARTS = ("instruction", "response")


def quality(config: QualityStage, inputs: Mapping[str, Path], out: Path) -> None:
    """inputs: data, a result of the dataset stage. -> quality.json, rows.parquet (what was drawn, with its scores).

    The rows are those beside the seeds (the seeds, where there are no others), at most config.quality.rows of them,
    drawn by config.seed. Raises UserError for a scorer or judge that cannot be used.
    """
    settings = config.quality
    rows = read_samples(inputs["data"])
    seeds = (read_json(inputs["data"] / "statistics.json") or {}).get("seeds", {}).get("rows", 0)
    own = rows[seeds:] or rows
    drawn = _drawn(own, settings.rows, config.seed)
    tokens = count_tokens(config.student, rows)
    domains = Counter(sample.domain or "(none)" for sample in own)
    found: dict[str, Any] = {
        "rows": len(drawn),
        "of": len(own),
        "tokens": sum(tokens),
        "tokens_beside_seeds": sum(tokens[seeds:]),
        "words": {part: round(fmean(len(getattr(s, part).split()) for s in drawn), 2) for part in PARTS},
        "distinct": {
            part: {str(n): distinct([getattr(s, part) for s in drawn], n) for n in (1, 2, 3)} for part in PARTS
        },
        "spread": _spread(config.encoder.encoder, drawn),
        "domains": dict(sorted(domains.items())),
        "effective_domains": effective_number(domains),
    }
    ifd, opinions = _scored(config, drawn, out)
    found["ifd"] = _difficulty(settings.scorer, ifd)
    found["judge"] = _opinions(settings.judge, opinions, settings.judge_above)
    write_json(out / "quality.json", found)
    _write_rows(out / "rows.parquet", drawn, ifd, opinions)


def _drawn(rows: Sequence[Sample], most: int, seed: int) -> list[Sample]:
    if len(rows) <= most:
        return list(rows)
    return [rows[i] for i in sorted(random.Random(f"quality {seed}").sample(range(len(rows)), most))]


def _spread(name: str, rows: Sequence[Sample]) -> dict[str, Any]:
    """Of the instructions. A folder is told by its name: results hold no paths."""
    known = spread(encoder(name)([row.instruction for row in rows]))
    return {"encoder": Path(name).name if Path(name).is_dir() else name, **(known or {"mean": None, "nearest": None})}


def _scored(
    config: QualityStage, rows: Sequence[Sample], out: Path
) -> tuple[list[float | None] | None, list[Opinion] | None]:
    """(IFD of each row, opinion on each row), None for what no model is named for."""
    settings = config.quality
    scorer, judging = settings.scorer, settings.judge
    members = {model.name: model for model in (scorer, judging) if model}
    if not members:
        return None, None
    if scorer and judging and scorer.name == judging.name and vars(scorer) != vars(judging):
        raise UserError(
            f"compare.quality: scorer and judge are two models of one name, {scorer.name!r}: give two names"
        )
    from gra_train.chat.pool import open_pool

    ledger = Path(config.ledger) if config.ledger else out.parent / "ledger"
    with open_pool(list(members.values()), ledger=ledger, device=config.device) as pool:
        ifd = opinions = None
        if scorer:
            with progress.task(f"difficulty by {scorer.name}", total=len(rows), unit="rows") as bar:
                ifd = difficulties(pool, scorer.name, rows, block=settings.block, on_done=bar.advance)
        if judging:
            with progress.task(f"judged by {judging.name}", total=len(rows), unit="rows") as bar:
                opinions = judge(
                    pool, judging.name, rows, max_tokens=settings.judge_max_tokens, block=settings.block,
                    on_done=bar.advance,
                )  # fmt: skip
        pool.write_usage(out.parent / "usage.json")
    return ifd, opinions


def _difficulty(scorer: Model | None, values: Sequence[float | None] | None) -> dict[str, Any] | None:
    if scorer is None or values is None:
        return None
    known = [value for value in values if value is not None]
    above = share(sum(value > 1 for value in known), len(known)) if known else None
    return {
        "scorer": scorer.name,
        "n": len(known),
        "unscored": len(values) - len(known),
        "mean": _estimate(mean(known)) if known else None,
        "above_1": _estimate(above) if above else None,
    }


def _opinions(model: Model | None, opinions: Sequence[Opinion] | None, above: int) -> dict[str, Any] | None:
    if model is None or opinions is None:
        return None
    scores = [one.score for one in opinions if one.score is not None]
    return {
        "judge": model.name,
        "n": len(scores),
        "unparseable": sum(one.score is None and one.answered for one in opinions),
        "failed": sum(not one.answered for one in opinions),
        "mean": _estimate(mean(scores)) if scores else None,
        "above": above,
        "share_above": _estimate(share(sum(score > above for score in scores), len(scores))) if scores else None,
    }


def _estimate(found: Any) -> dict[str, float | None]:
    return {key: None if np.isnan(value) else round(float(value), 6) for key, value in found._asdict().items()}


def _write_rows(
    path: Path, rows: Sequence[Sample], ifd: Sequence[float | None] | None, opinions: Sequence[Opinion] | None
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "id": pa.array([row.id for row in rows], pa.string()),
        "domain": pa.array([row.domain for row in rows], pa.string()),
        "instruction": pa.array([row.instruction for row in rows], pa.string()),
        "response": pa.array([row.response for row in rows], pa.string()),
        "ifd": pa.array(ifd or [None] * len(rows), pa.float64()),
        "judge_score": pa.array([one.score for one in opinions] if opinions else [None] * len(rows), pa.int64()),
        "judge_said": pa.array([one.said for one in opinions] if opinions else [None] * len(rows), pa.string()),
    }
    pq.write_table(pa.table(columns), path)
