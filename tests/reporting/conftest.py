"""Result folders of earlier stages, as small as can be, in the formats that those stages write."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gra_train.evaluation.stages import COLUMNS, summarise
from gra_train.mini.data import problems
from gra_train.records import Sample, write_samples
from gra_train.runs import write_json
from gra_train.stages import CompareStage


def scores(folder: Path, answers: dict[str, str], *, unparseable: int = 0) -> Path:
    """A result of `evaluate`: answers = {task: "110.."}, one digit per test question."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for task, text in answers.items():
        for index, (digit, problem) in enumerate(zip(text, problems("test", len(text), 0, "Math"), strict=True)):
            rows.append(dict.fromkeys(COLUMNS, "") | {
                "task": task, "question_id": f"test-{index:04d}", "instruction": problem.instruction, "tokens": 9,
                "correct": digit == "1", "truncated": False, "unparseable": index < unparseable,
                "failed": False, "guessed": False})  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "questions.parquet")
    write_json(folder / "scores.json", summarise(rows, 0.95))
    return folder


def data(folder: Path, rows: int, correct: int | None = None, *, leak: int = 0, seeds: int = 0) -> Path:
    """A result of `dataset`, `leak` rows of which are test questions."""
    folder.mkdir(parents=True)
    chosen = [*problems("test", leak, 0, "Math"), *problems("train", rows - leak, 0, "Math")]
    write_samples(folder, [Sample(str(i), p.instruction, p.response) for i, p in enumerate(chosen)])
    known = {"correct": correct} if correct is not None else {}
    source = {"rows": rows - seeds, **known}
    write_json(folder / "statistics.json", {"rows": rows, "seeds": {"rows": seeds, **known}, "source": source})
    return folder


def quality(folder: Path, tokens: int, *, judged: bool = False) -> Path:
    """A result of `quality`."""
    folder.mkdir()
    scored = {"scorer": "chick", "n": 9, "unscored": 1, "mean": {"value": 0.5, "low": 0.4, "high": 0.6},
              "above_1": {"value": 0.0, "low": 0.0, "high": 0.3}}  # fmt: skip
    opinions = {"judge": "owl", "n": 8, "unparseable": 2, "failed": 0, "mean": {"value": 7.5, "low": 7.0, "high": 8.0},
                "above": 8, "share_above": {"value": 0.25, "low": 0.07, "high": 0.59}}  # fmt: skip
    distinct = {"1": 0.1, "2": 0.2, "3": 0.3}
    write_json(folder / "quality.json", {
        "rows": 10, "of": 10, "tokens": tokens, "tokens_beside_seeds": tokens, "effective_domains": 2.5,
        "words": {"instruction": 9.0, "response": 7.0}, "distinct": {"instruction": distinct, "response": distinct},
        "spread": {"encoder": "hashing", "mean": 0.8, "nearest": 0.25}, "domains": {"Math": 10},
        "ifd": scored, "judge": opinions if judged else None,
    })  # fmt: skip
    return folder


FUNNEL: dict[str, Any] = {
    "candidates": 10, "scoring": "likelihood", "rounds": [],
    "fates": {"kept": 4, "rejected_score": 5, "unparseable": 1},
    "steps": {
        "proposed": {"rows": 9, "correct": 5, "unknown": 0, "correct_share": 0.555556},
        "accepted": {"rows": 5, "correct": 4, "unknown": 0, "correct_share": 0.8},
        "kept": {"rows": 4, "correct": 4, "unknown": 0, "correct_share": 1.0},
    },
    "models": {
        "alpha": {
            "generator": {"proposed": 10, "good": 4, "acceptance": 0.4},
            "reviewer": {"instructions": 0, "passed": None, "responses": 0, "mean_score": None,
                         "precision": None, "recall": None},
            "answers": {"answers": 20, "repaired": 0, "unparseable": 1, "truncated": 0},
        }
    },
    "decision": {"votes": 9, "precision": 0.8, "recall": 0.75, "balanced": 0.7},
    "adjudicator": {"votes": 0, "precision": None, "recall": None, "balanced": None},
}  # fmt: skip


def experiment_in(
    folder: Path, name: str = "e", seed: int = 0, gra: str = "1111110000", solo: str = "1110110000"
) -> tuple[CompareStage, dict[str, Path]]:
    """A comparison's configuration and inputs: seed < gra, gra against solo, COLLATE on gra."""
    root = folder / f"{name}-{seed}"
    (root / "synthesis").mkdir(parents=True)
    write_json(root / "synthesis" / "funnel.json", FUNNEL)
    inputs = {
        "seed.data": data(root / "d0", 3, 3, seeds=3),
        "seed.scores": scores(root / "s0", {"mini_math": "1000000000", "mini_coding": "0000000000"}, unparseable=3),
        "gra.data": data(root / "d1", 20, 9, leak=1, seeds=10),
        "gra.scores": scores(root / "s1", {"mini_math": gra, "mini_coding": gra}),
        "solo.data": data(root / "d2", 20),
        "solo.scores": scores(root / "s2", {"mini_math": solo, "mini_coding": solo}),
        "gra + COLLATE M_IFT.scores": scores(root / "s3", {"mini_math": "1111110000"}),
        "synthesis": root / "synthesis",
        "gra.quality": quality(root / "q1", 900, judged=True),
        "solo.quality": quality(root / "q2", 1000),
    }
    for iteration in (1, 2):
        merit = root / f"merit{iteration}"
        merit.mkdir()
        write_json(merit / "statistics.json", {"pairs": {"kept": 10 * iteration}, "mean_merit": -0.5 / iteration})
        inputs[f"collate.gra.{iteration}"] = merit
    labels = ["seed", "gra", "solo", "gra + COLLATE M_IFT", "own"]
    return CompareStage(name, seed, "solo", 500, 0.95, labels, "likelihood", {"solo": "gra"}), inputs


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., tuple[CompareStage, dict[str, Path]]]:
    return partial(experiment_in, tmp_path)
