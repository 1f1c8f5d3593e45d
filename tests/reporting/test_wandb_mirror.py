"""The W&B mirror, offline and for real: what was written is read back from the .wandb file."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gra_train.experiment import Node
from gra_train.reporting import wandb_mirror
from gra_train.reporting.page import write_page
from gra_train.reporting.stages import compare
from gra_train.reporting.wandb_mirror import logged_in, mode, open_mirror
from gra_train.runs import log_metrics
from gra_train.schema import Config, Model, Pool, Tracking
from gra_train.settings import change
from gra_train.stages import CompareStage, EvaluateStage


def records(folder: Path) -> Iterator[Any]:
    """Records of every offline run below `folder`: a LevelDB log of protocol buffers, blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    for file in sorted(folder.rglob("*.wandb")):
        content, at, whole = file.read_bytes(), 7, b""
        while at + 7 <= len(content):
            left = 32768 - at % 32768
            if left < 7:
                at += left
                continue
            _, length, kind = struct.unpack("<IHB", content[at : at + 7])
            whole += content[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):  # whole, or the last part
                record = Record()
                record.ParseFromString(whole)
                yield record
                whole = b""


def history(folder: Path) -> list[dict[str, Any]]:
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records(folder)
        if record.WhichOneof("record_type") == "history"
    ]


class Experiment:
    """A folder of runs as the launcher leaves it: one evaluation with metrics, one finished comparison."""

    def __init__(self, root: Path, stage: CompareStage, inputs: dict[str, Path]) -> None:
        secret = Model(name="far", url="http://far.example/v1", api_key_env="FAR_KEY")
        tracking = Tracking(wandb="offline", project="tests")
        self.config = Config(name="e", runs_dir=str(root), tracking=tracking, pool=Pool(models=[secret]))
        unused: Any = None
        evaluation = EvaluateStage(0, Model(), unused, "mini", "cpu")
        self.nodes = [
            Node("evaluate", "gra", evaluation),
            Node("synthesize", "gra", evaluation),
            Node("compare", "e", stage),
        ]
        self.folder = root / "e-s0"
        for node in self.nodes:
            (root / node.run_id / "result").mkdir(parents=True)
        self.folder.mkdir()
        self.outs = [root / node.run_id / "result" for node in self.nodes]
        (self.outs[1] / "data.jsonl").write_text('{"id": "1"}\n')
        compare(stage, inputs, self.outs[2])
        for file in self.outs[2].iterdir():
            (self.folder / file.name).write_bytes(file.read_bytes())
        write_page(self.folder, self.nodes[2], root)
        self.said: list[str] = []

    def mirror(self) -> None:
        open_mirror(self.config, self.folder, self.nodes, note=self.said.append).close()
        for _ in range(100):  # W&B's own process closes its file a moment later
            ended = sum(record.WhichOneof("record_type") == "exit" for record in records(self.folder))
            if self.said or ended == len(list(self.folder.rglob("*.wandb"))):
                return
            time.sleep(0.05)


@pytest.fixture
def made(experiment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setenv("FAR_KEY", "a-very-secret-value")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Experiment(tmp_path / "runs", *experiment())


def test_everything_is_mirrored_once_and_under_one_id(made: Experiment, capfd: pytest.CaptureFixture[str]) -> None:
    log_metrics(made.outs[0], {"step": 1, "loss": 2.5})
    log_metrics(made.outs[0], {"step": 2, "loss": 1.5})
    made.mirror()
    assert made.said == []
    found = history(made.folder)
    assert [row["evaluate/gra/loss"] for row in found if "evaluate/gra/loss" in row] == [2.5, 1.5]
    logged = {key.split("/")[0] for row in found for key in row}
    assert {"comparison", "benchmarks", "page"} <= logged
    assert {"accuracy_table", "difference_table"} <= logged, "what the bar charts are drawn from"
    shown = [file.read_text() for file in made.folder.rglob("media/html/*.html")]
    assert shown == [(made.folder / "page.html").read_text()]
    artifacts = {r.artifact.name: r.artifact for r in records(made.folder) if r.WhichOneof("record_type") == "artifact"}
    sent = {entry.path for entry in artifacts["e-comparison"].manifest.contents}
    assert {"page.html", "cost.json", "table.json", "table.csv", "table.tex", "table.md", "table.parquet"} <= sent
    assert "e-gra" in artifacts
    identity = json.loads((made.folder / "wandb.json").read_text())["id"]

    made.mirror()  # nothing is new
    assert len(history(made.folder)) == len(found)
    log_metrics(made.outs[0], {"step": 3, "loss": 0.5})
    made.mirror()
    assert [row["evaluate/gra/loss"] for row in history(made.folder) if "evaluate/gra/loss" in row] == [2.5, 1.5, 0.5]
    runs = [record.run for record in records(made.folder) if record.WhichOneof("record_type") == "run"]
    assert {run.run_id for run in runs} == {identity}
    assert capfd.readouterr().out == "", "the console is the launcher's"

    configuration = {item.key: item.value_json for item in runs[0].config.update}
    assert "FAR_KEY" in configuration["pool"]
    assert not any(b"a-very-secret-value" in file.read_bytes() for file in made.folder.rglob("*") if file.is_file())
    summary = [
        item for r in records(made.folder) if r.WhichOneof("record_type") == "summary" for item in r.summary.update
    ]
    assert any("score/gra" in (item.key, "/".join(item.nested_key)) for item in summary)


def test_a_failing_wandb_is_said_once_and_ends_nothing(made: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    def broken(**_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(wandb, "init", broken)
    log_metrics(made.outs[0], {"loss": 1.0})
    made.mirror()
    assert made.said == ["W&B failed, the experiment goes on without it: OSError: no space left"]


def test_a_hanging_wandb_is_left_behind(made: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    import wandb

    monkeypatch.setattr(wandb, "init", lambda **_: threading.Event().wait(20))
    monkeypatch.setattr(wandb_mirror, "GIVE_UP_S", 0.2)
    log_metrics(made.outs[0], {"loss": 1.0})
    made.mirror()
    assert made.said == ["W&B did not answer within 0 s; metrics are in the run folders"]


def test_a_half_written_line_waits(made: Experiment) -> None:
    made.config = change(made.config, tracking=change(made.config.tracking, wandb="offline"))
    file = made.outs[0].parent / "metrics.jsonl"
    file.write_text('{"loss": 1.0}\n{"lo')
    made.mirror()
    assert made.said == []
    file.write_text('{"loss": 1.0}\n{"loss": 0.5}\n')
    made.mirror()
    assert [row["evaluate/gra/loss"] for row in history(made.folder) if "evaluate/gra/loss" in row] == [1.0, 0.5]


def test_mode(tmp_path: Path) -> None:
    nothing = {"NETRC": str(tmp_path / "none")}
    assert mode("auto", nothing) == "offline"
    assert mode("offline", {"WANDB_API_KEY": "x"}) == "offline"
    assert mode("auto", {"WANDB_API_KEY": "x"}) == "online"
    assert mode("auto", {"WANDB_API_KEY": "x", "WANDB_MODE": "offline"}) == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai\n  login user\n  password x\n")
    assert logged_in({"NETRC": str(tmp_path / "netrc")})
    assert not logged_in({"NETRC": str(tmp_path / "netrc"), "WANDB_BASE_URL": "https://wandb.example.org"})


def test_samples_of_a_training_are_a_table_and_sent_once(made: Experiment) -> None:
    lines = [{"step": s, "prompt": "2 + 2 ?", "answer": str(s), "wanted": "4"} for s in (1, 2)]
    (made.outs[0].parent / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made.mirror()
    made.mirror()
    sent = [value for row in history(made.folder) for key, value in row.items() if key.endswith("gra/samples/nrows")]
    assert sent == [2]
