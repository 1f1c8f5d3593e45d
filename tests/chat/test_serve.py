"""Servers that we start: planned, checked, and gone when we are. A stub engine stands in for vLLM (see stub_engine)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from gra_train.chat import engines, serve, servers
from gra_train.chat.pool import open_pool
from gra_train.chat.protocol import Completion, ModelError, Sampling
from gra_train.chat.serve import identity, plan_servers, resolve
from gra_train.chat.servers import serving
from gra_train.compose import compose
from gra_train.errors import UserError
from gra_train.experiment import synthesis_only
from gra_train.schema import Model, Pool, Serve
from gra_train.settings import change

STUB = Path(__file__).parent / "stub_engine"


@pytest.fixture
def notes(tmp_path):
    """What each stub server wrote down, in the order of their starts."""

    def read():
        file = tmp_path / "notes"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    return read


@pytest.fixture
def pool(tmp_path, model_dir):
    """pool(*models, **settings of Serve) -> resolved models served by the stub engine."""

    def make(*models: Model, **settings) -> list[Model]:
        env = {"PYTHONPATH": str(STUB), "STUB_NOTES": str(tmp_path / "notes"), **settings.pop("env", {})}
        given = Serve(**{"engine": "vllm", "env": env, "start_timeout_s": 60.0, **settings})
        models = models or (Model(name="tiny", path=str(model_dir)),)
        return resolve(Pool(models=list(models), serve=given)).models

    return make


@pytest.fixture
def gpus(monkeypatch):
    """gpus("4,5,6") makes this machine show such GPUs, to servers of a build that wants them."""

    def show(visible: str) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setattr(engines, "check", lambda name, settings: "2.13.0")

    return show


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def gone(pids, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


def let_die(model: Model) -> None:
    with contextlib.suppress(OSError):
        urllib.request.urlopen(model.url.removesuffix("/v1") + "/die")


def call(number: int = 0):
    async def story(ask):
        asked = Completion(({"role": "user", "content": f"Hello {number}"},), Sampling(0.0, 1.0, 8), purpose="test")
        return (await ask(("tiny", asked)))[0].text

    return story


def test_models_of_one_folder_share_a_server_and_adapters_are_its_modules(pool, model_dir, other_dir, tmp_path):
    for name, rank in (("a", 8), ("b", 20)):
        (tmp_path / name).mkdir()
        settings = {"base_model_name_or_path": str(model_dir), "r": rank}
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(settings))
    folders = {"one": model_dir, "two": model_dir, "a": tmp_path / "a", "b": tmp_path / "b", "other": other_dir}
    models = pool(*(Model(name=n, path=str(p)) for n, p in folders.items()), arguments=["--max-model-len", "99"])
    first, second = plan_servers(models)
    assert [m.name for m in first.models] == ["one", "two", "a", "b"]
    assert [first.served_name(m, tmp_path) for m in first.models] == ["one", "one", "a", "b"]
    command = " ".join(first.command(4711, tmp_path))
    assert f"--model {model_dir} --served-model-name one --host 127.0.0.1 --port 4711 --dtype float32" in command
    assert f"--enable-lora --max-loras 2 --max-lora-rank 32 --lora-modules a={tmp_path}/a b={tmp_path}/b" in command
    assert command.endswith("--max-model-len 99")
    assert second.name == "other"
    assert "lora" not in " ".join(second.command(1, tmp_path))
    names = {m.name: identity(m) for m in models}
    assert names["one"] == names["two"]
    assert len(set(names.values())) == 4  # the folder, each adapter on it, the other folder


def test_identity_is_the_content_of_the_folder_and_what_changes_answers(pool, model_dir, tmp_path):
    (copy := tmp_path / "copy").mkdir()
    for file in model_dir.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())

    def served(path=model_dir, dtype="float32", **settings):
        return identity(pool(Model(name="x", path=str(path), dtype=dtype), **settings)[0])

    assert served() == served(copy) == served(port=4711, restarts=0)
    others = [served(dtype="bfloat16"), served(arguments=["--quantization", "fp8"]), served(engine="transformers")]
    assert len({served(), *others}) == 4


def test_gpus_are_spread_over_the_models_that_have_none_by_hand(pool, gpus, model_dir, other_dir):
    gpus("4,5,6,7,GPU-8f")
    by_hand = Model(name="a", path=str(model_dir), serve={"gpus": [1]})
    large = Model(name="b", path=str(other_dir), serve={"tensor_parallel": 3})
    found = plan_servers(pool(large, by_hand, Model(name="c", path="mini:wren")))
    assert [p.gpus for p in found] == [("4", "6", "7"), ("5",), ("GPU-8f",)]
    assert found[0].environment["CUDA_VISIBLE_DEVICES"] == "4,6,7"
    assert "--tensor-parallel-size 3" in " ".join(found[0].command(1, Path()))


WRONG = {
    "too few GPUs": (dict(tensor_parallel=4), {}, r"need 4 GPUs; 2 of the 2 on this machine are free"),
    "a GPU that is not there": (dict(gpus=[2]), {}, r"serve.gpus=\[2\]: this machine shows 2 GPUs"),
    "GPUs and ranks": (dict(gpus=[0, 1]), {}, r"serve.gpus=\[0, 1\] but tensor_parallel=1 and replicas=1"),
    "the number of one, on a CPU": (dict(gpus=[0]), {}, r"serve.gpus=\[0\], but .* has a CPU build of torch"),
    "a key": (dict(env={"MY_API_KEY": "canary-1234"}), {}, "serve has MY_API_KEY; a key in a configuration"),
    "a key as argument": (dict(arguments=["--api-key", "canary-1234"]), {}, "serve has --api-key"),
    "no interpreter": (dict(python="/nowhere/python"), {}, "serve.python='/nowhere/python' does not exist"),
    "no engine": (
        dict(env={"PYTHONPATH": ""}),
        {},
        "serve.engine=vllm, but .* has no vllm; see 'Servers that we start'",
    ),
    "no folder": ({}, dict(path="/nowhere/model"), "model path '/nowhere/model' does not exist"),
    "no path": ({}, dict(path=""), "give path=, its folder or Hub name"),
    "ranks of transformers": (dict(engine="transformers", tensor_parallel=2), {}, "needs engine=vllm"),
    "url and serve": ({}, dict(url="http://localhost:1/v1", serve={"port": 1}), "choose one"),
    "unknown setting": ({}, dict(serve={"gpu": [1]}), r"No setting 'pool.models.0.serve.gpu'. Did you mean"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_is_said_before_anything_starts(case, pool, gpus, model_dir, monkeypatch, notes):
    settings, model, message = WRONG[case]
    if "GPU" in case:
        gpus("0,1")
    with pytest.raises(UserError, match=message) as error:
        plan_servers(pool(Model(**{"name": "tiny", "path": str(model_dir), **model}), **settings))
    assert "canary" not in str(error.value)
    assert not notes()


def test_ports_that_are_taken_or_given_twice_are_refused(pool, model_dir, other_dir):
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"serve.port={port} cannot be had"):
            plan_servers(pool(port=port))
    with pytest.raises(UserError, match=f"'a' and 'b': both serve.port={port}"):
        plan_servers(pool(Model(name="a", path=str(model_dir)), Model(name="b", path=str(other_dir)), port=port))


def test_replicas_are_servers_of_their_own_and_one_model_to_the_client(pool, gpus, model_dir, tmp_path, notes):
    with serving(pool(replicas=2), tmp_path) as placed:
        with open_pool(placed, ledger=tmp_path / "ledger") as opened:
            answered = set(opened.run([call(i) for i in range(20)]))
        assert answered == {f"from {n['pids'][0]}" for n in notes()}
        assert len(answered) == 2
    gpus("0,1,2,3,4,5")
    by_hand = Model(name="a", path=str(model_dir), serve={"gpus": [4, 5]})
    found = plan_servers(pool(by_hand, Model(name="c", path="mini:wren", serve={"tensor_parallel": 2}), replicas=2))
    assert [(p.name, p.gpus) for p in found] == [("a", ("4",)), ("a-2", ("5",)), ("c", ("0", "1")), ("c-2", ("2", "3"))]


def test_only_engine_and_arguments_make_another_run():
    words = ["seeds=mini", "pool=mini", "synthesis=mini"]

    def run_id(*more):
        return synthesis_only(compose([*words, *more]))[-1].run_id

    here, served = run_id(), run_id("pool.serve.engine=vllm")
    assert here != served
    assert run_id("pool.serve.restarts=1", "pool.serve.env.X='1'") == here
    assert run_id("pool.serve.engine=vllm", "pool.serve.port=4711") == served
    assert run_id("pool.serve.engine=vllm", "pool.serve.arguments=[--quantization,fp8]") not in (here, served)


def test_the_pool_for_eight_gpus_can_be_planned_on_eight_gpus(gpus):
    gpus("0,1,2,3,4,5,6,7")
    pool = resolve(compose(["experiment=gra/paper", "pool=gra5_served"]).pool)
    assert [p.gpus for p in plan_servers(pool.models)] == [("0",), ("1",), ("2",), ("3",), ("4",)]
    assert plan_servers([pool.large])[0].gpus == ("0", "1", "2", "3")


def test_a_server_answers_is_started_again_and_ends_with_the_block(pool, tmp_path, notes, caplog, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "canary-7d21")
    models = pool(env={"STUB_SAYS": "the token is canary-7d21, says the server"})
    with serving(models, tmp_path) as placed:
        assert placed[0].revision == identity(models[0])
        with open_pool(placed, ledger=tmp_path / "ledger") as opened:
            before = opened.run([call(1)])
            let_die(placed[0])
            after = opened.run([call(2)])  # the client waits for it to come back
            assert opened.run([call(1)]) == before  # from the ledger
        started = notes()
        assert [f"from {n['pids'][0]}" for n in started] == [*before, *after]
        assert started[0]["argv"] == started[1]["argv"]  # the same port
        assert gone(started[0]["pids"])  # with what it had left behind
        assert all(map(alive, started[1]["pids"]))
    assert gone(started[1]["pids"], 1)
    assert "starting its server again in 1 s" in caplog.text
    said = (tmp_path / "servers" / "tiny.log").read_text()
    assert "the token is ***, says the server" in said
    assert "canary" not in said + caplog.text


def test_a_start_that_fails_is_tried_again(pool, tmp_path, notes, caplog, monkeypatch):
    """A full disk, say: the thread that keeps servers alive must outlive it."""
    start, failed = servers.Server.start, []

    def once_in_vain(self):
        if self.starts and not failed:
            failed.append(self)
            raise OSError(28, "No space left on device")
        start(self)

    monkeypatch.setattr(servers.Server, "start", once_in_vain)
    monkeypatch.setattr(servers, "_FIRST_WAIT_S", 0.05)
    with serving(pool(), tmp_path) as placed, open_pool(placed, ledger=tmp_path / "ledger") as opened:
        opened.run([call(1)])
        let_die(placed[0])
        assert opened.run([call(2)]) == [f"from {notes()[1]['pids'][0]}"]
    assert failed
    assert "its server could not be started: [Errno 28] No space left on device" in caplog.text


def test_a_server_that_keeps_ending_is_given_up_and_the_error_says_why(pool, tmp_path):
    def work() -> None:
        with serving(pool(restarts=0, env={"STUB_SAYS": "farewell"}), tmp_path) as placed:
            impatient = [change(m, give_up_s=0.5) for m in placed]
            with open_pool(impatient, ledger=tmp_path / "ledger") as opened:
                let_die(placed[0])
                opened.run([call(i) for i in range(8)])  # so many failures take it out at once

    with pytest.raises(ModelError, match=r"(?s)exit code 3, started 1 times.*stub engine: farewell"):
        work()


def test_a_server_that_cannot_start_ends_the_run_with_its_last_words(pool, tmp_path):
    with pytest.raises(UserError, match=r"(?s)model 'tiny' did not start.*no room on this device"), \
         serving(pool(env={"STUB_FAILS": "1"}), tmp_path):  # fmt: skip
        raise AssertionError


HOLD = """
import sys, time
from pathlib import Path
from gra_train.chat.servers import serving
from gra_train.schema import Model
import json
models = [Model(**m) for m in json.loads(sys.argv[1])]
with serving(models, Path(sys.argv[2])):
    Path(sys.argv[2], "up").touch()
    time.sleep(600)
"""


@pytest.mark.parametrize("how", ["SIGKILL of the run", "SIGTERM of the run", "SIGKILL of the guard", "deaf"])
def test_nothing_is_left_however_the_run_ends(how, pool, tmp_path, notes):
    models = [dict(vars(m)) for m in pool(env={"STUB_DEAF": "1"} if how == "deaf" else {})]
    run = subprocess.Popen([sys.executable, "-c", HOLD, json.dumps(models), str(tmp_path)])
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "up").exists():
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ((server, child),) = [n["pids"] for n in notes()]
        guard = int(re.search(r"PPid:\t(\d+)", Path(f"/proc/{server}/status").read_text())[1])
        if how == "SIGKILL of the guard":
            os.kill(guard, signal.SIGKILL)
            assert gone([server])
            os.kill(child, signal.SIGKILL)  # the one case in which a daemon of the server stays
        else:
            run.send_signal(signal.SIGTERM if how == "SIGTERM of the run" else signal.SIGKILL)
            assert gone([server, child, guard], 30)
    finally:
        run.kill()
        run.wait()


def test_a_pool_without_servers_of_ours_is_left_alone(tmp_path):
    models = [Model(name="wren", path="mini:wren")]
    with serving(models, tmp_path) as placed:
        assert placed == models
    assert not (tmp_path / "servers").exists()
    assert serve.plan_servers(models) == []
