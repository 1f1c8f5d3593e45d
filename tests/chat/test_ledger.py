"""The ledger: keys, torn writes, several writers, kills, full disks."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gra_train.chat import ledger as module
from gra_train.chat.ledger import Ledger, batch_key, decode, encode, key_of, request_key
from gra_train.chat.protocol import Completion, Likelihood, Reply, Sampling, TokenLogProbs
from gra_train.errors import UserError

WRITER = """
import sys
from pathlib import Path
from gra_train.chat.ledger import Ledger, key_of
with Ledger(Path(sys.argv[1])) as ledger:
    for i in range(int(sys.argv[3])):
        ledger.put(key_of([sys.argv[2], i]), [sys.argv[2], i, "x" * (i % 50)])
        print(i, flush=True)  # said only after it was recorded
"""


def writer(folder: Path, name: str, count: int) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WRITER, folder, name, str(count)], stdout=subprocess.PIPE, text=True)


def base(**changes) -> Completion:
    values = {"messages": ({"role": "user", "content": "q"},), "sampling": Sampling(), "seed": 1, "purpose": "p"}
    return Completion(**{**values, **changes})


def test_keys_hold_everything_that_determines_the_answer():
    variants = [
        base(),
        base(messages=({"role": "system", "content": "q"},)),
        base(sampling=Sampling(temperature=0.3)),
        base(sampling=Sampling(stop=("a",))),
        base(sampling=Sampling(max_tokens=9)),
        base(seed=2),
        base(regex="a"),
        base(attempt=1),
        Likelihood(base().messages, "c"),
        Likelihood(base().messages, "d"),
    ]
    keys = [request_key(f, v) for v in variants for f in ("weights", "others")]
    assert len(set(keys)) == len(keys)
    assert request_key("f", base(purpose="other")) == request_key("f", base())
    assert batch_key("batch", keys[:2]) != batch_key("batch", keys[1::-1])
    assert batch_key("plan", keys[:2], 5) != batch_key("plan", keys[:2], 6)


def test_answers_survive_exactly():
    answers = [
        Reply("tëxt \x00 \u2028", "length", 3, 4),
        Reply(""),
        TokenLogProbs((-0.1, -1e-17, float("-inf"), -1.2345678901234567), ("a", "b", "c", "�")),
        TokenLogProbs(()),
    ]
    import orjson

    for answer in answers:
        assert decode(orjson.loads(orjson.dumps(encode(answer)))) == answer


def test_reopened_and_first_answer_stays(tmp_path):
    with Ledger(tmp_path) as one, Ledger(tmp_path) as other:
        one.put(b"k" * 16, "first")
        one.put(b"k" * 16, "again")
        other.put(b"k" * 16, "second")  # does not know of the first
        other.put(b"l" * 16, {"more": [1, 2.5]})
        assert one.get(b"k" * 16) == "first"
        assert other.get(b"k" * 16) == "second"
        assert one.get(b"l" * 16) is None
    for _ in range(2):
        with Ledger(tmp_path) as both:
            assert both.get(b"k" * 16) == "first"
            assert both.get(b"l" * 16) == {"more": [1, 2.5]}
            assert len(both) == 2
    assert len(list(tmp_path.iterdir())) == 2  # readers leave no file


def test_a_tail_cut_anywhere_loses_only_itself(tmp_path):
    with Ledger(tmp_path / "l") as ledger:
        sizes = []
        for i in range(5):
            ledger.put(key_of(i), "value" * i)
            sizes.append(next((tmp_path / "l").iterdir()).stat().st_size)
    segment = next((tmp_path / "l").iterdir())
    whole = segment.read_bytes()
    for cut in range(0, len(whole), 3):
        for tail in (b"", b"\0" * 40, b"\xff" * 40):
            segment.write_bytes(whole[:cut] + tail)
            with Ledger(tmp_path / "l") as ledger:
                assert len(ledger) == sum(size <= cut for size in sizes)
    damaged = bytearray(whole)
    damaged[sizes[2] + 30] ^= 1
    segment.write_bytes(damaged)
    with Ledger(tmp_path / "l") as ledger:
        assert [ledger.get(key_of(i)) is not None for i in range(5)] == [True, True, True, False, True]
        ledger.put(key_of(3), "new")  # into a segment of its own
    assert segment.read_bytes() == bytes(damaged)
    with Ledger(tmp_path / "l") as ledger:
        assert ledger.get(key_of(3)) == "new"


def test_what_another_process_writes_is_found_without_opening_again(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_S", 0.0)
    monkeypatch.setattr(module, "_LOOK_SHARE", 1e9)
    with Ledger(tmp_path) as ours, Ledger(tmp_path) as theirs:
        first, second = key_of("first"), key_of("second")
        assert ours.get(first) is None
        theirs.put(first, [1])
        assert ours.get(first) == [1]
        theirs.put(second, [2])
        ours.put(key_of("own"), [0])
        assert ours.get(second) == [2]
        assert ours.get(key_of("nobody's")) is None


def test_foreign_files_are_left_alone(tmp_path, caplog):
    (tmp_path / "x.seg").write_bytes(b"not ours at all, really not")
    with Ledger(tmp_path) as ledger:
        assert len(ledger) == 0
    assert "left alone" in caplog.text


def test_several_processes_write_at_once(tmp_path):
    processes = [writer(tmp_path, name, 300) for name in "abc"]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    with Ledger(tmp_path) as ledger:
        assert len(ledger) == 900
        assert ledger.get(key_of(["b", 299])) == ["b", 299, "x" * 49]


def test_a_killed_process_loses_nothing_it_had_used(tmp_path):
    rng = random.Random(11)
    for round_ in range(3):
        process = writer(tmp_path, f"r{round_}", 10**6)
        assert process.stdout
        said = int(process.stdout.readline())
        time.sleep(delay := rng.uniform(0.05, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        said = max([said, *(int(line) for line in process.stdout.read().split("\n")[:-1])])
        process.wait()
        print(f"seed 11, round {round_}: killed after {delay:.3f} s at {said + 1} records")
        with Ledger(tmp_path) as ledger:
            assert all(ledger.get(key_of([f"r{round_}", i])) is not None for i in range(said + 1))


def test_a_full_disk_is_said_and_nothing_is_harmed(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"no small disk can be mounted here: {mount.stderr.strip()}")
    try:
        ledger = Ledger(disk / "l")
        written = 0
        while shutil.disk_usage(disk).free > 1500:
            ledger.put(key_of(written), "y" * 700)
            written += 1
        assert written > 20
        with pytest.raises(UserError, match=r"No space left.*make room"):
            ledger.put(key_of("more"), "y" * 4500)
        with pytest.raises(UserError, match="No space left"):
            ledger.put(key_of("big"), "y" * 70000)
        ledger.put(key_of("small"), "z")  # the half-written frames are gone: this one fits and is whole
        with Ledger(disk / "l") as reader:
            assert len(reader) == written + 1
            assert reader.get(key_of(written - 1)) == "y" * 700
        ledger.close()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_failed_write_is_undone(tmp_path, monkeypatch):
    """As on a full disk, where none can be mounted: half a frame is written, then ENOSPC."""
    ledger = Ledger(tmp_path)
    ledger.put(key_of(0), "zero")
    real = os.write
    with monkeypatch.context() as patch:
        calls = iter(range(9))

        def write(file, data):
            if next(calls) == 0:
                return real(file, bytes(data)[: len(data) // 2])
            raise OSError(28, "No space left on device")

        patch.setattr(module.os, "write", write)
        with pytest.raises(UserError, match="No space left"):
            ledger.put(key_of(1), "one")
    ledger.put(key_of(2), "two")
    ledger.close()
    with Ledger(tmp_path) as again:
        assert [again.get(key_of(i)) for i in range(3)] == ["zero", None, "two"]


def test_a_segment_that_changes_under_us_counts_as_missing_and_is_written_anew(tmp_path, caplog):
    with Ledger(tmp_path) as ledger:
        ledger.put(key_of(1), "one")
    with Ledger(tmp_path) as ledger:
        os.truncate(next(tmp_path.iterdir()), 25)
        assert ledger.get(key_of(1)) is None
        assert "has changed on disk" in caplog.text
        ledger.put(key_of(1), "one")
    with Ledger(tmp_path) as ledger:
        assert ledger.get(key_of(1)) == "one"


def test_an_unusable_folder_is_the_users_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be used"):
        Ledger(tmp_path / "file" / "ledger")


def test_it_is_synced_in_the_background_and_at_close(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(module, "_SYNC_S", 0.05)
    monkeypatch.setattr(module.os, "fsync", lambda file: synced.append(file))
    ledger = Ledger(tmp_path)
    ledger.put(key_of(1), 1)
    deadline = time.monotonic() + 5
    while not synced and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(synced) == 1
    ledger.put(key_of(2), 2)
    ledger.close()
    assert len(synced) >= 2
    ledger.close()
