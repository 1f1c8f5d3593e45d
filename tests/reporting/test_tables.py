"""The papers' tables: every run composes, faults are found by code, rendering works with runs missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gra_train.errors import UserError
from gra_train.reporting import published, tables
from gra_train.reporting.command import main
from gra_train.reporting.stages import compare
from gra_train.runs import write_json

NAMES = ("gra_table1", "collate_table1")


@pytest.mark.parametrize("name", NAMES)
def test_every_run_composes_and_plans(name: str) -> None:
    folder = tables.table_folder(name)
    planned = tables.runs(folder)
    assert {run.scale for run in planned} == set(tables.SCALES)
    assert all("pools/" in run.problem for run in planned if run.scale == "pools"), "they must be built first"
    planned = [run for run in planned if run.scale != "pools"]
    assert [run.problem for run in planned] == [""] * len(planned)
    assert len({run.nodes[-1].run_id for run in planned}) == len(planned), "two runs are the same"
    for row in published.read(folder / "published.csv"):
        if row["ours"]:
            run, label = row["ours"].split("#")
            (found,) = [one for one in planned if one.name == run]
            assert label in found.nodes[-1].config.labels


@pytest.mark.parametrize("name", NAMES)
def test_flags_are_computed(name: str) -> None:
    rows = published.read(tables.table_folder(name) / "published.csv")
    assert [row["flags"] for row in rows] == published.flag_rows(rows)


def test_the_known_faults_are_found() -> None:
    """As the shared description of the papers lists them."""
    gra = published.read(tables.table_folder("gra_table1") / "published.csv")
    flags = published.flag_rows(gra)
    assert sum("average printed" in text for text in flags) == 10
    assert sum("is not k of 1319" in text for text in flags) == 2
    (condor,) = [t for r, t in zip(gra, flags, strict=True) if (r["student"], r["seed_data"], r["train_data"]) == ("llama3.1-8b", "condor", "gra")]  # fmt: skip  # noqa: E501
    assert condor.startswith("average printed 51.60, of its row 51.16")
    assert sum("gpqa_diamond" in text and "below chance" in text for text in flags) == 5
    assert published.flag_rows([{"gsm8k": "60.12"}, {"gsm8k": "62.22"}, {"piqa": "81.0"}]) == [
        "", "gsm8k 62.22 is not k of 1319", ""]  # fmt: skip


@pytest.fixture
def runs_dir(experiment: Callable[..., Any], tmp_path: Path) -> Path:
    """Finished comparisons, where the plan looks for them: the miniature's seeds 5 and 6, and one published run."""
    planned = tables.runs(tables.table_folder("gra_table1"))
    first_published = next(run for run in planned if run.scale == "published")
    for index, run in enumerate([*planned[:2], first_published]):
        node = run.nodes[-1]
        folder = tmp_path / "runs" / node.run_id
        out = folder / "result"
        out.mkdir(parents=True)
        stage, inputs = experiment(seed=index, gra="1" * (6 + index) + "0" * (4 - index))
        compare(stage, inputs, out)
        if index == 2:
            text = (out / "table.json").read_text()
            (out / "table.json").write_text(text.replace("mini_math", "gsm8k"))
        write_json(folder / "status.json", {"state": "done", "manifest": {}})
    return tmp_path / "runs"


def test_render_shows_what_is_there_and_what_is_missing(runs_dir: Path, tmp_path: Path) -> None:
    folder = tables.table_folder("gra_table1")
    path = tables.render(folder, runs_dir, out=tmp_path / "rendered.md")
    text = path.read_text()
    assert "Missing: mini seed=7, mini seed=8, mini seed=9." in text
    assert "| gra ! |" in text
    assert "COLLATE" not in text.split("## As published")[0], "that is the other table"
    assert "Means over seeds 0, 1 with 95% intervals" in text
    assert "60.12 (10.00)" in text, "our GSM8K beside the printed one"
    assert "Printed numbers; ours in brackets where a run exists (3 of 24 rows)" in text
    assert str(tmp_path) not in text
    assert path.read_text() == tables.render(folder, runs_dir, out=tmp_path / "again.md").read_text()


def test_render_without_any_run(tmp_path: Path) -> None:
    for name in NAMES:
        text = tables.render(tables.table_folder(name), tmp_path / "none", out=tmp_path / f"{name}.md").read_text()
        assert "Missing: mini seed=5, mini seed=6" in text
        assert "(0 of " in text


def test_run_makes_what_is_missing(runs_dir: Path) -> None:
    asked: list[Sequence[str]] = []

    def execute(experiment: str, overrides: Sequence[str]) -> int:
        asked.append([experiment, *overrides])
        return 3 if "seed=8" in overrides else 0

    assert tables.run(tables.table_folder("gra_table1"), runs_dir, execute) == 3
    assert asked == [["mini", "seed=7"], ["mini", "seed=8"]]


def test_command(runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gra_table1", "plan", f"runs_dir={runs_dir}"]) == 0
    said = capsys.readouterr().out
    assert "mini seed=4" in said
    assert "needs: synthesis: five 7-8B models" in said
    assert main(["collate_table1", "render", f"runs_dir={runs_dir}", f"out={tmp_path / 'c.md'}"]) == 0
    assert (tmp_path / "c.md").is_file()
    with pytest.raises(UserError, match="Did you mean 'gra_table1'"):
        main(["gra_tabel1", "plan"])
    with pytest.raises(UserError, match="Did you mean 'render'"):
        main(["gra_table1", "rendr"])
    with pytest.raises(UserError, match="scale='big'"):
        main(["gra_table1", "plan", "scale=big"])
    with pytest.raises(UserError, match="not of the form"):
        main(["gra_table1", "plan", "now"])
