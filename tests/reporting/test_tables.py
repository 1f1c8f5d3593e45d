"""The papers' tables: every run composes, recipes are valid, rendering works with runs missing, `run` makes them."""

from __future__ import annotations

import csv
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gra_train.errors import UserError
from gra_train.reporting import published, tables
from gra_train.reporting.command import main
from gra_train.reporting.document import to_markdown
from gra_train.reporting.finished import Finished, kept
from gra_train.reporting.index import index, state
from gra_train.reporting.published_view import Printed, blocks, ours, records
from gra_train.reporting.recipe import Published, read_recipe
from gra_train.reporting.render import FILES, render
from gra_train.reporting.stages import compare
from gra_train.runs import write_json
from tests.reporting.conftest import experiment_in

GRA = ("table1", "table2", "table3", "figure3", "figure4", "roles", "figure7", "figure8", "cost")
NAMES = [f"gra_{n}" for n in GRA] + [f"collate_table{n}" for n in (1, 3, 4, 5, 8, 9, 10, 11, 12, 14)]


def test_every_table_has_its_folder() -> None:
    assert tables.names() == sorted(NAMES)
    for name in NAMES:
        assert (tables.table_folder(name) / "README.md").read_text().count("## ") >= 3


@pytest.mark.parametrize("name", NAMES)
def test_every_run_composes_and_plans(name: str) -> None:
    """And speaks of rows that its runs have: a label in table.yaml or in published.csv is one of their comparison."""
    folder = tables.table_folder(name)
    planned = tables.runs(folder)
    assert all("pools/" in run.problem for run in planned if run.scale == "pools"), "they must be built first"
    planned = [run for run in planned if run.scale != "pools"]
    assert [run.problem for run in planned] == [""] * len(planned)
    assert len({run.nodes[-1].run_id for run in planned}) == len(planned), "two runs are the same"
    small = {label for run in planned if run.scale == "mini" for label in run.nodes[-1].config.labels}
    recipe = read_recipe(folder)
    assert set(recipe.miniature.rows) <= small
    if small:
        assert {run.overrides[0] for run in planned if run.scale == "mini"} == {f"seed={s}" for s in range(5, 10)}
    rows = published.read(folder / "published.csv")
    for row in rows:
        for column in recipe.published.values if "{column}" in row["ours"] else [""] * bool(row["ours"]):
            run, label = row["ours"].replace("{column}", column).split("#")
            (found,) = [one for one in planned if one.name == run]
            assert {label, *recipe.published.labels.values()} <= set(found.nodes[-1].config.labels)
    printed = {"/".join(row[c] for c in recipe.published.compare) for row in rows}
    assert set(recipe.miniature.rows.values()) - {""} <= printed, "a published row that is not printed"


@pytest.fixture
def runs_dir(finished_runs: Path, tmp_path: Path) -> Path:
    """A test's own copy of `finished_runs`."""
    return Path(shutil.copytree(finished_runs, tmp_path / "runs"))


@pytest.fixture(scope="module")
def finished_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished comparisons, where the plan looks for them: the miniature's seeds 5 and 6, and one published run."""
    runs_dir = tmp_path_factory.mktemp("runs")
    planned = tables.runs(tables.table_folder("gra_table1"))
    first_published = next(run for run in planned if run.scale == "published")
    for place, run in enumerate([*planned[:2], first_published]):
        node = run.nodes[-1]
        folder = runs_dir / node.run_id
        out = folder / "result"
        out.mkdir(parents=True)
        gra = "1" * (6 + place) + "0" * (4 - place)
        stage, inputs = experiment_in(tmp_path_factory.mktemp("inputs"), seed=place, gra=gra)
        compare(stage, inputs, out)
        if place == 2:
            text = (out / "table.json").read_text()
            (out / "table.json").write_text(text.replace("mini_math", "gsm8k"))
        write_json(folder / "status.json", {"state": "done", "manifest": {}})
    return runs_dir


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tables in a folder of their own, without kept results -> that of gra_table1."""
    copy = tmp_path / "experiments"
    shutil.copytree(tables.tables_dir(), copy, ignore=shutil.ignore_patterns("results"))
    monkeypatch.setattr(tables, "tables_dir", lambda: copy)
    monkeypatch.setattr("gra_train.reporting.render.tables_dir", lambda: copy)
    return copy / "gra_table1"


def test_render_shows_what_is_there_and_what_is_missing(folder: Path, runs_dir: Path, tmp_path: Path) -> None:
    path = render(folder, runs_dir, out=tmp_path / "out")
    text = path.read_text()
    assert "Missing: mini seed=7, mini seed=8, mini seed=9." in text
    assert "| gra ! | gra |" in text
    assert "COLLATE" not in text.split("## As published")[0], "that is the other table"
    assert "Means over seeds 0, 1 with 95% intervals" in text
    assert "60.12 (10.00 [1.79, 40.42], -50.12) !" in text, (
        "printed, our GSM8K, and the difference; over 5% unparseable"
    )
    assert "in brackets ours with its interval and the difference, where a run exists (3 of 24 rows)" in text
    assert "| qwen2.5-7b alpaca seed | gsm8k | 10.00 [1.79, 40.42] ! | 10 | 3 | 0 | 0 |" in text
    assert "| GRA's data help the student over the seeds | gra - seed | +9.45 (6 pairs of cells) |" in text
    assert str(tmp_path) not in text
    assert sorted(f.name for f in path.parent.iterdir()) == sorted(FILES)
    again = render(folder, runs_dir, out=tmp_path / "again")
    for name in FILES:
        assert (path.parent / name).read_bytes() == (again.parent / name).read_bytes()


def test_what_was_rendered_is_kept_and_renders_the_same_without_the_runs(folder: Path, runs_dir: Path) -> None:
    first = {name: (render(folder, runs_dir).parent / name).read_bytes() for name in FILES}
    results = folder.parent / "results"
    assert sorted(f.name for f in results.iterdir()) == [
        "gra-paper,student=qwen2.5-7b", "mini,seed=5", "mini,seed=6",
    ]  # fmt: skip
    for place in results.iterdir():
        assert sum(f.stat().st_size for f in place.iterdir()) < 20_000
    found = kept("mini seed=5", results)
    assert found is not None
    assert found.made["run"].startswith("compare-mini-s5-")
    assert found.sheets["gra"]["mini_math"]["test-0000"] is True
    render(folder, runs_dir.parent / "none")
    assert first == {name: (folder / name).read_bytes() for name in FILES}
    assert state(folder) == "2 seeds: 1 hold, 2 not decided, 3 missing", "not worse: two seeds cannot say"
    assert state(folder.parent / "collate_table14") == "not in miniature"


def test_the_other_formats(folder: Path, runs_dir: Path, tmp_path: Path) -> None:
    place = render(folder, runs_dir, out=tmp_path / "out").parent
    tex = (place / "rendered.tex").read_text()
    for grid in tex.split("\\begin{tabular}{")[1:]:
        columns = grid.index("}")
        lines = [line for line in grid.split("\\end{tabular}")[0].splitlines() if line.endswith(r"\\")]
        assert {line.count(" & ") for line in lines} == {columns - 1}, "every row has every cell"
    assert tex.count("\\toprule") == tex.count("\\bottomrule") == tex.count("\\begin{table}") >= 3
    assert "seed\\_data" in tex
    assert "seed_data" not in tex
    with (place / "rendered.csv").open() as file:
        rows = list(csv.DictReader(file))
    (mine,) = [r for r in rows if (r["part"], r["row"], r["column"]) == ("mini", "gra", "average")]
    assert (float(mine["ours"]), mine["n"]) == (0.65, "2")
    (printed,) = [
        r for r in rows if r["part"] == "published" and r["row"] == "qwen2.5-7b alpaca seed" and r["column"] == "gsm8k"
    ]
    assert (printed["published"], printed["ours"], printed["difference"]) == ("60.12", "10.0", "-50.12")
    assert [printed[key] for key in ("low", "high", "questions", "unparseable", "truncated", "failed")] == [
        "1.7876",
        "40.415",
        "10",
        "3",
        "0",
        "0",
    ]
    assert any(r["part"] == "mini claim" and r["note"] == "not decided at this n" for r in rows)
    svg = ET.parse(place / "figure.svg").getroot()
    titles = [e.text for e in svg.iter() if e.tag.endswith("title")]
    assert "qwen2.5-7b/alpaca gra: 60.36" in titles
    assert "mean over seeds gra: 65.00" in titles


def test_our_average_stands_beside_the_papers_only_over_the_same_benchmarks() -> None:
    def finished(name: str, *tasks: str) -> Finished:
        scores = {task: {"score": 0.5, "n": 9, "unparseable": 0, "truncated": 0} for task in (*tasks, "average")}
        return Finished(name, {"seed": 0, "rows": [{"label": "seed", "scores": scores}]}, {}, {})

    recipe = Published(averages=["alpaca", "condor"], average_of=["gsm8k", "math"])
    row = {"student": "s", "alpaca": "49.32", "condor": "50.61", "ours": "e seeds={column}#seed"}
    found = [finished("e seeds=alpaca", "gsm8k", "math"), finished("e seeds=condor", "gsm8k")]
    assert {column: one["value"] for column, one in ours(row, {f.name: f for f in found}, recipe).items()} == {
        "alpaca": 50.0
    }


def test_a_row_whose_columns_are_arms_takes_each_from_its_own() -> None:
    """Figure 3: the average after 10,000 rows is the arm's that stopped there."""
    folder = tables.table_folder("gra_figure3")
    recipe, row = read_recipe(folder).published, published.read(folder / "published.csv")[1]
    tasks = {task: {"score": 0.1, "n": 9, "unparseable": 0, "truncated": 0} for task in recipe.average_of}
    arms = {"rows10000": 0.5, "rows40000": 0.55, "gra": 0.6}
    table = [{"label": label, "scores": {**tasks, "average": {"score": mean}}} for label, mean in arms.items()]
    found = {"gra/rounds student=qwen2.5-7b": Finished("", {"seed": 0, "rows": table}, {}, {})}
    assert row["seed_data"] == "alpaca"
    assert {column: one["value"] for column, one in ours(row, found, recipe).items()} == pytest.approx(
        {"10000": 50.0, "40000": 55.0, "50000": 60.0}
    )


def test_measures_of_ours_stand_beside_printed_ones() -> None:
    """Difficulty in percent, perplexity as it is, cost where nothing was printed; and no accuracy in their place."""

    def shown(name: str, run: str, **labels: dict[str, float]) -> dict[Any, Any]:
        folder = tables.table_folder(name)
        recipe = read_recipe(folder)
        scored = [{"label": label, "scores": {"gsm8k": {"score": 0.9, "n": 9, "unparseable": 0, "truncated": 0}}}
                  for label in labels]  # fmt: skip
        found = {run: Finished("", {"seed": 0, "rows": scored, "measures": labels}, {}, {})}
        printed = Printed.of(folder, recipe)
        text = to_markdown(blocks(printed, found, (), ""))
        return {"text": text} | {(r["row"].strip(), r["column"]): r for r in records(printed, found) if r.get("ours")}

    difficult = shown(
        "gra_figure8", "gra/compare student=qwen2.5-7b seeds=wizardlm", gra={"ifd": 0.7}, seed={"ifd": 0.5}
    )
    assert difficult["gra", "ifd_percent"]["ours"] == 70.0
    assert difficult["gra", "ifd_percent"]["difference"] == -5.82
    assert "| 75.82 (70.00, -5.82) |" in difficult["text"]
    assert "| seed | (50.00) |" in difficult["text"], "nothing is printed there"
    likely = shown("collate_table12", "collate/paper-open-llama-7b", base={"gold_perplexity": 11.5})
    assert [key for key in likely if key != "text"] == [("no_rationale", "gsm8k")]
    assert "| 12.93 (11.50, -1.43) | 3.39 |" in likely["text"]
    cost = shown("gra_cost", "gra/paper student=qwen2.5-7b", gra={"calls_per_row": 7.25, "gpu_joules_per_row": 30.0})
    assert (cost["gra", "calls_per_row"]["ours"], cost["gra", "joules_per_row"]["ours"]) == (7.25, 30.0)
    assert "difference" not in cost["gra", "calls_per_row"]
    judged = shown("gra_figure7", "gra/judged student=qwen2.5-7b", gra={"judge_share": 0.8})
    assert "| 87.3 (80.00, -7.30) |" in judged["text"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_committed_is_what_its_kept_results_render(name: str, tmp_path: Path) -> None:
    """`gra-train table all render` was run after the last change of a table, a result or a renderer."""
    own = tables.table_folder(name)
    again = render(own, tmp_path / "none", out=tmp_path / "out").parent
    for file in again.iterdir():
        assert file.read_text() == (own / file.name).read_text(), f"{file.name}: render it again"


def test_the_index_says_what_the_tables_say() -> None:
    text = (tables.tables_dir() / "README.md").read_text()
    assert text == index([tables.table_folder(name) for name in tables.names()]), "gra-train table all render"
    assert all(f"]({name}/README.md)" in text for name in NAMES)


def test_the_readme_quotes_the_tables() -> None:
    """Every number with an interval stands so in a rendered table."""
    readme = Path(__file__).parents[2] / "README.md"
    quoted = re.findall(r"[+-]?\d+\.\d \[[^]]+\d\]", readme.read_text())
    assert len(quoted) >= 10
    texts = [f.read_text() for f in tables.tables_dir().glob("*/*.md") if f.name in ("rendered.md", "earlier.md")]
    assert [number for number in quoted if not any(number in text for text in texts)] == []


@pytest.mark.parametrize("name", NAMES)
def test_render_without_any_run(name: str, folder: Path, tmp_path: Path) -> None:
    text = render(folder.parent / name, tmp_path / "none", out=tmp_path / "out").read_text()
    assert "(0 of " in text
    if read_recipe(folder.parent / name).miniature.rows:
        assert "seed=5, " in text.split("Missing: ")[1]
    else:
        assert "Not in miniature." in text


def test_a_single_seed_renders(folder: Path, runs_dir: Path, tmp_path: Path) -> None:
    """It has no intervals, in the table and in the figure."""
    second = next(run for run in tables.runs(folder) if run.name == "mini seed=6")
    shutil.rmtree(runs_dir / second.nodes[-1].run_id)
    text = render(folder, runs_dir, out=tmp_path / "out").read_text()
    assert "One seed (0): there are no intervals over seeds" in text
    assert "**not decided at this n**" in text
    assert "nan" not in text
    assert "nan" not in (tmp_path / "out" / "gra_table1" / "figure.svg").read_text()


def test_run_makes_what_is_missing_once(folder: Path, runs_dir: Path) -> None:
    asked: list[Sequence[str]] = []

    def execute(experiment: str, overrides: Sequence[str]) -> int:
        asked.append([experiment, *overrides])
        return 3 if "seed=8" in overrides else 0

    both = [folder, folder.parent / "gra_cost"]
    assert tables.run(both, runs_dir, execute) == 3
    assert asked == [["mini", "seed=7"], ["mini", "seed=8"]]
    with pytest.raises(UserError, match="no runs at scale=mini"):
        tables.run([folder.parent / "collate_table14"], runs_dir, execute)
    with pytest.raises(UserError, match=r"pools/1/pool\.yaml"):
        tables.run(both, runs_dir, execute, scale="pools")


def test_command(folder: Path, runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gra_table1", "plan", f"runs_dir={runs_dir}"]) == 0
    said = capsys.readouterr().out
    assert "mini seed=4" in said
    assert "needs: synthesis: five 7-8B models" in said
    assert "GPU-hours are estimates" in said
    assert main(["collate_table1", "render", f"runs_dir={runs_dir}", f"out={tmp_path / 'c'}"]) == 0
    assert (tmp_path / "c" / "collate_table1" / "rendered.md").is_file()
    with pytest.raises(UserError, match="Did you mean 'gra_table1'"):
        main(["gra_tabel1", "plan"])
    with pytest.raises(UserError, match="Did you mean 'render'"):
        main(["gra_table1", "rendr"])
    with pytest.raises(UserError, match="scale='big'"):
        main(["gra_table1", "plan", "scale=big"])
    with pytest.raises(UserError, match="on='moon'"):
        main(["gra_table1", "run", "on=moon"])
    with pytest.raises(UserError, match="not of the form"):
        main(["gra_table1", "plan", "now"])


def test_jobs_are_said_before_they_are_submitted(
    folder: Path, runs_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_OPTIONS", "--partition=gpu --time=1:00:00")
    assert main(["gra_table1", "run", "on=print", f"runs_dir={runs_dir}"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    assert said[0] == (
        f"sbatch --partition=gpu --time=1:00:00 slurm/run.sbatch experiment=mini seed=7 runs_dir={runs_dir}"
    )
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="no sbatch on the PATH"):
        main(["gra_table1", "run", "on=slurm", f"runs_dir={runs_dir}"])
    monkeypatch.setenv("GRA_HOME", str(runs_dir))
    with pytest.raises(UserError, match="name it with GRA_HOME"):
        main(["gra_table1", "run", "on=slurm", f"runs_dir={runs_dir}"])
