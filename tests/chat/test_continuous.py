"""Continuous batching in process: rows come and go, and every answer is the one that its request gets alone."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from dataclasses import replace

import pytest

from gra_train.chat.continuous import Batch, ContinuousModel
from gra_train.chat.local import LocalModel
from gra_train.chat.pool import open_pool
from gra_train.chat.protocol import Completion, Likelihood, Sampling
from gra_train.errors import UserError
from gra_train.schema import Model


def request(number: int, **sampling) -> Completion:
    options = {"temperature": 0.8, "top_p": 0.9, "max_tokens": 5 + 7 * (number % 4), **sampling}
    turns = ({"role": "user", "content": "Ann has apples. " * (number % 5) + f"Take {number}."},)
    return Completion(turns, sampling=Sampling(**options), seed=number, purpose="test")


MIXED = [
    *(request(i) for i in range(12)),
    replace(request(12), regex="[0-9]{3} [ab]+"),
    replace(request(13), schema='{"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}'),
    request(14, stop=("e", "a")),
    request(15, temperature=0.0),
    *(replace(request(i), regex="[01] [01] [01]") for i in range(16, 20)),
    Likelihood(request(1).messages, "12 pears and 3"),
    Likelihood(request(4).messages, "7"),
]


def test_rows_that_join_and_leave_get_the_answers_they_get_alone(local, model_dir):
    """Three at a time, so that rows join batches that are under way; with and without constraints."""
    alone = [local.complete_batch([r])[0] for r in MIXED[:20]]
    model = LocalModel(Model(name="tiny", path=str(model_dir)), device="cpu", batch_tokens=300)
    batch = Batch(model)
    waiting = deque((p, Future()) for p in model.prepare(MIXED[:20]))
    futures = [future for _, future in waiting]
    most = steps = 0
    while waiting or batch.rows:
        batch.admit(waiting)
        longest = max((p + r.limit for p, r in zip(batch._prompts, batch.rows, strict=True)), default=0)
        assert len(batch.rows) * longest <= 300 or len(batch.rows) == 1
        most, steps = max(most, len(batch.rows)), steps + 1
        batch.step()
    together = [future.result(0) for future in futures]
    assert together == alone
    assert most > 2
    assert steps < sum(reply.completion_tokens for reply in alone)
    assert together[12].finish == "length" or together[12].text[:3].isdigit()
    assert together[13].text in ('{"a": 1}', '{"a": 2}') or together[13].finish == "length"


def test_a_pool_answers_calls_as_they_come_and_keeps_them_one_by_one(model_dir, local, tmp_path):
    def story(one):
        async def run(ask):
            return (await ask(("tiny", one)))[0]

        return run

    model = Model(name="tiny", path=str(model_dir))
    twin = Model(name="twin", path=str(model_dir))
    for computed in (len(MIXED), 0):
        with open_pool([model, twin], ledger=tmp_path, continuous=True, batch_tokens=1000) as pool:
            assert not pool.lockstep
            assert pool.models["tiny"] is pool.models["twin"]
            answers = pool.run([story(r) for r in MIXED], window=6)
            assert pool.usage()["total"]["computed"] == computed
    expected = [local.complete_batch([r])[0] for r in MIXED[:20]]
    assert [(a.text, a.finish) for a in answers[:20]] == [(b.text, b.finish) for b in expected]
    for answer, right in zip(answers[20:], local.log_likelihood_batch(MIXED[20:]), strict=True):
        assert answer.logprobs == pytest.approx(right.logprobs, abs=1e-5)
    assert pool.models["tiny"].fingerprint != local.fingerprint


def test_prompts_that_fill_the_window_and_errors_reach_the_caller(local):
    full = Completion(({"role": "user", "content": "x" * 3000},), Sampling(1.0, 1.0, 8))
    wrong = replace(request(1), regex="[")

    async def ask(*requests):
        model = ContinuousModel(local)
        try:
            return (await model.answers(requests))[0]
        finally:
            await model.close()

    (reply,) = asyncio.run(ask(full))
    assert (reply.text, reply.finish) == ("", "length")
    with pytest.raises(UserError, match="regular expression"):
        asyncio.run(ask(request(0), wrong))


def test_caches_that_cannot_be_joined_are_refused(local, monkeypatch):
    from transformers.cache_utils import DynamicSlidingWindowLayer

    batch = Batch(local)
    waiting = deque((p, Future()) for p in local.prepare([request(3), request(7)]))
    batch.admit(deque([waiting.popleft()]))
    batch._cache.layers[0] = object.__new__(DynamicSlidingWindowLayer)
    with pytest.raises(UserError, match="continuous_batching needs a plain key-value cache"):
        batch.admit(waiting)
