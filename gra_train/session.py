"""One experiment from start to end, as a person meets it: checks, progress, the table, and what to do next."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gra_train import settings
from gra_train.collate.baselines.graph import ANSWERING
from gra_train.errors import UserError
from gra_train.experiment import Node, check_rationale_tasks, plan, synthesis_only
from gra_train.launch import Executor, StageError, check_space
from gra_train.runs import EXIT_STOPPED, Reached, Run, Stopped, lease, read_json, write_json
from gra_train.schema import Config
from gra_train.settings import plain
from gra_train.synthesis import embed
from gra_train.training.readiness import check_trainings
from gra_train.view import View, clock

UNTIL = {
    "synthesize": ("seeds", "synthesize"),
    "sft": ("sft",),
    "collate": ("tune", "distinct", "answerer", "rationales", "answers", "star", "spin", "self_rewarding"),
    "evaluate": ("evaluate", *ANSWERING),
    "compare": ("compare",),
}
SERVED = ("distinct", "merit", "rationales")
STARTS_SERVERS = ("seeds", "synthesize", "refine", "shard", "distill")


def run_experiment(config: Config, *, until: str = "compare", overrides: Sequence[str] = ()) -> int:
    """Run (or finish, or reuse) an experiment up to a kind of stage. Returns the exit code; raises UserError."""
    started = time.monotonic()
    runs_dir = Path(config.runs_dir)
    nodes = select(config, until)
    check_rationale_tasks(nodes, config.evaluation)
    check_tasks(nodes, runs_dir)
    check_servers(nodes, runs_dir)
    check_encoders(nodes, runs_dir)
    check_trainings(nodes, runs_dir)
    check_space(runs_dir)
    last = nodes[-1]
    folder = runs_dir / f"{config.name}-s{config.seed}-{last.run_id.rsplit('-', 1)[1]}"
    if config.resources.needs:
        print(f"hardware: {config.resources.needs}", file=sys.stderr)
    with lease(Run(folder), wait=False, work=False) as held:
        write_plan(folder, config, nodes, overrides)
        held.mark("running")
        code, message = 0, ""
        with View(len(nodes)) as view:
            executor = Executor(nodes, config, view)
            restore = _stop_on_signals(executor, view)
            mirror = _open_mirror(config, folder, nodes, view)
            try:
                executor.execute()
                show_result(folder, runs_dir, last)
            except Reached as reached:
                message = f"{reached}. Run again without it to go on from here."
            except Stopped as stopped:
                code, message = EXIT_STOPPED, f"{stopped}. Run the same command again to go on from here."
            except StageError as error:
                code, message = 1, str(error)
            except UserError as error:
                held.mark_failure("failed", error=str(error))
                raise
            finally:
                mirror.close()
                restore()
        write_json(folder / "reads.json", sorted(settings.reads))
        state = "stopped" if message and not code else {0: "done", EXIT_STOPPED: "stopped"}.get(code, "failed")
        held.mark(state, error=message, computed=executor.computed)
    if message:
        print(f"gra-train: {message}", file=sys.stderr)
        return code
    _report(folder, runs_dir, last, executor, overrides, time.monotonic() - started)
    return 0


def select(config: Config, until: str) -> list[Node]:
    """The nodes of an experiment that a command runs: those of its kind and what they need."""
    if until == "synthesize":
        return synthesis_only(config)
    if config.synthesis.shard:
        raise UserError(f"synthesis.shard={config.synthesis.shard} is for gra-train synthesize alone.")
    nodes = plan(config)
    if until == "compare":
        return nodes
    wanted = {node.run_id for node in nodes if node.stage in UNTIL[until]}
    if not wanted:
        raise UserError(f"this experiment has nothing to {until}: its arms are {', '.join(config.arms)}"
                        + (" and none has method=collate" if until == "collate" else ""))  # fmt: skip
    needed: set[str] = set()
    for node in reversed(nodes):
        if node.run_id in wanted or node.run_id in needed:
            needed |= {node.run_id, *(other.run_id for other in node.inputs.values())}
    return [node for node in nodes if node.run_id in needed]


def check_tasks(nodes: Sequence[Node], runs_dir: Path) -> None:
    """Raises UserError if an evaluation to be run names a task of lm-eval's that does not exist."""
    from gra_train.evaluation.lm_tasks import check_names
    from gra_train.evaluation.questions import without_instructions

    evaluations = [n.config.evaluation for n in nodes if n.stage == "evaluate" and not n.run(runs_dir).is_done()]
    check_names(dict.fromkeys(task for evaluation in evaluations for task in without_instructions(evaluation)))


def check_servers(nodes: Sequence[Node], runs_dir: Path) -> None:
    """Raises UserError if servers of ours that stages to be run ask for cannot be started on this machine."""
    from gra_train.chat import engines
    from gra_train.chat.serve import plan_servers
    from gra_train.evaluation.engine import planned

    for node in nodes:
        if node.stage in SERVED and node.config.collate.serve.engine != "none":  # their models are yet to be trained
            engines.check("of collate.serve", node.config.collate.serve)
        if node.stage in STARTS_SERVERS and not node.run(runs_dir).is_done():
            plan_servers(node.config.pool.models)
        elif node.stage == "evaluate" and not node.run(runs_dir).is_done():
            model = planned(node.config, trained="model" in node.inputs)
            plan_servers([model] if model else [])


def check_encoders(nodes: Sequence[Node], runs_dir: Path) -> None:
    """Raises UserError if a synthesis to be run asks for a sentence encoder whose packages are not installed."""
    for node in nodes:
        if node.stage == "synthesize" and not node.run(runs_dir).is_done():
            embed.check(node.config.synthesis.dedup.encoder)


def write_plan(folder: Path, config: Config, nodes: Sequence[Node], overrides: Sequence[str]) -> None:
    """The experiment's own folder: its configuration and the runs it is made of."""
    (folder / "config.yaml").write_text(yaml.dump(plain(config), sort_keys=False, Dumper=yaml.CSafeDumper))
    runs = [{"stage": n.stage, "label": n.label, "run": n.run_id} for n in nodes]
    write_json(folder / "runs.json", {"overrides": list(overrides), "runs": runs})


def _stop_on_signals(executor: Executor, view: View) -> Any:
    """First Ctrl-C or SIGTERM: save and stop. Second: at once."""
    import threading

    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    times = 0

    def handle(number: int, frame: Any) -> None:
        nonlocal times
        times += 1
        if times > 1:
            os._exit(130)  # workers die with their launcher; what was finished is kept
        view.note("stopping: running stages save and end (once more: at once)")
        executor.stop()

    before = [(number, signal.signal(number, handle)) for number in (signal.SIGINT, signal.SIGTERM)]
    return lambda: [signal.signal(number, handler) for number, handler in before]


class _NoMirror:
    def close(self) -> None: ...


def _open_mirror(config: Config, folder: Path, nodes: Sequence[Node], view: View) -> Any:
    if config.tracking.wandb == "off":
        return _NoMirror()
    from gra_train.reporting.wandb_mirror import open_mirror

    return open_mirror(config, folder, nodes, note=view.note)


def show_result(folder: Path, runs_dir: Path, last: Node) -> None:
    """The comparison's files and its page in the experiment's own folder."""
    if last.stage != "compare":
        return
    from gra_train.reporting.page import write_page

    for file in last.run(runs_dir).result.glob("*"):
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    write_page(folder, last, runs_dir)


def _report(
    folder: Path, runs_dir: Path, last: Node, executor: Executor, overrides: Sequence[str], seconds: float
) -> None:
    result = last.run(runs_dir).result
    if (result / "table.json").is_file():
        from gra_train.reporting.terminal import show

        show(result)
        print(f"\nas a page: {(folder / 'page.html').resolve()}")
    computed = len(executor.computed)
    print(f"\n{folder}  ({computed} of {len(executor.nodes)} stages computed, the others reused; {clock(seconds)})")
    computed_calls, from_ledger = calls(runs_dir, executor.computed)
    print(f"calls to models: {computed_calls} made, {from_ledger} answered from the ledger")
    if last.stage == "compare":
        again = " ".join(word for word in overrides if not word.startswith("seed="))
        print(f"next: gra-train run {again} -m seed=0,1,2,3,4    (is the difference real?)")
    elif last.stage == "synthesize":
        print(f"next: gra-train sft data={result} student.path=FOLDER    (train on it)")


def calls(runs_dir: Path, computed: Sequence[str]) -> tuple[int, int]:
    """Calls that the stages computed now made, and those the ledger answered (their usage.json)."""
    totals = [(read_json(runs_dir / run_id / "usage.json") or {}).get("total", {}) for run_id in computed]
    return sum(t.get("computed", 0) for t in totals), sum(t.get("from_ledger", 0) for t in totals)
