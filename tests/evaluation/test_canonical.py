"""The sandbox on real benchmarks: solutions that are known to be right pass, empty ones fail."""

import gzip
import json
import re
import time

import pytest

from gra_train.evaluation.sandbox import Limits, Sandbox, unavailable


def load(path):
    with gzip.open(path) as lines:
        return [json.loads(line) for line in lines]


def humaneval(row, body=None):
    tests = f"{row['test']}\ncheck({row['entry_point']})"
    return row["prompt"] + (row["canonical_solution"] if body is None else body), tests, [row["entry_point"]]


@pytest.mark.slow
def test_canonical_solutions_pass_and_mutated_ones_fail(data_dir):
    """HumanEval 164 of 164, MBPP at least 973 of 974; `return None` never passes."""
    if reason := unavailable():
        pytest.skip(reason)
    human = load(data_dir / "humaneval/HumanEval.jsonl.gz")
    mbpp = load(data_dir / "mbpp/mbpp.jsonl.gz")
    with Sandbox(Limits(seconds=30)) as sandbox:
        started = time.monotonic()
        assert all(v.passed for v in sandbox.check_all(humaneval(row) for row in human))
        print(f"{len(human) / (time.monotonic() - started):.1f} programs/s")
        assert not any(v.passed for v in sandbox.check_all(humaneval(row, "    return None\n") for row in human))
        jobs = [
            (row["code"], "\n".join([row.get("test_setup_code") or "", *row["test_list"]]),
             re.findall(r"^def\s+(\w+)", row["code"], re.M))
            for row in mbpp
        ]  # fmt: skip
        passed = [v.passed for v in sandbox.check_all(jobs)]
        assert sum(passed) >= 973, [row["task_id"] for row, ok in zip(mbpp, passed, strict=True) if not ok]
