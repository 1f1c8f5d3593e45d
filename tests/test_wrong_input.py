"""Wrong inputs, each through the command line: one clear sentence, exit code 2, nothing overwritten, nothing spent."""

import json
import os
import subprocess
import sys

import pytest

from gra_train.compose import compose
from gra_train.experiment import synthesis_only
from gra_train.runs import Run, lease

GOOD = '{"instruction": "Take d f k. Reverse it. What is left?", "response": "Reverse: k f d. #### k f d"}\n'
TINY = ["experiment=mini", "debug=tiny", "tracking=off"]


def synthesize(runs, *words):
    done = subprocess.run(
        [sys.executable, "-m", "gra_train.cli", "synthesize", *TINY, f"runs_dir={runs}", *words],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def refused(runs, words, *expected):
    done = synthesize(runs, *words)
    assert done.returncode == 2, done.stderr
    for word in expected:
        assert word in done.stderr
    assert not list((runs / "ledger").glob("*.seg")) if runs.is_dir() else True, "a model was asked"
    return done


def seeds(tmp_path, content):
    file = tmp_path / "seeds.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def pool_of(tmp_path, *models):
    file = tmp_path / "pool.yaml"
    file.write_text(json.dumps({"name": "own", "models": models}))
    return file


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ["seeds.jsonl", "empty"]),
        (GOOD + "{oops\n", ["seeds.jsonl", "line 2", "not JSON"]),
        (GOOD + '{"prompt": "x"}\n', ["seeds.jsonl", "line 2"]),
        (b"\xff\xfe\x00\x01" * 50, ["seeds.jsonl"]),
    ],
    ids=["empty", "malformed", "other columns", "not text"],
)
def test_seed_files(tmp_path, content, expected):
    refused(tmp_path / "runs", [f"seeds.path={seeds(tmp_path, content)}"], *expected)


def test_a_pool_with_fewer_models_than_roles(tmp_path):
    pool = pool_of(tmp_path, {"name": "a", "path": "mini:wren"}, {"name": "b", "path": "mini:lark"})
    refused(tmp_path / "runs", [f"pool={pool}"], "at least 5 models", "a, b", "roles=single")


def test_a_model_folder_that_is_none(tmp_path):
    (tmp_path / "folder").mkdir()
    pool = pool_of(tmp_path, *({"name": f"m{i}", "path": str(tmp_path / "folder")} for i in range(5)))
    refused(tmp_path / "runs", [f"pool={pool}"], "is not a model folder", "config.json")


def test_an_unreachable_server(tmp_path):
    server = {"url": "http://127.0.0.1:9/v1", "revision": "x", "retries": 0, "timeout_s": 5}
    pool = pool_of(tmp_path, *({"name": f"m{i}", **server} for i in range(5)))
    refused(tmp_path / "runs", [f"pool={pool}"], "m0", "http://127.0.0.1:9/v1")


def test_a_task_that_nobody_has(tmp_path):
    """Said before anything is trained for it."""
    words = ["experiment=mini/rounds", "tracking=off", "evaluation.tasks=[mini_math,triviaqua]"]
    done = subprocess.run(
        [sys.executable, "-m", "gra_train.cli", "run", *words, f"runs_dir={tmp_path / 'runs'}"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, "no task 'triviaqua'. Did you mean 'triviaqa'?" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "runs", [], "runs_dir", "cannot be written")


def test_a_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    try:
        refused(disk / "runs", [], "free", "Make room")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_two_runs_of_one_identity_at_once(tmp_path):
    runs = tmp_path / "runs"
    last = synthesis_only(compose([*TINY, f"runs_dir={runs}"]))[-1]
    with lease(Run(runs / f"mini-s0-{last.run_id.rsplit('-', 1)[1]}"), work=False):
        refused(runs, [], f"process {os.getpid()}", "Wait for it")


def test_a_result_that_was_changed_and_a_killed_runs_leftovers(tmp_path):
    runs = tmp_path / "runs"
    file = seeds(tmp_path, GOOD * 4)
    assert synthesize(runs, f"seeds.path={file}", "synthesis.max_candidates=4").returncode == 0
    (annotated,) = runs.glob("seeds-*")
    data = annotated / "result" / "data.jsonl"
    before = data.read_bytes()

    data.write_bytes(before.replace(b"Reverse", b"Inverse"))
    done = synthesize(runs, f"seeds.path={file}", "synthesis.max_candidates=4")
    assert done.returncode == 2
    assert "was changed or removed after run" in done.stderr
    data.write_bytes(before)

    (annotated / "status.json").write_text('{"state": "running"}')  # as a kill after the rename leaves it
    assert synthesize(runs, f"seeds.path={file}", "synthesis.max_candidates=4").returncode == 0
    assert data.read_bytes() == before

    file.write_text(GOOD * 5)  # a changed input under the same name is other work; the old result stays
    assert synthesize(runs, f"seeds.path={file}", "synthesis.max_candidates=4").returncode == 0
    assert len(list(runs.glob("seeds-*"))) == 2
    assert data.read_bytes() == before
