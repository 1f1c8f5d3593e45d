"""The benchmark's own sides against its server, at the smallest sizes: what it counts and how it reports it."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """The benchmark's modules, working in a folder of the test's."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    import report
    import runner

    monkeypatch.setattr(runner, "WORK", tmp_path)
    yield runner, report
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(BENCHMARKS)):
            del sys.modules[name]


def test_both_sides_send_each_call_once_and_the_table_says_so(bench):
    runner, report = bench
    python = Path(sys.executable)
    cell = runner.Cell("gra", latency=0.05, concurrency=10, rows=6)
    with runner.server(python) as at:
        done = [runner.run(side, python, script, cell, at, limit_s=60) for side, script in runner.SIDES.items()]
    for outcome in done:
        assert (outcome.failure, outcome.lost, outcome.calls) == ("", 0, 60)
        assert outcome.in_flight <= 10
        assert 0 < outcome.throughput <= cell.ideal * 1.02, "no more than the slots allow"
        assert outcome.cpu_ms > 0
        assert outcome.peak_mb > 10
    table = report.tables({cell: done})
    assert "GRA (0.05 s, 10): 6 rows, 60 calls, ideal 200 calls/s" in table
    assert all(f"| {side} " in table for side in runner.SIDES)
    held = {what: ok for what, _, ok in report.targets({cell: done})}
    assert held["GRA (0.05 s, 10): no row lost, no call sent twice"]


def test_goals_are_said_beside_what_was_measured(bench):
    import collate
    import goals
    import training

    found = training.targets({"SFT, 0.3M": [0.97, 0.99, 0.98]}, {"DPO": [1.2, 1.29, 1.5]})
    assert [held for _, _, held in found] == [True, False]
    assert found[1][0] == "DPO: our defaults at least 1.3 x TRL's useful tokens/s"
    assert found[1][1].startswith("1.290 [")
    share = collate.bound() * 0.89
    assert [held for _, _, held in collate.targets([share], [5.0])] == [False, True]
    assert "| 0.89 | **no** |" in goals.table(collate.targets([share], [5.0]))


def test_one_call_in_a_hundred_is_a_straggler_that_takes_ten_times_as_long(bench):
    runner, _ = bench
    python = Path(sys.executable)
    cell = runner.Cell("plain", latency=0.02, concurrency=50, rows=100, stragglers=0.01)
    assert cell.ideal == pytest.approx(50 / (0.02 * 1.09))
    with runner.server(python) as at:
        done = runner.run("bare aiohttp", python, runner.SIDES["bare aiohttp"], cell, at, limit_s=60)
        counted = at.stats()
    assert (done.lost, counted["calls"], counted["stragglers"]) == (0, 100, 1)
    assert counted["window_s"] >= 0.2


def test_a_client_that_fails_is_reported_with_its_own_words(bench, tmp_path):
    runner, report = bench
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('no such thing')")
    cell = runner.Cell("plain", latency=0.02, concurrency=1, rows=1)
    with runner.server(Path(sys.executable)) as at:
        done = runner.run("broken", Path(sys.executable), script, cell, at, limit_s=60)
    assert done.failure == "no such thing"
    assert "no such thing" in report.tables({cell: [done]})


def test_bounds_of_scoring_are_compared_with_what_was_measured():
    """They were called kept whatever the table above them said. The committed figures are read as they stand."""
    spec = spec_from_file_location("bench_evaluation", BENCHMARKS / "evaluation.py")  # others are named evaluation too
    assert spec is not None
    assert spec.loader is not None
    evaluation = module_from_spec(spec)
    spec.loader.exec_module(evaluation)

    text = (BENCHMARKS / "evaluation.md").read_text()
    head, _, *lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    found = [dict(zip(head, line, strict=True)) for line in lines]
    found = [row | {"scoring s": float(row["scoring s"])} for row in found]
    said = evaluation.bounds(found)
    assert [held for _, held in said] == [True, True, True]
    assert text.endswith("\n".join(f"- {sentence}" for sentence, _ in said) + "\n")
    slow = [row | {"scoring s": 60.5 if (row["benchmark"], row["protocol"]) == ("math", "robust") else 0.1}
            for row in found]  # fmt: skip
    assert evaluation.bounds(slow) == [
        ("gsm8k: 0.10 s, bound 3 s: held", True),
        ("math: 60.50 s, bound 60 s: NOT HELD", False),
        ("mmlu: 0.10 s, bound 10 s: held", True),
    ]
    assert evaluation.bounds(found[:1]) == said[:1], "what was not measured is not said to be held"
