"""The cut stage: as much of an arm's training set as has no more tokens than another arm's."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from gra_train.data.dataset import describe
from gra_train.data.tokens import count_tokens
from gra_train.errors import UserError
from gra_train.records import Sample, read_samples, write_samples
from gra_train.runs import read_json, write_json
from gra_train.stages import CutStage
from gra_train.synthesis.checker import checker

log = logging.getLogger(__name__)


def cut(config: CutStage, inputs: Mapping[str, Path], out: Path) -> None:
    """inputs: data, like -> data.jsonl, statistics.json: data's seeds, and of its other rows some.

    Rows are taken in a random order, by the seed, until the next would exceed the tokens that `like` has beside its own
    seeds; they keep their order. Where there are not that many tokens, all are taken, with a warning.
    Raises UserError where not a single row fits.
    """
    seeds, source = _parts(inputs["data"])
    most = sum(count_tokens(config.student, _parts(inputs["like"])[1]))
    lengths = count_tokens(config.student, source)
    chosen, total = _fill(lengths, most, config.seed)
    if not chosen:
        raise UserError(f"no row fits into the {most} tokens that the other arm has beside its seeds")
    if sum(lengths) < most:
        log.warning("%d tokens were asked for and %d are there", most, total)
    rows, check = [source[i] for i in chosen], checker(config.checker)
    write_samples(out, [*seeds, *rows])
    statistics = {
        "rows": len(seeds) + len(rows),
        "seeds": describe(seeds, check),
        "source": describe(rows, check),
        "removed": {"cut": len(source) - len(rows)},
        "tokens": {"most": most, "beside_seeds": total},
    }
    write_json(out / "statistics.json", statistics)


def _parts(folder: Path) -> tuple[list[Sample], list[Sample]]:
    """(seeds, the rows beside them) of a result of the dataset stage; seeds alone are what it is made of."""
    rows, statistics = read_samples(folder), read_json(folder / "statistics.json")
    seeds = statistics["seeds"]["rows"]
    return (rows[:seeds], rows[seeds:]) if len(rows) > seeds else ([], rows)


def _fill(lengths: Sequence[int], most: int, seed: int) -> tuple[list[int], int]:
    """(indices in order, their tokens)."""
    order = random.Random(f"tokens {seed}").sample(range(len(lengths)), len(lengths))
    total, chosen = 0, []
    for i in order:
        if total + lengths[i] > most:
            break
        total += lengths[i]
        chosen.append(i)
    return sorted(chosen), total
