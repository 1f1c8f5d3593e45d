"""`gra-train validate`: every problem at once, nothing spent, and an estimate that says what it rests on."""

import asyncio
import http.server
import json
import re
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from gra_train.cli import main
from gra_train.compose import compose
from gra_train.errors import UserError
from gra_train.experiment import synthesis_only
from gra_train.locate import model_folder
from gra_train.records import Sample
from gra_train.runs import lease
from gra_train.schema import Config, Model, Review, Synthesis
from gra_train.settings import problems
from gra_train.stages import STAGES
from gra_train.synthesis import demand, readiness
from gra_train.synthesis.assumptions import Assumptions, basis
from gra_train.synthesis.estimate import estimate, ways

NAMES = ("ada", "bea", "cyd", "dot", "eve")
SEEDS = [Sample(f"s{i}", "Say how many apples are left. " * 4, "Three are left. " * 9) for i in range(3)]


def validate(capsys, *words):
    with pytest.raises(SystemExit) as done:
        main(["validate", *words])
    return done.value.code, capsys.readouterr().out


def test_all_problems_are_listed_at_once_and_nothing_is_written(tmp_path, capsys):
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text('{"instruction": "a", "response": "b"}\n{oops\n{"instruction": "c", "response": "d"}\n{"x": 1}\n')
    words = ["experiment=mini", f"seeds={seeds}", "sft.lrr=1", "synthesis.T_mean=12", "+arms.x.data=grra", "nonsense"]
    words += [f"runs_dir={tmp_path / 'runs'}", "pool.models.0.url=http://127.0.0.1:9/v1", "pool.large={a: 1}"]
    code, text = validate(capsys, *words)
    assert code == 2
    for said in (
        "'sft.lr'", "synthesis.T_mean=12", "arms.x.data='grra'", "cannot read 'nonsense'", "2 rows do not fit",
        "line 2", "line 4", "revision is empty", "no server answers at http://127.0.0.1:9/v1", 
        "No setting 'pool.large.a'", "7 problem(s)",
    ):  # fmt: skip
        assert said in text, said
    assert "2 rows; to be annotated" in text  # what is wrong is left out, the rest is looked at
    assert "estimate" in text
    assert not (tmp_path / "runs").exists()


def test_a_sound_experiment_passes(tmp_path, capsys):
    code, text = validate(capsys, "experiment=mini", "debug=tiny", f"runs_dir={tmp_path}")
    assert code == 0
    assert "Nothing stands in the way" in text
    assert "synthesize gra" in text
    assert "assumed: pass_instruction 0.8" in text


@pytest.mark.parametrize("name", ["paper", "refine", "ablation-review", "ablation-roles", "baseline-72b"])
def test_the_papers_experiments_are_estimated_without_servers(name, capsys):
    code, text = validate(capsys, f"experiment=gra/{name}", "--offline", "seeds=mini")
    assert "not asked (offline)" in text
    assert "still to do" in text
    assert code in (0, 2)  # the disk of this machine may be too small for seven billion parameters
    assert all(line.split()[1] == "disk" for line in text.splitlines() if line.startswith("BAD"))


class Models(http.server.BaseHTTPRequestHandler):
    """GET /v1/models with a key: lists `tiny`; anything else would be a call."""

    calls: ClassVar[list[str]] = []
    listing: ClassVar[object] = {"data": [{"id": "tiny", "max_model_len": 900}]}

    def do_GET(self):
        self.calls.append(self.path)
        allowed = self.headers.get("Authorization") == "Bearer canary-key"
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(json.dumps(self.listing).encode() if allowed else b"no")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Models.calls.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Models) as one:
        threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{one.server_port}/v1"
        one.shutdown()


def test_servers_are_asked_for_their_list_only(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GOOD_KEY", "canary-key")
    monkeypatch.setenv("BAD_KEY", "another-key")
    shared = {"url": server, "revision": "1", "served_name": "tiny", "api_key_env": "GOOD_KEY"}
    models = [{"name": name, **shared} for name in NAMES]
    models[1] |= {"served_name": "huge"}
    models[2] |= {"api_key_env": "BAD_KEY"}
    models[3] |= {"api_key_env": "NO_SUCH_KEY"}
    pool = tmp_path / "pool.yaml"
    pool.write_text(json.dumps({"name": "served", "models": models}))
    code, text = validate(capsys, "seeds=mini", f"pool={pool}", "synthesis=paper", f"runs_dir={tmp_path / 'runs'}")
    assert code == 2
    lines = {line.split()[1]: line for line in text.splitlines() if line.startswith(("  ok", "BAD"))}
    assert "serves tiny" in lines["ada"]
    assert "does not serve 'huge'; it lists tiny" in lines["bea"]
    assert "refuses the API key in BAD_KEY" in lines["cyd"]
    assert "NO_SUCH_KEY, which is not set" in text
    assert "serves tiny" in lines["eve"]
    assert set(Models.calls) == {"/v1/models"}
    assert "canary-key" not in text
    assert "another-key" not in text


@pytest.mark.parametrize(
    ("listing", "said"),
    [
        ({"data": None}, "lists no models"), ({"data": ["x", 1, None]}, "lists no models"), ([], "lists no models"),
        (None, "lists no models"), ({"data": {"id": "tiny"}}, "lists no models"), ({"data": [{}]}, "lists no models"),
        ({"data": ["x", {"id": "tiny", "max_model_len": "many"}]}, "serves tiny"),
        ({"data": [{"id": "Bearer canary-key\x1b[2J"}]}, "it lists Bearer ***?[2J"),
    ],
)  # fmt: skip
def test_a_hostile_list_of_models_is_read(server, monkeypatch, listing, said):
    monkeypatch.setenv("GOOD_KEY", "canary-key")
    monkeypatch.setattr(Models, "listing", listing)
    model = Model(name="ada", url=server, served_name="tiny", api_key_env="GOOD_KEY")
    (finding,) = asyncio.run(readiness._probe([(model, server)], {})).values()
    assert said in finding.text
    assert "canary" not in str(finding)


def test_prompts_that_do_not_fit_a_window_are_named_with_both_numbers(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GOOD_KEY", "canary-key")
    models = [{"name": name, "path": "mini:wren"} for name in NAMES[1:]]
    models.append({"name": "ada", "url": server, "revision": "1", "served_name": "tiny", "api_key_env": "GOOD_KEY"})
    (pool := tmp_path / "pool.yaml").write_text(json.dumps({"name": "mixed", "models": models}))
    rows = [{"id": "short", "instruction": "Take d f k.", "response": "Take."}]
    rows.append({"id": "long", "instruction": "Take d f k. " * 260, "response": "Take. " * 10})
    (seeds := tmp_path / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"seeds={seeds}", f"pool={pool}", "synthesis=mini", f"runs_dir={tmp_path / 'runs'}"]
    code, text = validate(capsys, *words, "synthesis.max_tokens=96")
    window = json.loads((Path(model_folder("mini:wren")) / "config.json").read_text())["max_position_embeddings"]
    said = {line.split()[1]: line for line in text.splitlines() if "its window is" in line}
    assert code == 2
    full = {name for name, line in said.items() if line.startswith("BAD")}
    assert full == {*NAMES[1:]}, "counted by characters, the server's window holds them"
    assert f"and its window is {window}: nothing is left" in said["bea"]
    assert "with seed long" in said["bea"]

    seeds.write_text(json.dumps(rows[0]) + "\n")
    code, text = validate(capsys, *words, "synthesis.max_tokens=880")
    said = {line.split()[1]: line for line in text.splitlines() if "its window is" in line}
    assert code == 0
    counted = re.search(
        r"has (\d+) tokens .*max_tokens=880 (\d+), and its window is 900: answers .* cut at (\d+)", said["ada"]
    )
    size, both, left = map(int, counted.groups())
    assert (size + 880, 900 - size) == (both, left)
    _, text = validate(capsys, *words, "synthesis.max_tokens=96")
    assert "its window is" not in text


def test_the_evaluated_students_server_is_looked_at(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GOOD_KEY", "canary-key")
    words = [
        "seeds=mini",
        "pool=mini",
        "synthesis=mini",
        "evaluation=mini",
        "+arms.base.data=none",
        "compare.baseline=base",
    ]
    words += [f"runs_dir={tmp_path}", "student.name=pupil", f"student.url={server}", "student.api_key_env=GOOD_KEY"]
    code, text = validate(capsys, *words, "student.served_name=tiny")
    assert (code, f"pupil          {server} serves tiny" in text) == (0, True)
    code, text = validate(capsys, *words, "student.served_name=small")
    assert (code, "does not serve 'small'; it lists tiny" in text) == (2, True)
    ours = [*words[:7], "student=mini", "evaluation.engine=vllm", "evaluation.serve={python: /nowhere}"]
    code, text = validate(capsys, *ours)
    assert (code, "serve.python='/nowhere' does not exist" in text) == (2, True)


def test_the_servers_of_a_model_are_counted():
    assert ways(Model(path="mini:wren")) == 0
    assert ways(Model(url="http://a/v1, http://b/v1")) == 2
    assert ways(Model(path="mini:wren", serve={"engine": "vllm"})) == 1
    assert ways(Model(path="mini:wren", serve={"engine": "vllm", "replicas": 2})) == 2


def test_calls_follow_the_story():
    synthesis = Synthesis(target=100, rounds=1, wave=10, num_reviewers=3, max_tokens=50)
    values = Assumptions(pass_instruction=0.5, good=0.5, survive=1.0, adjudicated=0.2, retried=0.0)
    count, how = demand.counter([], 4.0)
    assert "4 characters" in how
    size = demand.lengths(SEEDS, synthesis, count)
    assert demand.candidates(synthesis, values) == 400
    made = demand.loop(synthesis, NAMES, size, values, 400, 100)
    calls = {kind: sum(d.calls for d in made if d.kind == kind) for kind in {d.kind for d in made}}
    assert calls == pytest.approx(
        {"new_keywords": 400, "instruction": 400, "instruction_review": 1200, "response": 200, "response_review": 600,
         "adjudication": 40, "summary": 100}
    )  # fmt: skip
    assert max(d.written / d.calls for d in made) == 50  # never more than max_tokens
    assert size.prompt["response_review"] > size.prompt["instruction_review"] > 100

    none = Synthesis(target=100, rounds=1, wave=10, review=Review(mode="none"))
    assert {d.kind for d in demand.loop(none, NAMES, size, values, 100, 100)} == {
        "new_keywords", "instruction", "response", "summary",
    }  # fmt: skip
    scored = Synthesis(target=100, rounds=1, wave=10, review=Review(scoring="likelihood"))
    likelihoods = [d for d in demand.loop(scored, NAMES, size, values, 400, 100) if "likelihood" in d.kind]
    assert sum(d.calls for d in likelihoods) == pytest.approx(1200 + 2 * 600 + 2 * 40)
    assert not any(d.written for d in likelihoods)

    fixed = Synthesis(target=100, rounds=1, wave=10, roles="fixed")
    by_model = {d.model for d in demand.loop(fixed, NAMES, size, values, 400, 100) if d.kind == "adjudication"}
    assert by_model == {"eve"}


def test_an_earlier_run_measures_what_was_assumed(tmp_path):
    words = ["experiment=mini", "debug=tiny", f"runs_dir={tmp_path}", "seeds.limit=10", "synthesis.max_candidates=32"]
    config = compose([*words, "synthesis.rounds=1"])
    seeds, node = synthesis_only(config)
    for one, inputs in ((seeds, {}), (node, {"seeds": seeds.run(tmp_path).result})):
        with lease(one.run(tmp_path), wait=False) as held:
            STAGES[one.stage].load()(one.config, inputs, held.out)
            (held.run.folder / "config.yaml").write_text(json.dumps({"config": plain_of(one.config)}))
            held.finish(4.0)
    other = compose([*words, "synthesis.rounds=1", "synthesis.T_mean=7.5"])
    stages, _ = estimate(other, synthesis_only(other), None, {"good": "0.25"}, None)
    found = stages[-1].basis
    assert found.run == node.run_id
    assert found.origin["good"] == "command line"
    assert found.values.good == 0.25
    assert found.origin["instruction"].startswith("measured in")
    assert found.values.instruction != Assumptions().instruction
    usage = json.loads((node.run(tmp_path).folder / "usage.json").read_text())["total"]
    assert found.seconds == pytest.approx(4.0 / usage["computed"])
    assert stages[0].done  # the annotation is shared by both


def plain_of(config):
    from gra_train.settings import plain

    return plain(config)


def test_a_wrong_assumption_is_refused():
    with pytest.raises(UserError, match=r"Did you mean 'assume.good'"):
        basis({"god": "1"}, None)
    with pytest.raises(UserError, match=r"assume.good=2.0 is not valid"):
        basis({"good": "2"}, None)


def test_problems_finds_what_build_would_refuse():
    values = {"sft": {"lrr": 1, "lr": "x"}, "pool": {"models": [{"paht": 1}, {"nam": 2}]}, "arms": {"a": {"rows": 1}}}
    found = problems(Config, values)
    assert set(found) == {"sft.lrr", "sft.lr", "pool.models.0.paht", "pool.models.1.nam", "arms.a"}
    assert problems(Config, {"arms": {"a": {"data": "gra"}}, "seed": 3}) == {}


def test_what_a_round_lacks_is_said(capsys, tmp_path):
    small = ["experiment=mini", "debug=tiny", f"runs_dir={tmp_path}", "synthesis.target=40", "synthesis.rounds=1"]
    _, text = validate(capsys, *small, "assume.good=0.3")
    assert "synthesize gra: synthesis.max_candidates=64 would be used up before 40 rows are kept" in text
    _, text = validate(capsys, *small, "assume.good=1", "assume.survive=1", "assume.pass_instruction=1")
    assert "would be used up" not in text
