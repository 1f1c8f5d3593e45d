"""Faults of the wire, from a real server process: what is tried again, what is lost, when the run ends."""

from __future__ import annotations

import logging

import pytest

from gra_train.chat import calling, endpoints, wire
from gra_train.chat.ledger_vacuum import vacuum
from gra_train.chat.pool import open_pool
from gra_train.chat.protocol import Completion, ModelError, Sampling
from gra_train.schema import Model

FAULTS = [
    "429x2", "500x2", "resetx2", "garbagex2", "emptyx2", "truncatedx2", "bombx2", "gzipx1", "shapelessx2",
]  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waits between tries are cut short: what is tested is their number."""
    monkeypatch.setattr(calling, "_FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(endpoints, "_FIRST_OUT_S", 0.02)


def request(text: str = "hello", seed: int = 0) -> Completion:
    return Completion(({"role": "user", "content": text},), sampling=Sampling(0.5, 0.9, 16), seed=seed, purpose="p")


def play(server, served, requests, ledger, **options):
    model = Model(name="m", url=server, served_name=served, revision="r1", **options)

    def story(one):
        async def run(ask):
            return (await ask(("m", one)))[0]

        return run

    with open_pool([model], ledger=ledger) as pool:
        return pool.run([story(r) for r in requests]), pool.usage()["total"], pool.models["m"].caller


@pytest.mark.parametrize("fault", FAULTS)
def test_what_may_pass_is_tried_again(server, stats, tmp_path, fault):
    count, times = 3, int(fault[-1])
    requests = [request(seed=i) for i in range(count)]
    replies, _, caller = play(server, fault, requests, tmp_path)
    assert [r.text for r in replies] == [r.text for r in play(server, "plain", requests, tmp_path)[0]]
    assert caller.retried == times * count
    assert caller.calls == sum(n for n in stats()["requests"].values()) - count == (times + 1) * count


def test_a_byte_now_and_then_is_no_answer(server, tmp_path):
    replies, _, caller = play(server, "lorisx1", [request()], tmp_path, timeout_s=0.5)
    assert replies == play(server, "plain", [request()], tmp_path)[0]
    assert caller.retried >= 1


def test_a_huge_answer_is_not_read_to_the_end_and_counts_as_cut(server, tmp_path, monkeypatch):
    sizes = []
    read = wire.Wire._read

    async def note(self, response):
        try:
            answer = await read(self, response)
        finally:
            sizes.append(response.content.total_bytes)
        return answer

    monkeypatch.setattr(wire.Wire, "_read", note)
    monkeypatch.setattr(wire, "_LARGEST", 100_000)
    replies, usage, caller = play(server, "hugex1", [request()], tmp_path)
    assert max(sizes) < 2_000_000
    assert (replies[0].text, replies[0].finish) == ("", "length")
    assert usage["truncated"] == caller.calls == 1


def test_control_characters_reach_the_parser_and_the_ledger_as_they_are(server, tmp_path):
    for computed in (1, 0):
        replies, usage, _ = play(server, "control", [request()], tmp_path)
        assert replies[0].text == "a\x00\x1b\x07b"
        assert usage["computed"] == computed


@pytest.mark.parametrize("served", ["poison", "broken"])
def test_a_request_that_fails_among_others_costs_its_own_answer_alone(server, stats, tmp_path, caplog, served):
    requests = [request("poison" if i % 25 == 0 else "fine", seed=i) for i in range(100)]
    replies, usage, _ = play(server, served, requests, tmp_path, retries=2, max_concurrency=8)
    assert [i for i, r in enumerate(replies) if r.finish == "failed"] == [0, 25, 50, 75]
    assert usage["failed"] == 4
    assert all(r.text for i, r in enumerate(replies) if i % 25)
    assert len([r for r in caplog.records if "counts as missing" in r.message]) == 1
    received = sum(stats()["requests"].values())
    again, usage, caller = play(server, served, requests, tmp_path)
    assert again == replies
    assert usage["computed"] == caller.calls == 0
    assert sum(stats()["requests"].values()) == received


def test_what_failed_is_asked_again_once_it_is_dropped_from_the_ledger(server, tmp_path):
    """For a rerun it is an answer like any other, until `gra-train ledger vacuum --failed`."""
    requests = [request("poison" if i == 5 else "fine", seed=i) for i in range(10)]
    play(server, "poison", requests, tmp_path)
    assert vacuum(tmp_path, failed=True).failed == 1
    replies, usage, _ = play(server, "poison", requests, tmp_path)
    assert usage["computed"] == 1
    assert [i for i, r in enumerate(replies) if r.failed] == [5]


def test_or_ends_the_run_where_that_is_asked_for(server, tmp_path):
    requests = [request("poison" if i == 5 else "fine", seed=i) for i in range(10)]
    with pytest.raises(ModelError, match="status 400"):
        play(server, "poison", requests, tmp_path, on_failed_call="stop")


def test_a_server_that_refuses_everything_ends_the_run(server, stats, tmp_path):
    with pytest.raises(ModelError, match=f"'m' at {server}/chat/completions: status 400"):
        play(server, "400", [request(seed=i) for i in range(200)], tmp_path, max_concurrency=16)
    assert sum(stats()["requests"].values()) <= 64


@pytest.mark.parametrize(
    ("fault", "cause"), [("500x99", "status 500"), ("429x99", "status 429"), ("resetx99", "onnect")]
)
def test_a_server_that_answers_nothing_ends_the_run_in_time(server, tmp_path, fault, cause):
    with pytest.raises(ModelError, match=f"'m': none of its endpoints has answered for 0.3 s .{server}: .*{cause}"):
        play(server, fault, [request(seed=i) for i in range(3)], tmp_path, give_up_s=0.3)


def test_a_silent_server_ends_the_run_in_time(server, tmp_path):
    requests = [request(seed=i) for i in range(8)]
    with pytest.raises(ModelError, match=r"no answer within 0\.1 s"):
        play(server, "slow", requests, tmp_path, timeout_s=0.1, give_up_s=0.3)


def test_a_redirect_is_not_followed(server, stats, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TEST_KEY", "canary-5e1f")
    with pytest.raises(ModelError, match="final address in url="):
        play(server, "redirect", [request()], tmp_path, api_key_env="TEST_KEY")
    assert sum(stats()["requests"].values()) == 1  # it points back here under another name
    assert "canary" not in caplog.text


def test_a_prompt_beyond_the_window_is_an_empty_truncated_answer(server, stats, tmp_path):
    replies, usage, _ = play(server, "window", [request(), request("long")], tmp_path)
    assert replies[0].text  # asked again without max_tokens: the window is the limit
    assert (replies[1].text, replies[1].finish) == ("", "length")
    assert usage["truncated"] == 1
    assert sum(stats()["requests"].values()) == 4
