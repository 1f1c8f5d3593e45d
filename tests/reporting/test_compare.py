"""The comparison stage: every number of the table can be traced to its inputs by hand."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gra_train.reporting.stages import compare, read_table
from gra_train.reporting.terminal import draw, show


@pytest.fixture
def out(experiment: Callable[..., Any], tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "work-1"
    folder.mkdir(parents=True)
    compare(*experiment(), folder)
    return folder


def row(table: dict[str, Any], label: str) -> dict[str, Any]:
    return next(r for r in table["rows"] if r["label"] == label)


def test_the_numbers(out: Path) -> None:
    table = read_table(out)
    gra = row(table, "gra")
    assert table["tasks"] == ["mini_math", "mini_coding"]
    assert gra["scores"]["average"]["score"] == 0.6
    assert gra["difference"]["average"]["value"] == pytest.approx(0.1)
    assert gra["difference"]["average"]["low"] <= 0 <= gra["difference"]["average"]["high"]
    assert gra["data"]["rows"] == 20
    assert gra["data"]["correct"]["value"] == 0.9
    assert row(table, "seed")["difference"]["average"]["high"] < 0
    assert row(table, "solo")["difference"] is None
    assert row(table, "solo")["data"]["correct"] is None
    assert table["funnel"]["proposed"]["correct"] == 5


def test_every_difference_has_its_doubt(out: Path) -> None:
    """GRA and solo disagree on one question of ten in each task, so p = 1; `seed` loses 4 of 10 and 5 of 10."""
    table = read_table(out)
    gra, seed = row(table, "gra"), row(table, "seed")
    one = gra["tests"]["mini_math"]
    assert (one["won"], one["lost"], one["n"], one["p"], one["adjusted"]) == (1, 0, 10, 1, 1)
    assert one["detectable"] == 0.1, "one question in ten: not even if all of them went one way"
    assert gra["tests"]["average"]["detectable"] == 0.1
    assert seed["tests"]["mini_math"]["p"] == pytest.approx(2 / 2**4)
    assert seed["tests"]["mini_coding"]["p"] == pytest.approx(2 / 2**5)
    assert seed["tests"]["mini_coding"]["adjusted"] == pytest.approx(5 * 2 / 2**5), "five tests in this table"
    assert seed["tests"]["average"]["p"] == pytest.approx(2 / 2**9, abs=0.01)  # of 500 draws
    assert seed["tally"] == {"wins": 0, "ties": 2, "losses": 0}
    text = (out / "table.md").read_text()
    assert "| minus solo | p corrected | detectable | won : tied : lost |" in text
    assert "| gra | math | 60.0 [" in text.partition("## Benchmark by benchmark")[2]
    assert "| 1 : 0 | 1.000 | 1.000 | 10.0 |" in text


def test_what_is_missing_stays_missing(out: Path) -> None:
    """An arm without results, an average over other tasks than the baseline's, data that nobody can check."""
    table = read_table(out)
    own, partial = row(table, "own"), row(table, "gra + COLLATE M_IFT")
    keys = ("data", "scores", "difference", "tests", "tally", "quality")
    assert own == {"label": "own", "flags": [], **dict.fromkeys(keys)}
    assert "average" not in partial["difference"]
    assert "average" not in partial["scores"], "of one task of two"
    assert "average" not in partial["tests"]
    assert partial["difference"]["mini_math"]["value"] == pytest.approx(0.1)
    lines = (out / "table.md").read_text().splitlines()
    assert next(line for line in lines if line.startswith("| own")).count("n/a") == 11


def test_what_a_reader_must_know_is_flagged(out: Path) -> None:
    text = (out / "table.md").read_text()
    table = read_table(out)
    assert row(table, "gra")["flags"] == ["1 training rows state a test question"]
    assert row(table, "seed")["flags"] == [
        "mini_math: 30% of the answers unparseable",
        "mini_coding: 30% of the answers unparseable",
    ]
    assert row(table, "solo")["flags"] == []
    assert "| gra ! | 10 + 10 | 90.0 [" in text
    assert "6 of 20" in text
    assert "Reviewers scored by likelihood" in text
    assert "minus solo" in text


def test_the_further_tables(out: Path) -> None:
    text = (out / "table.md").read_text()
    assert "| proposed (= no review) | 9 | 55.6 [" in text
    assert "precision 80.0, recall 75.0" in text
    assert "| alpha | 10 | 40.0 | 0 | n/a | n/a | n/a | 1 of 20 |" in text
    assert "|  | iteration 1 | iteration 2 |" in text
    assert "| pairs: kept | 10 | 20 |" in text
    assert "| mean merit | -0.5 | -0.25 |" in text


def test_same_inputs_same_bytes_and_no_paths(out: Path, experiment: Callable[..., Any], tmp_path: Path) -> None:
    again = tmp_path / "elsewhere" / "work-7"
    again.mkdir(parents=True)
    compare(*experiment("f"), again)
    for file in ("table.csv", "table.parquet", "answers.parquet"):
        assert (out / file).read_bytes() == (again / file).read_bytes()
    for file in ("table.json", "table.md", "table.tex"):
        text = (out / file).read_text()
        text = text.replace('"e"', '"f"').replace("# e,", "# f,").replace("{e, ", "{f, ").replace("{e:", "{f:")
        assert text == (again / file).read_text()
        assert str(tmp_path) not in text


def test_csv_holds_every_cell(out: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((out / "table.csv").read_text())))
    assert len(rows) == 5 * 3
    found = next(r for r in rows if r["label"] == "gra" and r["task"] == "average")
    assert (float(found["score"]), int(found["n"]), int(found["data_rows"])) == (0.6, 20, 20)
    assert next(r for r in rows if r["label"] == "own")["score"] == ""


def test_parquet_holds_the_same(out: Path) -> None:
    import pyarrow.parquet as pq

    rows = pq.read_table(out / "table.parquet").to_pylist()
    texts = list(csv.DictReader(io.StringIO((out / "table.csv").read_text())))
    assert [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows] == texts
    found = next(row for row in rows if row["label"] == "gra" and row["task"] == "mini_math")
    assert (found["won"], found["lost"], found["p"], found["data_tokens"]) == (1, 0, 1.0, 900)


def test_latex_is_escaped_and_complete(out: Path) -> None:
    text = (out / "table.tex").read_text()
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == len(read_table(out)["reports"]) + 2
    assert r"data correct \%" in text
    bare = [line for line in text.splitlines() if " & " in line and re.search(r"(?<!\\)[%_#<>]", line)]
    assert not bare


def test_the_training_sets_and_the_same_number_of_tokens(out: Path) -> None:
    reports = {report["title"]: report for report in read_table(out)["reports"]}
    sets = reports["The training sets"]
    assert [row[0] for row in sets["rows"]] == ["gra", "solo"], "the others were not looked at"
    gra, solo = sets["rows"]
    assert gra[-2:] == ["7.50 [7.00, 8.00]", "25.0 [7.0, 59.0]"]
    assert solo[-2:] == ["n/a", "n/a"]
    assert "scored by chick (2 rows could not be)" in sets["note"]
    assert "could not be read: gra 2." in sets["note"]
    mix = reports["Domains of the rows beside the seeds, in percent"]
    assert (mix["columns"], mix["rows"]) == (["domain", "gra", "solo"], [["Math", "100.0", "100.0"]])
    same = reports["The same number of tokens"]["rows"]
    assert [row[:5] for row in same] == [["solo", "gra", "1000", "900", task] for task in ("math", "coding", "average")]
    assert same[0][7].startswith("-10.0 [")


def test_terminal_and_plain(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    show(out)
    plain = capsys.readouterr().out
    assert "\x1b" not in plain
    assert "gra + COLLATE M_IFT" in plain
    assert "60.0 [" in plain
    for width, whole in ((150, True), (100, False)):
        console = Console(force_terminal=True, width=width, record=True, file=io.StringIO())
        draw(read_table(out), console)
        text = console.export_text()
        assert ("coding" in text) == whole, "single tasks give way first"
        assert "60.0 [" in text
        assert "M_IFT" in text
        assert "solo" in text
        assert "…" not in text
