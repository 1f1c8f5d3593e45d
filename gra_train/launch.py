"""Running the nodes of an experiment: what is done is reused, single-rank stages share warm workers, multi-rank stages
go through torchrun. The launcher owns every lock; workers only compute (see runs.py and worker.py)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gra_train.cluster import torchrun
from gra_train.errors import FencedError, UserError
from gra_train.experiment import Node
from gra_train.graph import outside_files
from gra_train.runs import Reached, Run, Stopped, lease, read_json, write_json
from gra_train.schema import Config
from gra_train.settings import plain
from gra_train.stages import MULTI_RANK, STAGES
from gra_train.stamp import diff, revision, stamp
from gra_train.view import View
from gra_train.warm import Worker, describe_exit, environment, warm_worker


class StageError(RuntimeError):
    """A stage failed through no wrong input; its log says more."""


def multi_rank(folder: Path, out: Path, config: Config) -> dict[str, Any]:
    """Run one stage with several ranks through torchrun (here, or over a SLURM allocation's tasks); its outcome comes
    back in a file, since exit codes do not cross torchrun. Here it dies with us: a rerun must find the run folder free;
    in an allocation SLURM ends it with the job."""
    (folder / "outcome.json").unlink(missing_ok=True)
    ranks = config.resources.ranks
    started = torchrun(ranks, kind=config.cluster.kind)
    leash = (sys.executable, "-m", "gra_train.leash", str(os.getpid())) if config.cluster.kind == "local" else ()
    command = [*leash, *started, "-m", "gra_train.worker", str(folder), str(out)]
    with (folder / "log.txt").open("ab") as log:
        environ = environment(config.resources.threads)
        if config.deepspeed and config.resources.device == "cpu":
            environ.setdefault("DS_ACCELERATOR", "cpu")  # it would look for a GPU
        code = subprocess.run(command, stdout=log, stderr=log, env=environ, check=False).returncode
    outcome = read_json(folder / "outcome.json")
    if outcome is None or (outcome["ok"] and code != 0):
        return {"ok": False, "kind": "died", "message": f"torchrun with {ranks} ranks ended ({describe_exit(code)})"}
    return outcome


class Executor:
    """Runs nodes whose inputs are done, at most `workers` at a time."""

    def __init__(self, nodes: Sequence[Node], config: Config, view: View) -> None:
        self.nodes, self.config, self.view = list(nodes), config, view
        self.runs_dir = Path(config.runs_dir)
        self.resources = config.resources
        self.condition = threading.Condition()
        self.done: set[str] = set()
        self.taken: set[str] = set()
        self.computed: list[str] = []
        self.error: BaseException | None = None
        self.stopping = False

    def execute(self) -> list[str]:
        """Run everything; returns the ids of the runs that were computed now (not reused).

        Raises UserError, StageError or Stopped for the first stage that did not finish; others that were running then
        finish first.
        """
        threads = [threading.Thread(target=self._work) for _ in range(self.resources.workers)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            everywhere = os.environ.get("GRA_STOP_FILE")
            if everywhere and Path(everywhere).exists():
                self.stop()
            time.sleep(0.05)
        if self.error:
            raise self.error
        if self.stopping:
            raise Stopped("stopped as asked")
        return self.computed

    def stop(self) -> None:
        """Ask the running stages to save and stop (by file: signals do not cross torchrun)."""
        self.stopping = True
        for folder in list(self.view.running.values()):
            (folder / "STOP").touch()

    def _work(self) -> None:
        try:
            with warm_worker(self.resources.threads) as worker:
                try:
                    self._run_nodes(worker)
                except BaseException as error:  # told before the worker is ended, which takes a while
                    self._fail(error)
                    raise
        except BaseException as error:
            self._fail(error)

    def _run_nodes(self, worker: Worker) -> None:
        while node := self._next():
            self._run(node, worker)
            with self.condition:
                self.done.add(node.run_id)
                self.condition.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self.condition:
            self.error = self.error or error
            self.condition.notify_all()

    def _next(self) -> Node | None:
        with self.condition:
            while not self.error and not self.stopping:
                open_nodes = [n for n in self.nodes if n.run_id not in self.taken]
                if not open_nodes:
                    return None
                for node in open_nodes:
                    if all(n.run_id in self.done for n in node.inputs.values()):
                        self.taken.add(node.run_id)
                        return node
                self.condition.wait(0.2)
        return None

    def _run(self, node: Node, worker: Worker) -> None:
        run = node.run(self.runs_dir)
        if run.is_done():
            self._reuse(run)
            return

        def waiting(owner: dict[str, Any]) -> None:
            if run.id not in self.view.running:
                self.view.note(
                    f"    {run.id} is being made by process {owner['pid']} on {owner['host']}: waiting for it"
                )
                self.view.start(run.id, run.folder)
            if self.stopping:
                raise Stopped("stopped while waiting for another process")

        with lease(run, on_wait=waiting) as held:
            if run.is_done():  # somebody else made it while we waited
                self._reuse(run)
                return
            freeze(node, run)
            held.mark("running")
            self.view.start(run.id, run.folder)
            started = time.monotonic()
            if node.stage in MULTI_RANK and self.resources.ranks > 1:
                outcome = multi_rank(run.folder, held.out, self.config)
            else:
                outcome = worker.run(run.folder, held.out)
            if outcome["ok"]:
                held.finish(time.monotonic() - started)
                self.computed.append(run.id)
                self.view.finish(run.id, "done")
                for text in outcome.get("warnings", ()):
                    self.view.note(f"    warning: {text}")
                return
            state = "stopped" if outcome["kind"] in ("stopped", "reached") else "failed"
            held.mark_failure(state, error=outcome["message"])
            self.view.running.pop(run.id, None)
            raise _error(run, outcome)

    def _reuse(self, run: Run) -> None:
        made_by = (read_json(run.folder / "stamp.json") or {}).get("revision")
        if made_by != revision():
            self.view.note(f"    {run.id} is reused; it was made by code revision {made_by}, this is {revision()}")
        self.view.finish(run.id, "reused")


def freeze(node: Node, run: Run) -> None:
    """Write what the stage will read, and where it comes from, into the run folder."""
    frozen = {
        "stage": node.stage,
        "version": STAGES[node.stage].version,
        "config": plain(node.config),
        "inputs": {name: other.run_id for name, other in node.inputs.items()},
        "files": outside_files(node.config),
    }
    file = run.folder / "config.yaml"
    temporary = file.with_name("config.yaml.tmp")
    try:
        temporary.write_text(yaml.dump(frozen, sort_keys=False, Dumper=yaml.CSafeDumper))
        temporary.replace(file)
        write_json(run.folder / "stamp.json", stamp())
        if changes := diff():
            (run.folder / "changes.diff").write_text(changes + "\n")
    except OSError as error:
        raise UserError(f"cannot write into {run.folder}: {error.strerror}. Make room, or set runs_dir=...") from None


def _error(run: Run, outcome: dict[str, Any]) -> BaseException:
    message = outcome["message"]
    if outcome["kind"] in ("stopped", "reached"):
        return (Reached if outcome["kind"] == "reached" else Stopped)(message)
    if outcome["kind"] in ("user", "disk"):
        return UserError(f"{run.id}: {message}")
    if outcome["kind"] == "fenced":
        return FencedError(message)
    return StageError(f"{run.id} failed: {message}. See {run.folder / 'log.txt'}; running again goes on from there.")


def check_space(folder: Path, *, need_bytes: int = 200 * 2**20) -> None:
    """Raises UserError, before work is spent, if the runs folder cannot be written or its disk is nearly full."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"runs_dir={folder} cannot be written: {error.strerror}. Set runs_dir=... to another folder."
        ) from None
    free = shutil.disk_usage(folder).free
    if free < need_bytes:
        raise UserError(
            f"the disk of runs_dir={folder} has {free / 2**20:.0f} MB free; at least {need_bytes / 2**20:.0f} MB are "
            "needed. Make room, or set runs_dir=... elsewhere."
        )
