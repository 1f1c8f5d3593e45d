"""The HTTP client against a real server process: faults, retries, concurrency, keys, replay."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

import pytest

from gra_train.chat import calling, dialects, endpoints, wire
from gra_train.chat.pool import open_pool
from gra_train.chat.protocol import Completion, Likelihood, ModelError, Sampling, several
from gra_train.chat.templates import prompt_ids
from gra_train.chat.usage import Times
from gra_train.errors import UserError
from gra_train.schema import Model

CANARY = "canary-5e1f"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waits between tries are cut short: what is tested is their number."""
    monkeypatch.setattr(calling, "_FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(endpoints, "_FIRST_OUT_S", 0.02)


def request(text: str = "hello", seed: int = 0, system: str = "", **options) -> Completion:
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": text})
    return Completion(tuple(turns), sampling=Sampling(0.5, 0.9, 16), seed=seed, purpose="p", **options)


def play(server, served, requests, ledger, **options):
    model = Model(name="m", url=server, served_name=served, revision="r1", **options)

    def story(one):
        async def run(ask):
            return (await ask(("m", one)))[0]

        return run

    with open_pool([model], ledger=ledger) as pool:
        return pool.run([story(r) for r in requests], window=16), pool.usage()["total"], pool.models["m"]


def test_answers_are_replayed_and_asked_once(server, stats, tmp_path):
    requests = [request(f"q{i % 50}", seed=i % 50) for i in range(100)]  # each twice
    first, usage, _ = play(server, "plain", requests, tmp_path)
    assert usage["asked"] == 100
    assert usage["computed"] == 50
    again, usage, model = play(server, "plain", requests, tmp_path)
    assert again == first
    assert usage["computed"] == 0
    assert model.caller.calls == 0
    assert set(stats()["requests"].values()) == {1}
    assert first[0].prompt_tokens == 5
    assert len({r.text for r in first}) == 50


def test_a_refusal_is_not_tried_again(server, stats, tmp_path):
    with pytest.raises(ModelError, match="status 400"):
        play(server, "400", [request()], tmp_path)
    assert sum(stats()["requests"].values()) == 1


def test_calls_in_flight_are_bounded(server, stats, tmp_path):
    play(server, "plain", [request(seed=i) for i in range(60)], tmp_path, max_concurrency=3)
    assert stats()["most_active"] <= 3


def test_what_was_answered_before_an_error_is_kept(server, tmp_path):
    good = Model(name="m", url=server, served_name="plain", revision="r1")
    bad = Model(name="bad", url=server, served_name="400", revision="r1")

    async def story(ask):
        await ask(("m", request()))
        await ask(("bad", request()))

    for known in (0, 1):
        with open_pool([good, bad], ledger=tmp_path) as pool:
            with pytest.raises(ModelError):
                pool.run([story])
            assert pool.usage()["total"]["from_ledger"] == known


def test_a_system_role_that_the_server_refuses_is_merged(server, stats, tmp_path):
    async def story(ask):
        return [await ask(("m", request(seed=i, system="Be brief."))) for i in range(3)]

    with open_pool([Model(name="m", url=server, served_name="no-system", revision="r")], ledger=tmp_path) as pool:
        assert len(pool.run([story])[0]) == 3
    assert sum(stats()["requests"].values()) == 4 + 6  # refused once, probed, merged from then on


def test_a_flaky_server_is_not_taken_for_one_without_system_role(server, tmp_path):
    async def story(ask):
        return [await ask(("m", request(seed=i, system="Be brief."))) for i in range(3)]

    with open_pool([Model(name="m", url=server, served_name="500x2", revision="r")], ledger=tmp_path) as pool:
        pool.run([story])
        assert not pool.models["m"]._merge_system


def test_keys_come_from_the_environment_and_go_nowhere_else(server, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TEST_KEY", CANARY)
    replies, _, _ = play(server, "key", [request()], tmp_path / "l", api_key_env="TEST_KEY")
    assert replies[0].text == "Bearer ***"  # this server sends the key back in its answer
    with pytest.raises(ModelError) as error:  # this server sends the key back in its error
        play(server, "400", [request()], tmp_path / "l", api_key_env="TEST_KEY")
    assert "***" in str(error.value)
    assert CANARY not in repr(error.getrepr(style="long", showlocals=False))
    assert CANARY not in caplog.text
    segments = list((tmp_path / "l").iterdir())
    assert segments
    assert all(CANARY.encode() not in s.read_bytes() for s in segments)
    monkeypatch.setenv("TEST_KEY", "wrong")
    with pytest.raises(UserError, match="refuses the API key"):
        play(server, "key", [request()], tmp_path / "l", api_key_env="TEST_KEY")
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(UserError, match="TEST_KEY, which is not set"):
        play(server, "key", [request()], tmp_path / "l", api_key_env="TEST_KEY")


def test_expressions_are_sent_and_their_neglect_is_said_once(server, tmp_path, caplog):
    replies, _, _ = play(server, "regex", [request(regex="[0-9]")], tmp_path)
    assert replies[0].text == "7"
    assert not caplog.records
    play(server, "plain", [request(regex="[0-9]", seed=i) for i in range(3)], tmp_path)
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    replies, _, _ = play(server, "strict", [request(regex="[0-9]", seed=i) for i in range(3)], tmp_path)
    assert len(replies) == 3
    assert [r.levelname for r in caplog.records] == ["WARNING"] * 2


def test_stop_strings_that_the_server_ignores_end_the_answer(server, tmp_path):
    whole, _, _ = play(server, "plain", [request()], tmp_path)
    stop = whole[0].text[5:7]
    stopped = Completion(request().messages, sampling=Sampling(0.5, 0.9, 16, stop=("nowhere", stop)))
    replies, _, _ = play(server, "plain", [stopped], tmp_path)
    assert replies[0].text == whole[0].text[: whole[0].text.index(stop)]


def test_broken_unicode_can_be_recorded(server, tmp_path):
    replies, _, _ = play(server, "surrogate", [request()], tmp_path)
    assert replies[0].text == "a?b"
    assert replies[0].finish == "length"


@pytest.mark.parametrize("served", ["vllm", "echo"])
def test_likelihoods_where_the_server_has_them(server, tmp_path, model_dir, served):
    ask = Likelihood(request().messages, "Bob gives")
    answers, _, model = play(server, served, [ask], tmp_path, path=str(model_dir))
    prompt = len(prompt_ids(model.tokenizer, [ask.messages])[0])
    assert answers[0].logprobs == tuple(-0.5 * i for i in range(prompt, prompt + len(answers[0].tokens)))
    assert "".join(answers[0].tokens) == "Bob gives"


def test_likelihoods_beyond_the_window(server, tmp_path, model_dir):
    (scores,), _ = ask_once(
        server, tmp_path, Likelihood(request("long " * 50).messages, "7"), served_name="window", path=str(model_dir)
    )
    assert scores.total == float("-inf")


def test_likelihoods_where_it_has_not(server, tmp_path, model_dir):
    ask = Likelihood(request().messages, "Bob gives")
    with pytest.raises(ModelError, match="no log-probabilities"):
        play(server, "plain", [ask], tmp_path, path=str(model_dir))
    with pytest.raises(UserError, match="need the tokenizer"):
        play(server, "vllm", [ask], tmp_path)


def test_retry_after_is_seconds_or_a_date():
    assert wire.seconds("3") == 3
    assert wire.seconds("1e9") == 60
    assert wire.seconds("soon") == 0
    assert wire.seconds("Wed, 21 Oct 2065 07:28:00 GMT") == 60
    assert wire.seconds("nan") == 0
    assert wire.seconds(None) == 0


def test_a_server_and_a_model_in_process_share_stories(server, stats, tmp_path, model_dir):
    pool_models = [
        Model(name="s", url=server, served_name="plain", revision="r"),
        Model(name="p", path=str(model_dir)),
    ]

    def story(i):
        async def run(ask):
            a, b = await ask(("s", request(seed=i)), ("p", request(seed=i)))
            (c,) = await ask(("s", request(b.text)))
            return a, b, c

        return run

    results = []
    for _ in range(2):
        with open_pool(pool_models, ledger=tmp_path, device="cpu") as pool:
            results.append(pool.run([story(i) for i in range(6)], block=4))
    assert results[0] == results[1]
    assert set(stats()["requests"].values()) == {1}


def test_an_error_cancels_what_is_in_flight(server, tmp_path):
    slow = Model(name="slow", url=server, served_name="slow", revision="r")
    bad = Model(name="bad", url=server, served_name="400", revision="r")

    async def story(ask):
        await asyncio.gather(ask(("slow", request())), ask(("bad", request())))

    with open_pool([slow, bad], ledger=tmp_path) as pool, pytest.raises(ModelError, match="400"):
        pool.run([story])


def ask_once(server, tmp_path, *requests, **options):
    """The replies of one story that asks all at once, and the pool."""

    async def story(ask):
        return await ask(*(("m", r) for r in requests))

    model = Model(**{"name": "m", "url": server, "revision": "r", **options})
    with open_pool([model], ledger=tmp_path) as pool:
        (replies,) = pool.run([story])
        pool.write_usage(tmp_path / "usage.json")
        return replies, pool


@pytest.mark.parametrize(("served", "calls"), [("able", 1), ("plain", 3), ("strict-n", 4)])
def test_several_answers_to_one_prompt(server, stats, tmp_path, served, calls):
    one, other = request("one"), request("other")
    replies, pool = ask_once(server, tmp_path, *several(one, 3), other, served_name=served)
    assert len({r.text for r in replies}) == 4
    assert [r.completion_tokens for r in replies] == [12] * 4
    assert sum(stats()["requests"].values()) == pool.models["m"].caller.calls == calls + 1
    again, pool = ask_once(server, tmp_path, *several(one, 3), served_name=served)
    assert again == replies[:3]
    assert pool.models["m"].caller.calls == 0


def test_log_probabilities_of_the_answer(server, tmp_path, caplog):
    (reply,), _ = ask_once(server, tmp_path, replace(request(), logprobs=True), served_name="able")
    assert reply.logprobs.logprobs == (-0.5,) * 12
    assert "".join(reply.logprobs.tokens) == reply.text
    (reply,), _ = ask_once(server, tmp_path, replace(request(), logprobs=True), served_name="plain")
    assert reply.logprobs is None
    assert "gives no log-probabilities" in caplog.text


def test_raw_completion_renders_here(server, tmp_path, model_dir):
    (reply,), pool = ask_once(server, tmp_path, request(), api="completions", served_name="plain", path=str(model_dir))
    ids = prompt_ids(pool.models["m"].tokenizer, [request().messages])[0]
    assert reply.text == f"{len(ids)} tokens"
    (chat,), other = ask_once(server, tmp_path, request(), served_name="plain")
    assert chat.text != reply.text
    assert other.models["m"].fingerprint != pool.models["m"].fingerprint


def test_raw_completions_fill_the_window(server, tmp_path, model_dir):
    long = Completion(request().messages, sampling=Sampling(0.5, 0.9, 100))
    (reply,), pool = ask_once(server, tmp_path, long, api="completions", served_name="window", path=str(model_dir))
    ids = prompt_ids(pool.models["m"].tokenizer, [request().messages])[0]
    assert len(reply.text) == 64 - len(ids)
    assert reply.finish == "length"
    assert pool.models["m"].caller.calls == 2


def test_schemas_are_sent_and_their_neglect_is_said_and_counted(server, tmp_path, caplog):
    schema = '{"type": "object", "properties": {"score": {"type": "integer", "maximum": 10}}, "required": ["score"]}'
    (reply,), pool = ask_once(server, tmp_path, replace(request(), schema=schema), served_name="schema")
    assert reply.text == '{"score": 7}'
    assert not caplog.records
    asked = [replace(request(seed=i), schema=schema) for i in range(3)]
    _, pool = ask_once(server, tmp_path, *asked, served_name="plain")
    assert pool.models["m"].unconstrained == 3
    assert [r.message for r in caplog.records if "a JSON schema" in r.message]


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ({"s": [1, 2]}, True), ({"s": [1, 11]}, False), ({"s": [True]}, False), ({"s": "1"}, False), ({}, False),
        ({"s": [], "k": "b"}, True), ({"s": [], "k": "z"}, False), ([], False), ({"s": [0.5]}, False),
    ],
)  # fmt: skip
def test_following_a_schema(value, valid):
    schema = {
        "type": "object", "required": ["s"],
        "properties": {
            "s": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 10}},
            "k": {"enum": ["a", "b"]},
        },
    }  # fmt: skip
    assert dialects.follows(schema, value) is valid


def test_tokens_cost_and_latency_are_accounted_per_model_and_purpose(server, tmp_path):
    asked = [replace(request(seed=i), purpose=f"role/{i % 2}") for i in range(6)]
    _, pool = ask_once(server, tmp_path, *asked, served_name="plain", price_in=2.0, price_out=10.0)
    usage = json.loads((tmp_path / "usage.json").read_text())
    assert usage["by_model"]["m"]["role/0"]["completion_tokens"] == 36
    assert usage["cost"] == {"total": 0.00078, "by_model": {"m": {"role/0": 0.00039, "role/1": 0.00039}}}
    assert usage["latency_s"]["m"]["role/1"]["calls"] == 3
    assert 0.002 <= usage["latency_s"]["m"]["role/1"]["p50"] <= usage["latency_s"]["m"]["role/1"]["max"] < 5
    assert usage["endpoints"]["m"][0]["answered"] == 6
    assert "latency_s" not in pool.usage()
    ask_once(server, tmp_path, *asked, served_name="plain", price_in=2.0)
    usage = json.loads((tmp_path / "usage.json").read_text())
    assert usage["cost"] == {"total": None, "by_model": {"m": {"role/0": None, "role/1": None}}}
    assert usage["latency_s"] == {}


def test_percentiles_are_exact_to_five_percent():
    times = Times()
    for i in range(1, 1001):
        times.add(i / 100)
    found = times.to_dict()
    assert found["p50"] == pytest.approx(5.0, rel=0.05)
    assert found["p99"] == pytest.approx(9.9, rel=0.05)
    assert found["max"] == 10.0
