"""Rounds made in shards, each a process of its own, then curated: the result of one process, and no call twice."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.faults
BLOCKS = ["synthesis.block=4", "synthesis.wave=8", "synthesis.max_candidates=24", "synthesis.target=6", "seed=2"]
SHARDS = 3


def segments(client):
    return {file.name for file in (client.runs / "ledger").glob("*.seg")}


@pytest.mark.slow
def test_shards_then_curation_make_the_same_and_ask_nothing_twice(server, client):
    whole = client(server.url, *BLOCKS, name="whole")
    whole.complete()
    server.control()
    seeds = client(server.url, *BLOCKS, "synthesis.stop_after=0", name="sharded")
    assert "0 of 2 rounds are curated" in seeds.complete()
    wanted = whole.results()
    for round in (1, 2):
        before = segments(seeds)
        words = [*BLOCKS, "synthesis.margin=3"]
        shards = [client(server.url, *words, f"synthesis.shard={i}/{SHARDS}", name="sharded") for i in (1, 2, 3)]
        for one in shards:
            one.start()
        ends = [one.end() for one in shards]
        assert [code for code, _ in ends] == [0] * SHARDS, ends
        assert len(segments(seeds) - before) == SHARDS, "each shard wrote into a segment of its own"
        asked = server.stats()["received"]
        last = [f"synthesis.stop_after={round}"] if round == 1 else []
        said = client(server.url, *BLOCKS, "synthesis.lookahead=0", *last, name="sharded").complete()
        assert "0 made" in said or "1 of 2 rounds are curated" in said
        assert server.stats()["received"] == asked, "curation found every answer in the ledger"
    made = [json.loads(file.read_text()) for file in seeds.runs.glob("shard-*/result/shard.json")]
    assert sorted(one["round"] for one in made) == [0, 0, 0, 1, 1, 1]
    assert {k: v for k, v in seeds.results().items() if not k.startswith("shard/")} == wanted
    stats = server.stats()
    assert stats["received"] == stats["requests"], "no two shards asked for the same"
    again = client(server.url, *BLOCKS, "synthesis.shard=1/3", name="sharded")
    again.complete()
    assert server.stats()["received"] == stats["received"], "nothing is left to make"


def test_a_lost_shard_costs_calls_and_nothing_else(server, client):
    server.control(latency=0)
    whole = client(server.url, *BLOCKS, "synthesis.rounds=1", name="whole")
    whole.complete()
    client(server.url, *BLOCKS, "synthesis.rounds=1", "synthesis.shard=2/2", name="sharded").complete()
    rest = client(server.url, *BLOCKS, "synthesis.rounds=1", name="sharded")
    rest.complete()
    assert {k: v for k, v in rest.results().items() if not k.startswith("shard/")} == whole.results()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["synthesis.shard=0/4"], "expected i/n"),
        (["synthesis.shard=two"], "expected i/n"),
        (["synthesis.shard=1/2", "synthesis.roles=adaptive"], "cannot be sharded"),
    ],
)
def test_what_is_no_shard_is_refused(client, words, said):
    one = client("http://127.0.0.1:1/v1", *words)
    one.start()
    code, output = one.end()
    assert (code, said in output) == (2, True), output
