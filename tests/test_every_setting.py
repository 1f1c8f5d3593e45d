"""Every experiment runs at its smallest size, and together they read every setting of the schema."""

import dataclasses
import json
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from gra_train import schema, stages
from gra_train.compose import groups
from gra_train.locate import model_folder
from gra_train.settings import Section

MINI = ["seeds=mini", "pool=mini", "synthesis=mini", "student=mini", "sft=mini", "evaluation=mini", "debug=tiny"]


def settings_of(module):
    """`Class.field` of every setting; a subclass's inherited fields count under the class that is built."""
    classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Section) and c is not Section]
    return {f"{c.__name__}.{f.name}" for c in classes for f in dataclasses.fields(typing.cast(typing.Any, c))}


def walk(runs, command, *words):
    done = subprocess.run(
        [sys.executable, "-m", "gra_train.cli", command, *words, f"runs_dir={runs}"],
        capture_output=True,
        text=True,
        timeout=1200,
        env=os.environ,
        check=False,
    )
    return done.returncode, done.stderr[-3000:]


def server_pool(file, url, served_name):
    """Five names for one model behind a server."""
    models = [
        {"name": name, "url": url, "served_name": served_name, "revision": "mini", "timeout_s": 120, "retries": 1}
        for name in ("one", "two", "three", "four", "five")
    ]
    file.write_text(json.dumps({"name": "served", "models": models}))
    return file


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_experiment_runs_and_every_setting_is_read(tmp_path, transformers_server):
    runs = tmp_path / "runs"
    every = ",".join(groups()["experiment"])
    code, errors = walk(runs, "run", "-m", f"experiment={every}", "debug=mini", "tracking=offline")
    assert code == 0, errors

    own = tmp_path / "own.jsonl"
    own.write_text(
        '{"q": "Take d f k. Reverse it. What is left?", "a": "Reverse: k f d. #### k f d"}\n' * 4
        + '{"q": "no answer"}\n'
    )
    fields = ["data=own", f"data.path={own}", "data.format=fields", "data.fields={instruction: q, response: a}"]
    fields.append("data.on_bad_row=skip")
    fields += ["synthesis.decontaminate.against=[evaluation,triviaqa]", "synthesis.decontaminate.missing=skip"]
    code, errors = walk(runs, "sft", *MINI, *fields, "compare.baseline=own", "resources=cpu2")
    assert code == 0, errors

    wren = model_folder("mini:wren")
    pool = server_pool(tmp_path / "pool.yaml", transformers_server(Path(wren)), wren)
    served = ["synthesis.max_candidates=2", "synthesis.review.scoring=text", "synthesis.parse_retries=0"]
    served.append("synthesis.roles=adaptive")
    code, errors = walk(runs, "synthesize", *MINI, f"pool={pool}", *served, "seeds.limit=2")
    assert code == 0, errors
    names = [{"name": n, "path": "mini:wren"} for n in ("one", "two", "three", "four", "five")]
    (ours := tmp_path / "ours.yaml").write_text(json.dumps({"models": names}))
    start = ["pool.serve.engine=transformers", f"pool.serve.python={sys.executable}"]
    code, errors = walk(runs, "synthesize", *MINI, f"pool={ours}", *served, *start, "seeds.limit=2")
    assert code == 0, errors

    (tmp_path / "programs.jsonl").write_text('{"q": "Write f.", "a": "def f(): pass", "t": "assert f() is None"}\n')
    (task := tmp_path / "programs.yaml").write_text(
        "about: programs\nkind: code\nquestions: {file: programs.jsonl, rows: {question: q, gold: a, tests: t}}\n"
        "prompt: '{{ question }}'\npublished: {max_tokens: 8}\nrobust: {max_tokens: 8}\n"
    )
    base = ["+arms.base.data=none", "compare.baseline=base", "evaluation.engine=chat"]
    base += [f"evaluation.tasks=[mini_math,{task}]", f"evaluation.data_dir={tmp_path}", "evaluation.unsandboxed=true"]
    code, errors = walk(runs, "evaluate", *MINI, *base)
    assert code == 0, errors

    code, errors = walk(runs, "synthesize", *MINI, "synthesis.shard=1/2", "seed=1")
    assert code == 0, errors

    code, errors = walk(runs, "sft", *MINI, "data=gra_released", "data.path=nobody/nothing", "compare.baseline=own")
    assert code == 2, errors
    assert "nobody/nothing" in errors

    read = set()
    for file in runs.glob("*/reads.json"):
        read |= set(json.loads(file.read_text()))
    wanted = settings_of(schema) | settings_of(stages)
    assert not sorted(wanted - read), "settings that nothing reads"
