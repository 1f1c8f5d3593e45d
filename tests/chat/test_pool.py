"""Stories over a pool: order, lockstep batches, replay from the ledger, errors."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gra_train.chat import ledger as ledgers
from gra_train.chat.pool import open_pool
from gra_train.chat.protocol import Completion, Likelihood, Sampling
from gra_train.errors import UserError
from gra_train.schema import Model

ROOT = Path(__file__).parents[2]


def request(text: str, seed: int = 0, **options) -> Completion:
    return Completion(
        messages=({"role": "user", "content": text},),
        sampling=Sampling(1.0, 1.0, 8),
        seed=seed,
        purpose="test/x",
        **options,
    )


def story(index: int):
    """Two models in turn, branches that depend on answers, and a gather of asks."""

    async def run(ask):
        first, second = await ask(("a", request(f"q{index}", index)), ("b", request(f"q{index}", index)))
        texts = [first.text, second.text]
        for k in range(len(first.text) % 3):
            (more,) = await ask(("a" if k else "b", request(first.text + str(k), index)))
            texts.append(more.text)
        scores = await asyncio.gather(*(ask(("b", Likelihood(request(t).messages, "Bob"))) for t in texts[:2]))
        return texts, [s[0].total for s in scores]

    return run


@pytest.fixture
def models(model_dir, other_dir):
    return [Model(name="a", path=str(model_dir)), Model(name="b", path=str(other_dir))]


def play(models, ledger, count=20, **options):
    with open_pool(models, ledger=ledger, device="cpu") as pool:
        return pool.run([story(i) for i in range(count)], **options), pool.usage()["total"]


def test_replay_is_bit_equal_and_computes_nothing(models, tmp_path, monkeypatch):
    done: list[int] = []
    results, usage = play(models, tmp_path / "one", block=8, on_done=done.append)
    assert [n for n in done if n] == [8, 8, 4]
    assert done.count(0) > 10  # after each batch
    assert usage["computed"] == usage["asked"] > 80
    assert play(models, tmp_path / "two", block=8) == (results, usage)  # a fresh ledger: the same bits
    monkeypatch.setattr("gra_train.chat.local._load", None)  # replay needs no weights
    monkeypatch.setattr("gra_train.chat.local.load_tokenizer", None)  # and no tokenizer
    again, replayed = play(models, tmp_path / "one", block=8)
    assert again == results
    assert replayed["computed"] == 0
    assert replayed["completion_tokens"] == usage["completion_tokens"]


def test_replay_starts_without_torch(models, tmp_path):
    results, _ = play(models, tmp_path, count=8, block=8)
    replay = """
import json, sys
from pathlib import Path
from gra_train.schema import Model
from tests.chat.test_pool import play

results, usage = play([Model(name=n, path=p) for n, p in json.loads(sys.argv[1])], Path(sys.argv[2]), count=8, block=8)
print(json.dumps([results, usage["computed"], sorted({"torch", "transformers"} & sys.modules.keys())]))
"""
    command = [sys.executable, "-c", replay, json.dumps([[m.name, m.path] for m in models]), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(json.dumps([results, 0, []]))


def test_a_run_that_was_cut_short_goes_on_with_the_same_bits(models, tmp_path, monkeypatch):
    whole, _ = play(models, tmp_path / "whole", block=8)

    class Cut(Exception):
        pass

    real = ledgers.Ledger.put
    for writes in (1, 2, 5, 9, 14):
        folder = tmp_path / str(writes)
        left = iter(range(writes))

        def put(self, key, value, left=left, **origin):
            if next(left, None) is None:
                raise Cut
            real(self, key, value, **origin)

        with monkeypatch.context() as patch:
            patch.setattr(ledgers.Ledger, "put", put)
            with pytest.raises(Cut):
                play(models, folder, block=8)
        results, usage = play(models, folder, block=8)
        assert results == whole
        assert usage["computed"] < usage["asked"] or writes < 2


def test_a_stop_within_a_block_loses_nothing(models, tmp_path):
    """Who asks it to stop need not wait for the block; run again, the block goes on from there, to the same bits."""
    whole, _ = play(models, tmp_path / "whole", block=20)
    for batches in (1, 2, 4):
        left = iter(range(batches))

        def stop(_, left=left):
            if next(left, None) is None:
                raise InterruptedError

        with open_pool(models, ledger=tmp_path / str(batches), device="cpu") as pool:
            with pytest.raises(InterruptedError):
                pool.run([story(i) for i in range(20)], block=20, on_done=stop)
            computed = pool.usage()["total"]["computed"]
            assert computed > 0
            assert pool.health() == ""
        results, usage = play(models, tmp_path / str(batches), block=20)
        assert results == whole
        assert usage["from_ledger"] == computed
        assert usage["computed"] == usage["asked"] - computed


def test_progress_within_a_block_is_told(models, tmp_path):
    with open_pool(models, ledger=tmp_path, device="cpu") as pool:
        said = []
        pool.run([story(i) for i in range(20)], block=20, on_done=lambda n: said.append((n, pool.health())))
    assert said[-1] == (20, "")
    assert [n for n, _ in said[:-1]] == [0] * (len(said) - 1)
    answered = [int(text.split()[0]) for _, text in said[:-1]]
    assert answered == sorted(set(answered))
    assert len(answered) > 5


def test_an_error_in_a_story_ends_the_run(models, tmp_path):
    async def bad(ask):
        await ask(("a", request("x")))
        raise KeyError("mine")

    with open_pool(models, ledger=tmp_path, device="cpu") as pool:
        with pytest.raises(KeyError, match="mine"):
            pool.run([story(0), bad, story(1)])
        assert len(pool.run([story(0)])) == 1  # the pool is still usable

        async def unknown(ask):
            await ask(("aa", request("x")))

        with pytest.raises(UserError, match="Did you mean 'a'"):
            pool.run([unknown])


def test_usage_by_model_and_purpose(models, tmp_path):
    with open_pool(models, ledger=tmp_path / "l", device="cpu") as pool:
        pool.run([story(i) for i in range(3)])
        pool.write_usage(tmp_path / "usage.json")
        usage = json.loads((tmp_path / "usage.json").read_text())
    assert usage["by_model"]["a"]["test/x"]["asked"] >= 3
    assert usage["by_model"]["b"][""]["scored_tokens"] > 0
    assert usage["total"]["computed"] == usage["total"]["asked"]


def test_identical_weights_are_shared(model_dir, tmp_path):
    twins = [Model(name="a", path=str(model_dir)), Model(name="b", path=str(model_dir))]
    with open_pool(twins, ledger=tmp_path, device="cpu") as pool:
        assert pool.models["a"] is pool.models["b"]
        assert pool.names == ["a", "b"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "no models"),
        ([Model(name="a", path="x/y"), Model(name="a", path="x/z")], "name of its own"),
        ([Model(name="a")], "needs path="),
        ([Model(name="a", path="/nowhere/at/all")], "does not exist"),
        ([Model(name="a", url="http://127.0.0.1:9/v1,http://127.0.0.1:9/v1/")], "names http://127.0.0.1:9/v1 twice"),
        ([Model(name="a", url="http://127.0.0.1:9/v1", api="completions")], "set path= to the folder"),
        ([Model(name="a", url="localhost:8000", revision="r")], "should look like"),
        ([Model(name="a", url="http://127.0.0.1:9/v1", revision="r")], "no server answers at http://127.0.0.1:9/v1"),
    ],
)
def test_wrong_pools_are_refused_before_any_work(members, message, tmp_path):
    with pytest.raises(UserError, match=message):
        open_pool(members, ledger=tmp_path / "l", device="cpu")
