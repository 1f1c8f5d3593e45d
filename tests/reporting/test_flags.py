"""A score that cannot be taken as it is, is marked in every table that shows it, by one rule."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gra_train.reporting.document import make_grid, to_latex, to_markdown
from gra_train.reporting.finished import from_result
from gra_train.reporting.flags import counted, counts, flags, is_marked, problems
from gra_train.reporting.markup import grid
from gra_train.reporting.page import render
from gra_train.reporting.recipe import Miniature
from gra_train.reporting.stages import compare, read_table
from gra_train.reporting.sweep import aggregate
from gra_train.reporting.sweep_view import blocks, records
from gra_train.reporting.terminal import draw
from gra_train.runs import write_json
from tests.reporting.conftest import scores


def entry(n: int = 100, unparseable: int = 0, truncated: int = 0, **more: int) -> dict[str, Any]:
    return {"score": 0.5, "low": 0.4, "high": 0.6, "n": n, "unparseable": unparseable, "truncated": truncated, **more}


def test_the_rule() -> None:
    assert problems(entry(unparseable=5, truncated=5, failed=0)) == [], "five percent are not over five percent"
    assert problems(entry(unparseable=6, truncated=7)) == [
        "6% of the answers unparseable",
        "7% of the answers truncated",
    ]
    assert problems(entry(failed=1)) == ["1 of 100 questions not answered"], "no share of them is the model's doing"
    assert problems(entry()) == [], "scores of earlier versions count no failures"
    row = {"math": entry(failed=1), "bbh": entry(), "average": entry(n=200, failed=1)}
    assert [is_marked(row, task) for task in (*row, "gsm8k")] == [True, False, True, False]
    assert flags(row, 2) == ["math: 1 of 100 questions not answered", "2 training rows state a test question"]
    assert counts(row) == {"n": 200, "unparseable": 0, "truncated": 0, "failed": 1}
    assert list(counted([counts(row)])) == ["unparseable", "truncated", "failed"]
    assert list(counted([counts({"bbh": entry()}), counts({})])) == ["unparseable", "truncated"]


@pytest.fixture
def out(experiment: Callable[..., Any], tmp_path: Path) -> Path:
    """A comparison in which 3 of 10 answers of `seed` and `solo` are unparseable, and a server left three of `gra`'s
    questions in coding unanswered."""
    stage, inputs = experiment()
    doubtful = {"mini_math": "1110110000", "mini_coding": "1110110000"}
    inputs["solo.scores"] = scores(tmp_path / "solo", doubtful, unparseable=3)
    file = inputs["gra.scores"] / "scores.json"
    found = json.loads(file.read_text())
    for task in ("mini_coding", "average"):
        found[task]["failed"] = 3
    write_json(file, found)
    folder = tmp_path / "run" / "work-1"
    folder.mkdir(parents=True)
    compare(stage, inputs, folder)
    return folder


def test_every_table_of_a_comparison_marks_it(out: Path) -> None:
    table, text = read_table(out), (out / "table.md").read_text()
    gra = next(line for line in text.splitlines() if line.startswith("| gra ! |"))
    marked = [cell.endswith("] !") for cell in gra.split(" | ")]
    assert [i for i, one in enumerate(marked) if one] == [4, 5], "coding and the average, not math"
    assert gra.endswith("| 0 of 20 | 0 of 20 | 3 of 20 |")
    assert "| unparseable | truncated | not answered |" in text
    per_task = text.partition("## Benchmark by benchmark")[2].splitlines()
    line = next(line for line in per_task if line.startswith("| gra | math"))
    assert line.split(" | ")[2].endswith("]"), "its own score is sound"
    assert line.split(" | ")[3].endswith("] !"), "the baseline's is not"
    same = next(report for report in table["reports"] if report["title"] == "The same number of tokens")
    assert [[cell.endswith(" !") for cell in row[5:7]] for row in same["rows"]] == [
        [True, False], [True, True], [True, True],
    ]  # fmt: skip
    tex = (out / "table.tex").read_text()
    assert r"\texttt{gra}: mini\_coding: 3 of 10 questions not answered; 1 training rows" in tex
    assert "] ! &" in tex.replace("{]}", "]")
    html = render(table, [], {}, "run")
    assert html.count("] !</td>") >= 8
    assert "mini_coding: 3 of 10 questions not answered" in html
    rows = (out / "table.csv").read_text().splitlines()
    assert "n,unparseable,truncated,failed,flags," in rows[0]
    assert any(",10,0,0,3,3 of 10 questions not answered," in row for row in rows)


def test_a_terminal_drops_all_counts_together(out: Path) -> None:
    from rich.console import Console

    for width, shown in ((220, True), (110, False)):
        console = Console(width=width, record=True, file=io.StringIO())
        draw(read_table(out), console)
        main = console.export_text().partition("- Scores")[0].partition("Synthesis")[0]
        assert ("swered" in main, "seable" in main) == (shown, shown)


def test_tables_over_seeds_mark_it_and_count_it(experiment: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    """Seed 0 is the doubtful one; seed 1 is sound but for `seed`."""
    sound = tmp_path / "sound" / "work-1"
    sound.mkdir(parents=True)
    compare(*experiment(seed=1), sound)
    recipe = Miniature(rows={"seed": "", "gra": "", "solo": ""})
    result = aggregate([from_result(out), from_result(sound)], recipe)
    found = blocks(result, recipe, "caption")
    text = to_markdown(found)
    line = next(line for line in text.splitlines() if line.startswith("| gra ! |"))
    assert line.split(" | ")[2:4] == ["60.0", "60.0 !"], "math is sound in both seeds, coding is not"
    assert line.endswith("| 0 of 40 | 0 of 40 | 3 of 40 |")
    assert "Questions of each seed: math 10, coding 10" in text
    assert "- `gra`: mini_coding: 3 not answered of 20 (flagged in 1 of 2 seeds); training rows state a test" in text
    assert "- `seed`: mini_math: 6 unparseable of 20 (flagged in 2 of 2 seeds); mini_coding: 6" in text
    (record,) = [r for r in records(result, "mini") if (r["row"], r["column"]) == ("gra", "mini_coding")]
    assert (record["n"], record["questions"], record["failed"]) == (2, 20, 3)


def test_what_has_line_breaks_stays_one_row() -> None:
    """Domains are named by data and models."""
    text = grid(["domain", "share"], [["Math\nand | more\r\n", "1\u2028"]])
    assert text.splitlines() == ["| domain | share |", "| --- | --: |", "| Math and \\| more | 1 |"]
    tex = to_latex([make_grid(["domain", "share"], [["Math\n\nLogic", "1"]])], label="x")
    assert "    Math  Logic & 1 \\\\" in tex.splitlines(), "an empty line would end the paragraph inside a cell"
