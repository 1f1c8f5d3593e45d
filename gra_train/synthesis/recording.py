"""What a synthesis leaves behind, written as it happens: every candidate, the kept rows, and the export of each round.

Nothing here holds texts: candidates come wave by wave, with their final fates and by index.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import orjson

from gra_train.records import Fate, Sample, read_samples
from gra_train.runs import read_json, write_json
from gra_train.synthesis import funnel
from gra_train.synthesis.candidate import Candidate, CandidateTable
from gra_train.synthesis.rounds import Round

ROUNDS = "rounds.json"
"""Beside the work folder: the curated rounds, for shards of the next one. No result: `in_vain` depends on timing."""


def round_file(number: int) -> str:
    """The export after round `number` (from 0): the kept rows of all rounds up to it."""
    return f"data-round-{number + 1}.jsonl"


class Recording:
    """-> candidates.parquet, data.jsonl and, of several rounds, data-round-<k>.jsonl (rows of the first k rounds).

    Use as a context manager: data.jsonl and candidates.parquet are renamed into place on a clean exit.
    """

    def __init__(self, out: Path, *, T_mean: float, rounds: int) -> None:
        self._out, self._T_mean, self._several = out, T_mean, rounds > 1
        self._table = CandidateTable(out / "candidates.parquet")
        self.counts: funnel.Counts = funnel.Counts()
        self.rounds: list[Round] = []

    def __enter__(self) -> Self:
        self._table.__enter__()
        self._file = (self._out / "data.jsonl.tmp").open("wb")
        return self

    def candidates(self, candidates: Sequence[Candidate]) -> None:
        """A wave of the round that is being finished."""
        self._table.append(candidates)
        self.counts.update(funnel.count(candidates, T_mean=self._T_mean))
        for candidate in candidates:
            if candidate.fate is Fate.KEPT:
                self._file.write(orjson.dumps(candidate.sample().to_dict(), option=orjson.OPT_APPEND_NEWLINE))

    def round(self, done: Round) -> None:
        """The end of a round."""
        self.rounds.append(done)
        self._file.flush()
        if self._several:
            final = self._out / round_file(done.number)
            temporary = final.with_name(final.name + ".tmp")
            shutil.copyfile(self._file.name, temporary)
            temporary.replace(final)
        write_json(self._out.parent / ROUNDS, [asdict(one) for one in self.rounds])

    def __exit__(self, kind: Any, *error: Any) -> None:
        self._file.close()
        self._table.__exit__(kind, *error)
        if kind is None:
            Path(self._file.name).replace(self._out / "data.jsonl")


def curated(run: Path) -> tuple[list[Round], list[Sample]]:
    """(the rounds that are curated, their kept rows) of a synthesis that is not finished; its run folder is given."""
    rounds = [Round(**one) for one in read_json(run / ROUNDS) or []]
    if not rounds:
        return [], []
    files = sorted(run.glob(f"work-*/{round_file(rounds[-1].number)}"))
    return (rounds, read_samples(files[-1])) if files else ([], [])
