"""Servers that refuse, stall, tear, babble or lie: the run goes on to the data of an undisturbed one."""

from __future__ import annotations

import io
import json
import os

import pytest

from . import server as play

pytestmark = pytest.mark.faults
TRANSIENT = {
    "500": [0.1, 1], "reset": [0.1, 2], "silent": [0.01, 1], "torn": [0.1, 1], "garbage": [0.1, 1], "html": [0.05, 1],
    "nothing": [0.05, 1], "shape": [0.05, 1], "429": [0.1, 2],
}  # fmt: skip
CANARY = "canary-7f3a9c51e2b84d06"


@pytest.mark.slow
def test_every_way_to_fail_now_and_then(server, client, calm):
    """Two thirds of all requests fail at first, each in its way; each is answered once in the end."""
    server.control(faults=TRANSIENT, latency=0.005)
    run = client(server.url, timeout_s=6)
    run.complete()
    stats = server.stats()
    assert run.results() == calm["results"]
    assert stats["refused"] > 0.4 * calm["calls"]
    assert stats["again"] == 0


@pytest.mark.slow
def test_a_storm_of_429(server, client, calm):
    server.control(storm={"status": 429, "seconds": 3.0, "retry_after": 0.3})
    run = client(server.url)
    run.complete()
    stats = server.stats()
    assert run.results() == calm["results"]
    assert stats["refused"] >= 10
    assert stats["refused"] < 600, "Retry-After is not honoured"
    assert stats["again"] == 0


def test_what_the_undisturbed_run_had_to_read(calm):
    """The calm run is not so calm: among its answers were these, and no reviewer's verdict was dictated."""
    import pyarrow.parquet as pq

    fates = {"none": 0, "cut": 0, "empty": 0, "hostile": 0, "huge": 0, "dictated": 0}
    for line in calm["log"].split(b"\n"):
        body = json.loads(line)
        if not isinstance(body, dict):
            continue
        text, finish = play.written(body["messages"], body["seed"])
        fates["none"] += text.startswith("I am sorry")
        fates["cut"] += finish == "length"
        fates["empty"] += not text
        fates["hostile"] += any(hostile in text for hostile in play.HOSTILE)
        fates["huge"] += len(text) > 10_000_000
        fates["dictated"] += text.startswith("As it says: <scores>")
    print(fates)
    assert all(fates.values()), fates
    table = pq.read_table(io.BytesIO(calm["results"]["synthesize/candidates.parquet"])).to_pylist()
    dictating = [row for row in table if "Flawless." in row["instruction"] + row["response"]]
    assert any(row["reviews"] for row in dictating), "no dictating text came as far as a review"
    for row in table:
        assert "Flawless." not in json.dumps(row["reviews"]), "a reviewer's verdict was dictated by what it reviewed"
    rows = [json.loads(line) for line in calm["results"]["synthesize/data.jsonl"].splitlines()]
    assert len(rows) == 12
    assert max(len(row["response"]) for row in rows) < 100_000


@pytest.mark.slow
def test_no_file_holds_the_key(tmp_path, server, client):
    """Not of a run that meets faults, nor of one that is refused with the key quoted; nor of W&B, offline."""
    server.control(key=CANARY, faults={"500": [0.2, 1], "torn": [0.1, 1]})
    run = client(server.url, "tracking=offline", api_key_env="GRA_TEST_KEY", timeout_s=20)
    run.environment = {"GRA_TEST_KEY": CANARY, "WANDB_MODE": "offline"}
    said = run.complete()
    server.control(key="another", faults={})
    refused = client(server.url, "tracking=offline", name="refused", api_key_env="GRA_TEST_KEY")
    refused.environment = run.environment
    refused.start()
    code, complaint = refused.end()
    assert code != 0
    assert "GRA_TEST_KEY" in complaint
    assert CANARY not in said + complaint
    shown = client(server.url, name="shown", api_key_env="GRA_TEST_KEY")
    shown.environment, page = run.environment, tmp_path / "page.html"
    server.control(key=CANARY, says_key=True)
    shown.words = ["preview", "n=1", "annotate=2", "--html", str(page), *shown.words[1:]]
    told = shown.complete()
    assert "Bearer ***" in told  # this server sends it back in every answer
    assert "Bearer ***" in page.read_text()
    assert CANARY not in told + page.read_text()
    searched = set()
    for folder in (run.runs, refused.runs, shown.runs):
        for file in folder.glob("**/*"):
            if file.is_file():
                content = file.read_bytes()
                if file.suffix == ".parquet":
                    import pyarrow.parquet as pq

                    content += str(pq.read_table(file).to_pylist()).encode()
                assert CANARY.encode() not in content, file
                searched.add(file.suffix)
    assert {".seg", ".txt", ".json", ".yaml", ".parquet", ".jsonl", ".wandb"} <= searched, searched
    assert os.environ.get("GRA_TEST_KEY") is None
