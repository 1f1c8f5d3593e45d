"""W&B: one run per experiment, a mirror of what the run folders say. metrics.jsonl in each run folder is the truth.

The launcher opens the mirror; a thread follows the stages' metrics.jsonl, so that a slow or failing W&B never holds an
experiment up: it is said once, and the experiment goes on. W&B itself is opened at the first new line. Its run id and
how far each file was mirrored are kept in wandb.json in the experiment's folder, so that running again goes on in the
same W&B run and mirrors nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from gra_train.experiment import Node
from gra_train.reporting.page import NAME as PAGE
from gra_train.reporting.table import AVERAGE, RECORD, flat
from gra_train.reporting.table import records as per_task
from gra_train.runs import read_json, write_json
from gra_train.schema import Config
from gra_train.settings import plain

log = logging.getLogger(__name__)
REPORT = (PAGE, "table.json", "table.md", "table.csv", "table.tex", "table.parquet", "answers.parquet", "cost.json")
POLL_S = 1.0
GIVE_UP_S = 60.0
"""Longest wait, at the end, for what is still to be sent."""


def open_mirror(
    config: Config, folder: Path, nodes: Sequence[Node], *, note: Callable[[str], None] = log.warning
) -> Mirror:
    """Start mirroring the experiment in `folder`; `close()` the result at its end. Never raises for W&B's sake."""
    return Mirror(config, folder, nodes, note)


def mode(wanted: str, environ: Mapping[str, str] = os.environ) -> str:
    """online, offline or disabled. auto: what WANDB_MODE says, else online for who is logged in, else offline."""
    if wanted != "auto":
        return wanted
    if environ.get("WANDB_MODE"):
        return environ["WANDB_MODE"]
    return "online" if logged_in(environ) else "offline"


def logged_in(environ: Mapping[str, str]) -> bool:
    """Whether a key for the W&B server is at hand (in the environment or the netrc file); nothing is sent."""
    if environ.get("WANDB_API_KEY") or environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc(environ.get("NETRC") or None).authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False


class Mirror:
    """Follows the metrics of an experiment's stages into one W&B run."""

    def __init__(self, config: Config, folder: Path, nodes: Sequence[Node], note: Callable[[str], None]) -> None:
        self.config, self.folder, self.nodes, self.note = config, folder, nodes, note
        self.runs_dir = Path(config.runs_dir)
        self.state = read_json(folder / "wandb.json") or {"id": secrets.token_hex(4), "lines": {}, "sent": {}}
        self.run: Any = None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._follow, name="wandb-mirror", daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Mirror what is left, the table and the data set, and end the W&B run."""
        self.stop.set()
        self.thread.join(GIVE_UP_S)
        if self.thread.is_alive():
            self.note(f"W&B did not answer within {GIVE_UP_S:.0f} s; metrics are in the run folders")

    def _follow(self) -> None:
        try:
            while not self.stop.wait(POLL_S):
                self._send_metrics()
            self._send_metrics()
            self._send_samples()
            self._send_results()
            if self.run:
                self.run.finish(exit_code=0)
        except Exception as error:
            log.debug("W&B", exc_info=True)
            self.note(f"W&B failed, the experiment goes on without it: {type(error).__name__}: {str(error)[:200]}")

    def _open(self) -> Any:
        if self.run is None:
            import wandb

            self.run = wandb.init(
                project=self.config.tracking.project,
                entity=self.config.tracking.entity or None,
                id=self.state["id"],
                name=self.folder.name,
                group=self.config.name,
                resume="allow",
                dir=str(self.folder),
                mode=mode(self.config.tracking.wandb),  # type: ignore[arg-type]
                config=plain(self.config),
                settings=wandb.Settings(
                    silent=True,
                    console="off",
                    disable_git=True,
                    disable_code=True,
                    x_disable_stats=True,
                    x_disable_machine_info=True,
                    x_save_requirements=False,
                ),
            )
            write_json(self.folder / "wandb.json", self.state)
        return self.run

    def _send_metrics(self) -> None:
        sent = False
        for node in self.nodes:
            try:
                text = (self.runs_dir / node.run_id / "metrics.jsonl").read_text()
            except OSError:
                continue
            lines = text[: text.rfind("\n") + 1].splitlines()  # a last line may be half written
            known = min(self.state["lines"].get(node.run_id, 0), len(lines))
            prefix = f"{node.stage}/{node.label}"
            for number, line in enumerate(lines[known:], known):
                run = self._open()
                if number == known:
                    run.define_metric(f"{prefix}/*", step_metric=f"{prefix}/line")
                values = {f"{prefix}/{key}": value for key, value in json.loads(line).items()}
                run.log({**values, f"{prefix}/line": number})
            sent = sent or len(lines) != self.state["lines"].get(node.run_id, 0)
            self.state["lines"][node.run_id] = len(lines)
        if sent:
            write_json(self.folder / "wandb.json", self.state)

    def _send_samples(self) -> None:
        """What a model said while it was trained, as a table of its stage (sft/NAME/samples)."""
        for node in self.nodes:
            file = self.runs_dir / node.run_id / "samples.jsonl"
            self._once(file, partial(self._send_rows, node=node), name=f"{node.run_id}/{file.name}")

    def _send_rows(self, file: Path, node: Node) -> None:
        import wandb

        text = file.read_text()
        rows = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        columns = ["step", "prompt", "answer", "wanted"]
        table = wandb.Table(columns=columns, data=[[row[c] for c in columns] for row in rows])
        self._open().log({f"{node.stage}/{node.label}/samples": table})

    def _send_results(self) -> None:
        """The comparison as a table and in the summary, and the GRA arm's data as an artifact; each version once."""
        for node in self.nodes:
            if node.stage == "compare":
                self._once(self.runs_dir / node.run_id / "result" / "table.json", self._send_table)
                self._once(self.folder / PAGE, self._send_report)
            if (node.stage, node.label) == ("synthesize", "gra"):
                self._once(self.runs_dir / node.run_id / "result" / "data.jsonl", self._send_data)

    def _once(self, file: Path, send: Callable[[Path], None], name: str = "") -> None:
        if not file.is_file():
            return
        name = name or file.name
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        if self.state["sent"].get(name) != digest:
            send(file)
            self.state["sent"][name] = digest
            write_json(self.folder / "wandb.json", self.state)

    def _send_table(self, file: Path) -> None:
        import wandb

        table = json.loads(file.read_text())
        records = flat(table)
        columns = list(records[0])
        whole = wandb.Table(columns=columns, data=[[r[c] for c in columns] for r in records])
        differences = wandb.Table(columns=list(RECORD), data=[list(r.values()) for r in per_task(table)])
        run = self._open()
        run.log({"comparison": whole, "benchmarks": differences})
        run.log({
            "accuracy": wandb.plot.bar(whole, "label", AVERAGE, title="Average accuracy"),
            "difference": wandb.plot.bar(whole, "label", "difference_value", title=f"Minus {table['baseline']}"),
        })  # fmt: skip
        for record in records:
            run.summary[f"score/{record['label']}"] = record[AVERAGE]
            run.summary[f"minus_{table['baseline']}/{record['label']}"] = record["difference_value"]
        run.summary["reviewers"] = table["reviewers"]

    def _send_report(self, file: Path) -> None:
        """Everything that the comparison wrote, with its page, as one artifact; the page also as a panel."""
        import wandb

        artifact = wandb.Artifact(f"{self.config.name}-comparison", type="comparison")
        for name in REPORT:
            if (self.folder / name).is_file():
                artifact.add_file(str(self.folder / name), name=name, policy="immutable")
        run = self._open()
        run.log({"page": wandb.Html((self.folder / PAGE).read_text(), inject=False)})
        run.log_artifact(artifact)

    def _send_data(self, file: Path) -> None:
        import wandb

        artifact = wandb.Artifact(f"{self.config.name}-gra", type="dataset", metadata={"run": file.parent.parent.name})
        for name in ("data.jsonl", "funnel.json", "README.md"):
            if (file.parent / name).is_file():
                artifact.add_file(str(file.parent / name), name=name, policy="immutable")
        self._open().log_artifact(artifact)
