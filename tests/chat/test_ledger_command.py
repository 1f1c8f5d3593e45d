"""`gra-train ledger`, through the command line."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from gra_train.chat.ledger import Ledger, encode, key_of
from gra_train.chat.ledger_vacuum import vacuum
from gra_train.chat.protocol import Reply, TokenLogProbs


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gra_train.cli", "ledger", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "ledger"
    with Ledger(folder) as ledger:
        for i in range(10):
            reply = Reply(f"tëxt {i}\x00", "length" if i < 3 else "stop", 100, 7)
            ledger.put(key_of(i), encode(reply), kind="completion", model="llama", purpose="generator/response",
                       latency_ms=1200 + i)  # fmt: skip
        scored = [encode(TokenLogProbs((-0.5, float("-inf")), ("a", "b"))), encode(Reply("yes", "stop", 3, 1))]
        purposes = ["reviewer/response", "generator/instruction"]
        ledger.put(key_of("batch"), scored, kind="batch", model="tiny", purpose=purposes)
        ledger.put(key_of("plan"), [[0, 1]], kind="plan", model="tiny")
    with Ledger(tmp_path / "twin") as twin:  # the same key, later: a repetition
        twin.put(key_of(0), encode(Reply("later")), kind="completion", model="llama", purpose="generator/response")
    (twin,) = (tmp_path / "twin").glob("*.seg")
    twin.rename(folder / twin.name)
    return folder


def test_stats(folder):
    (folder / "0-old.seg").write_bytes(b"gra-train ledger 1\nwhatever it was")
    done = run("stats", folder)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    llama = next(row for row in rows if row[0] == "llama")
    assert llama[1:9] == ["generator/response", "completion", "10", "1,000", "70", "0", "3", "0"]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert llama[-1] in (today, time.strftime("%Y-%m-%d", time.gmtime(time.time() - 60)))
    assert ["tiny", "reviewer/response", "batch", "1", "0", "0", "2", "0"] in [row[:8] for row in rows]
    assert ["tiny", "generator/instruction", "batch", "1", "3", "1", "0", "0"] in [row[:8] for row in rows]
    assert "12 keys in 2 segments" in done.stdout
    assert "1 records are repetitions" in done.stdout
    assert "0-old.seg: written by another version" in done.stdout


def test_export(folder, tmp_path):
    import pyarrow.parquet as pq

    done = run("export", folder, "--out", tmp_path / "all.parquet")
    assert done.returncode == 0, done.stderr
    assert "12 answers" in done.stdout
    rows = {row["key"]: row for row in pq.read_table(tmp_path / "all.parquet").to_pylist()}
    assert len(rows) == 12
    with Ledger(folder) as ledger:
        for i in range(10):
            row, answer = rows[key_of(i).hex()], ledger.answer(key_of(i).hex())
            assert Reply(row["text"], row["finish"], row["prompt_tokens"], row["completion_tokens"]) == answer
            assert (row["model"], row["latency_ms"]) == ("llama", 1200 + i)
        scored = rows[key_of("batch").hex() + "/0"]
        assert TokenLogProbs(tuple(scored["logprobs"]), tuple(scored["tokens"])) == ledger.answer(scored["key"])
        assert scored["purpose"] == "reviewer/response"
    assert rows[key_of("batch").hex() + "/1"]["text"] == "yes"
    assert not list(tmp_path.glob("*.tmp"))


def test_export_in_several_row_groups(folder, tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    from gra_train.chat import ledger_reading

    monkeypatch.setattr(ledger_reading, "_ROWS", 4)
    assert ledger_reading.export(folder, tmp_path / "all.parquet") == 12
    file = pq.ParquetFile(tmp_path / "all.parquet")
    assert file.num_row_groups >= 3
    assert file.metadata.num_rows == 12


def test_show(folder):
    done = run("show", key_of(4).hex(), folder)
    assert done.returncode == 0, done.stderr
    assert '"purpose": "generator/response"' in done.stdout
    assert "tëxt 4" in done.stdout
    done = run("show", key_of("batch").hex() + "/1", folder)
    assert '"purpose": "generator/instruction"' in done.stdout
    assert '"yes"' in done.stdout


def test_vacuum(folder):
    done = run("vacuum", folder, "--dry-run")
    assert "2 segments would be merged into 1; 1 repeated records" in done.stdout
    assert len(list(folder.glob("*.seg"))) == 2
    done = run("vacuum", folder)
    assert done.returncode == 0, done.stderr
    assert len(list(folder.glob("*.seg"))) == 1
    with Ledger(folder) as ledger:
        assert ledger.answer(key_of(0).hex()).text == "tëxt 0\x00"
        assert len(ledger) == 12


def test_vacuum_drops_what_was_not_answered_where_that_is_asked_for(folder, tmp_path):
    origin = {"kind": "completion", "model": "llama", "purpose": "generator/response"}
    failed, vain = encode(Reply("", "failed")), encode(TokenLogProbs((), failed=True))
    with Ledger(folder) as ledger:
        ledger.put(key_of("a"), failed, **origin)
        ledger.put(key_of("b"), vain, **origin | {"kind": "likelihood"})
        ledger.put(key_of("c"), failed, **origin)
        ledger.put(key_of("failed"), encode(Reply("failed", "stop")), **origin)
    with Ledger(tmp_path / "later") as later:  # another process asked the same, and was answered
        later.put(key_of("c"), encode(Reply("an answer")), **origin)
    (later,) = (tmp_path / "later").glob("*.seg")
    later.rename(folder / later.name)
    stats = [line.split() for line in run("stats", folder).stdout.splitlines()]
    assert ["llama", "generator/response", "likelihood", "1", "0", "0", "0", "0", "1"] in [row[:9] for row in stats]
    assert vacuum(folder).failed == 0
    with Ledger(folder) as ledger:
        assert ledger.answer(key_of("a").hex()).failed
    with Ledger(tmp_path / "later2") as later:
        later.put(key_of("c"), encode(Reply("an answer")), **origin)
    (later,) = (tmp_path / "later2").glob("*.seg")
    later.rename(folder / later.name)
    done = run("vacuum", folder, "--failed", "--dry-run")
    assert "3 calls without an answer would be dropped" in done.stdout
    done = run("vacuum", folder, "--failed")
    assert done.returncode == 0, done.stderr
    assert "3 calls without an answer dropped" in done.stdout
    with Ledger(folder) as ledger:
        assert key_of("a") not in ledger
        assert key_of("b") not in ledger
        assert ledger.answer(key_of("c").hex()).text == "an answer"
        assert ledger.answer(key_of("failed").hex()).text == "failed"
        assert len(ledger) == 14
    assert vacuum(folder, failed=True).merged == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["the following arguments are required: action", "usage"]),
        (["stat"], ["invalid choice: 'stat'", "stats"]),
        (["stats", "/no/such/folder"], ["there is no ledger in '/no/such/folder'", "RUNS_DIR/ledger"]),
        (["export", "LEDGER"], ["--out"]),
        (["export", "LEDGER", "--out", "/no/such/folder/all.parquet"], ["cannot be written"]),
        (["show", "xyz", "LEDGER"], ["'xyz'", "32 hex digits"]),
        (["show", "00" * 16, "LEDGER"], ["is not in"]),
        (["show", key_of("batch").hex() + "/7", "LEDGER"], ["without a row 7"]),
        (["vacuum", "LEDGER", "--force"], ["unrecognized arguments: --force"]),
    ],
)
def test_wrong_words_are_refused(folder, words, expected):
    began = time.monotonic()
    done = run(*(folder if word == "LEDGER" else word for word in words))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for text in expected:
        assert text in done.stderr
    assert time.monotonic() - began < 20  # CPU of others; alone it is well under a second
