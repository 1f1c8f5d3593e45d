"""GSM8K and HumanEval through a real HTTP server, and a client that is killed in the middle of it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gra_train.chat.ledger import Ledger
from gra_train.evaluation import sandbox
from gra_train.locate import model_folder
from gra_train.records import write_jsonl

CAP = 24
QUESTIONS = {"gsm8k": 12, "humaneval": 8}
TOTAL = sum(QUESTIONS.values())


def words(folder: Path, url: str) -> list[str]:
    """The command: the miniature's `wren`, untrained, is asked questions of our own in the benchmarks' schemas."""
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(
        folder / "gsm8k.jsonl",
        [{"question": f"Tom has {i} pens and buys {i + 2}. How many has he?", "answer": f"Sum. #### {2 * i + 2}"}
         for i in range(QUESTIONS["gsm8k"])],
    )  # fmt: skip
    write_jsonl(
        folder / "humaneval.jsonl",
        [{"task_id": f"HumanEval/{i}", "prompt": f"def add{i}(x):\n", "canonical_solution": f"    return x + {i}\n",
          "entry_point": f"add{i}", "test": f"def check(f):\n    assert f(1) == {i + 1}\n"}
         for i in range(QUESTIONS["humaneval"])],
    )  # fmt: skip
    wren = model_folder("mini:wren")
    return [
        "evaluate", "name=served", "+arms.base.data=none", "compare.baseline=base", "tracking=off",
        "student.name=wren", "student.path=mini:wren", f"student.url={url}", f"student.served_name={wren}",
        "student.revision=mini", "student.max_concurrency=2", "student.timeout_s=120",
        "evaluation.tasks=[gsm8k,humaneval]", f"evaluation.max_tokens={CAP}", "evaluation.shots=0",
        f"evaluation.sources={{gsm8k: {{path: {folder}/gsm8k.jsonl}}, humaneval: {{path: {folder}/humaneval.jsonl}}}}",
        f"evaluation.unsandboxed={str(bool(sandbox.unavailable())).lower()}", f"runs_dir={folder / 'runs'}",
    ]  # fmt: skip


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gra_train.cli", *command], text=True, start_new_session=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=os.environ,
    )  # fmt: skip


def complete(command: list[str]) -> None:
    said, _ = (process := start(command)).communicate(timeout=300)
    assert process.returncode == 0, said


def recorded(runs: Path) -> int:
    """Answers in the ledger."""
    if not (runs / "ledger").is_dir():
        return 0
    with Ledger(runs / "ledger") as ledger:
        return len(ledger)


def run_folder(runs: Path) -> Path:
    [folder] = runs.glob("evaluate-*")
    return folder


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_asks_nothing_twice(
    transformers_server: Callable[[Path], str], tmp_path: Path
) -> None:
    url = transformers_server(Path(model_folder("mini:wren")))
    runs = tmp_path / "runs"
    command = words(tmp_path, url)
    rng = random.Random(20)
    before = 0
    for share in (rng.uniform(0.1, 0.4), rng.uniform(0.5, 0.9)):
        process = start(command)
        try:
            while recorded(runs) < max(before + 1, share * TOTAL):
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.02)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert before < recorded(runs) < TOTAL, "it was killed in the middle"
        before = recorded(runs)
        assert not (run_folder(runs) / "result").exists()
    complete(command)
    usage = json.loads((run_folder(runs) / "usage.json").read_text())["total"]
    assert (usage["asked"], usage["from_ledger"], usage["computed"]) == (TOTAL, before, TOTAL - before)
    check(run_folder(runs) / "result")

    whole = run_folder(runs) / "result" / "questions.parquet"
    kept = whole.read_bytes()
    run_folder(runs).rename(tmp_path / "first")
    complete(command)  # all from the ledger, undisturbed
    assert (run_folder(runs) / "result" / "questions.parquet").read_bytes() == kept
    usage = json.loads((run_folder(runs) / "usage.json").read_text())["total"]
    assert usage["computed"] == 0


def check(result: Path) -> None:
    """The rows, recomputed from their answers by other means."""
    rows = pq.read_table(result / "questions.parquet").to_pylist()
    scores = json.loads((result / "scores.json").read_text())
    for task, number in QUESTIONS.items():
        mine = [row for row in rows if row["task"] == task]
        assert len({row["question_id"] for row in mine}) == len(mine) == number
        assert scores[task]["score"] == pytest.approx(sum(row["correct"] for row in mine) / number)
        assert scores[task]["truncated"] == sum(row["truncated"] for row in mine)
    for i, row in enumerate(row for row in rows if row["task"] == "gsm8k"):
        assert row["gold"] == str(2 * i + 2)
        assert f"Tom has {i} pens" in row["prompt"]
        assert row["prompt"].endswith("<|assistant|>")
        assert number_of(row) == (float(row["extracted"]) if row["extracted"] else None)
        assert row["correct"] == (number_of(row) == float(row["gold"]))
    for row in rows:
        assert row["unparseable"] == (row["extracted"] is None)
        assert 0 < row["tokens"] <= CAP
        assert not row["failed"]
        assert row["truncated"] == (row["tokens"] == CAP)
        assert row["correct"] <= (row["extracted"] is not None)


def number_of(row: dict[str, Any]) -> float | None:
    """What the miniature marks as its answer, else its last number: it writes neither units nor signs."""
    marked = re.findall(r"####\s*(\d+)", row["answer"])
    found = marked or re.findall(r"\d+", row["answer"])
    return float(found[-1]) if found else None


@pytest.mark.slow
def test_a_server_is_started_for_a_model_folder_and_ended(tmp_path: Path) -> None:
    """evaluation.engine=transformers: nobody has to serve the student."""
    command = [
        word
        for word in words(tmp_path, "")
        if not word.startswith(("student.url", "student.served", "student.revision"))
    ]
    complete([*command, "evaluation.engine=transformers", "student.max_concurrency=2"])
    check(run_folder(tmp_path / "runs") / "result")
    log = (run_folder(tmp_path / "runs") / "servers" / "wren.log").read_text()
    port = re.search(r"http://127\.0\.0\.1:(\d+)", log)
    assert port
    import socket

    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port[1]))) != 0, "the server is gone"
