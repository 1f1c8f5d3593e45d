"""The HTTP client against a real server process: faults, retries, concurrency, keys, replay."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

import pytest

from gra_train.chat import calling, dialects, endpoints, segments, wire
from gra_train.chat.ledger import Ledger
from gra_train.chat.pool import open_pool
from gra_train.chat.protocol import Completion, Likelihood, ModelError, Sampling, several
from gra_train.chat.templates import prompt_ids
from gra_train.chat.urls import base_urls, check_urls
from gra_train.chat.usage import Times
from gra_train.errors import UserError
from gra_train.schema import Config, Model, Pool

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


def scored(text: str, **options) -> Likelihood:
    return Likelihood(request(text).messages, "Bob gives", purpose="reviewer/response", **options)


@pytest.mark.parametrize("status", ["400", "500"])
def test_a_likelihood_that_fails_costs_its_own_answer_alone(server, tmp_path, model_dir, status):
    served, options = f"echo-{status}", {"path": str(model_dir), "retries": 2}
    asked = [scored("long " * 50 if i == 3 else f"short {i}", may_fail=True) for i in range(10)]
    answers, usage, _ = play(server, served, asked, tmp_path, **options)
    assert [i for i, a in enumerate(answers) if a.failed] == [3]
    assert all(len(a.logprobs) == len(a.tokens) > 0 for a in answers if not a.failed)
    assert usage["failed"] == 1
    again, usage, model = play(server, served, asked, tmp_path, **options)
    assert again == answers
    assert usage["computed"] == model.caller.calls == 0
    with pytest.raises(ModelError, match="on record as not answered"):  # no answer is not certainty
        _ = answers[3].total
    with pytest.raises(ModelError, match=f"status {status}") as error:  # for who cannot do without it
        play(server, served, [scored("short"), scored("long " * 51)], tmp_path, **options)
    assert "log-probabilities" not in str(error.value)
    with pytest.raises(ModelError, match=f"status {status}"):
        play(server, served, [scored("long " * 52, may_fail=True)], tmp_path, on_failed_call="stop", **options)


def test_likelihoods_that_are_all_refused_end_the_run_with_the_cause(server, tmp_path, model_dir):
    asked = [scored("long " * (50 + i), may_fail=True) for i in range(3)]
    asked = [*asked, request("a completion that is answered")]
    with pytest.raises(ModelError, match=r"status 400.*this one not"):
        play(server, "echo-400", asked, tmp_path, path=str(model_dir))


def test_likelihoods_are_paid_for_as_the_estimate_says(server, tmp_path, model_dir):
    (answer,), pool = ask_once(
        server, tmp_path, scored("hello"), served_name="echo", path=str(model_dir), price_in=2.0, price_out=10.0
    )
    read = len(prompt_ids(pool.models["m"].tokenizer, [request("hello").messages])[0])
    usage = json.loads((tmp_path / "usage.json").read_text())
    assert usage["total"]["prompt_tokens"] == answer.prompt_tokens == read > 0
    assert usage["cost"]["total"] == pytest.approx((read + len(answer.logprobs)) * 2e-6)
    (again,), _ = ask_once(server, tmp_path, scored("hello"), served_name="echo", path=str(model_dir), price_in=2.0,
                           price_out=10.0)  # fmt: skip
    assert again.prompt_tokens == read
    assert json.loads((tmp_path / "usage.json").read_text())["cost"] == usage["cost"]


def test_latencies_are_the_servers_for_the_last_try(server, tmp_path, model_dir, monkeypatch):
    took: list[float] = []
    call = calling.Caller.call

    async def noted(self, *args):
        found, seconds = await call(self, *args)
        took.append(seconds)
        return found, seconds

    monkeypatch.setattr(calling.Caller, "call", noted)
    for one in (request(), scored("hello")):
        _, pool = ask_once(server, tmp_path / "l", one, served_name="500x1", path=str(model_dir))
        assert pool.models["m"].caller.retried == 1
    with Ledger(tmp_path / "l") as ledger:
        records = [segments.record_of(body) for path in ledger.segments for _, _, body in segments.scan(path)
                   if not segments.is_end(body)]  # fmt: skip
    assert [r.latency_ms for r in records] == [round(1000 * seconds) for seconds in took]


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
    tmp_path.mkdir(exist_ok=True)
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


FIELDS = {"seed": 1, "n": 3, "logprobs": True, "response_format": {}, "structured_outputs": {}, "top_logprobs": 5}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("""{"detail": "Unexpected fields: {'structured_outputs'}"}""", "structured_outputs"),
        ("""[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Extra inputs', 'input': 42}]""", "seed"),
        ("""{"error": {"message": "Unknown parameter: 'seed'.", "param": "seed"}}""", "seed"),
        ("Unrecognized request argument supplied: seed", "seed"),
        ("property `logprobs` is not allowed", "logprobs"),
        ("body.top_logprobs: none of ours", "top_logprobs"),
        ("seed: Extra inputs are not permitted", "seed"),
        ("This model does not support seed.", "seed"),
        ("this server doesn't accept the response_format here", "response_format"),
        ("n must be 1", "n"),
        ("n > 1 is not available", "n"),
        ("prompt 'plant a seed, then water it' refused", None),
        ("""content filter: "the seed of doubt" must not be sown""", None),
        ("""bad request {"seed": 1, "logprobs": true, "messages": []}""", None),
        ("""two lines\\n must not end so""", None),
        ("the request is wrong", None),
    ],
)
def test_a_field_is_refused_only_where_it_is_named_as_one(text, field):
    assert dialects.refused_field({"messages": [], **FIELDS}, text) == field


def test_what_a_refusal_repeats_of_the_prompt_says_nothing():
    said = 'Why is "seed" an unknown parameter here?\nThe maximum context length is 5.'
    body = {"messages": [{"role": "user", "content": said}], **FIELDS}
    for told in (said, repr(said), json.dumps(said), said[:40]):
        left = dialects.without_echo(body, f"refused: {told}")
        assert dialects.refused_field(body, left) is None
        assert not dialects.too_long(left)
    assert dialects.refused_field(body, dialects.without_echo(body, f"{said}: unknown field 'n'")) == "n"
    assert dialects.without_echo({"prompt": [1, 2, 3]}, "as it is") == "as it is"


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@host/v1", "https://hunter2@host/v1", "https://host/v1?api-key=hunter2",
        "http://ok/v1, https://host/v1?subscription-KEY=hunter2", "https://host/v1?x=1&access_token=hunter2",
        "user:hunter2@host", "https://[::1/v1?key=hunter2@", "https://host?key=hunter2",
    ],
)  # fmt: skip
def test_a_key_in_an_address_is_refused_before_anything_is_written(url, tmp_path):
    for refuse in (lambda m: open_pool([m], ledger=tmp_path / "l"), lambda m: check_urls(Config(student=m)),
                   lambda m: check_urls(Config(pool=Pool(models=[Model(), m])))):  # fmt: skip
        with pytest.raises(UserError, match="api_key_env") as error:
            refuse(Model(name="m", url=url, revision="r"))
        assert "hunter2" not in str(error.value)
    base_urls(Model(name="m", url="https://host/v1?api-version=2024-10-21"))
