"""The process that runs stages: `python -m gra_train.worker` serves jobs from stdin, one JSON line each; with arguments
`RUN_FOLDER OUT` it runs one stage and exits (that is what torchrun starts, once per rank).

It reads the run's frozen config.yaml and never imports Hydra. While a stage runs, stdout, stderr and logging go to the
run's log.txt. A warm worker keeps its imports between stages; it must keep nothing else.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import yaml

from gra_train import progress, settings
from gra_train.chat.protocol import ModelError
from gra_train.data import hub
from gra_train.errors import UserError
from gra_train.leash import TORCHRUN, die_with_parent
from gra_train.locate import fingerprint
from gra_train.meter import measured
from gra_train.runs import EXIT_STOPPED, Reached, Stopped
from gra_train.stages import STAGES


def run_stage(folder: Path, out: Path) -> None:
    """Run the stage that `folder`/config.yaml describes, writing results into `out`."""
    frozen = yaml.load((folder / "config.yaml").read_text(), Loader=yaml.CSafeLoader)
    stage = STAGES[frozen["stage"]]
    config: Any = settings.build(stage.config, frozen["config"], partial=True)
    inputs = {name: folder.parent / run / "result" for name, run in frozen["inputs"].items()}
    for path, digest in frozen.get("files", {}).items():
        if fingerprint.__wrapped__(path) != digest:  # as it is now, not as this warm process saw it earlier
            raise UserError(
                f"{path} has changed since this run was planned: its results would not be those of the data that the "
                "run is named after. Run again: with the file as it is now that is another run."
            )
    first = os.environ.get("RANK", "0") == "0"
    progress.write_to(folder / "progress.json" if first else None)
    settings.reads.clear()
    hub.forget()
    alone = os.environ.get("WORLD_SIZE", "1") == "1"  # of several ranks each would know only a part
    try:
        with measured(folder / "effort.json") if alone else nullcontext():
            stage.load()(config, inputs, out)
    finally:
        progress.write_to(None)
        if first:
            (folder / "reads.json").write_text(json.dumps(sorted(settings.reads)))


MOST_WARNINGS = 5
"""Told of one stage; log.txt has all."""


class Warnings(logging.Handler):
    """Collects what our own code warns of, so that a person is told it beside the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.name.startswith("gra_train") and text not in self.texts:
            self.texts.append(text)


def answer(folder: Path, out: Path) -> dict[str, Any]:
    """Run a stage with its noise in log.txt; {"ok": true, "warnings": [...]} or what went wrong."""
    saved = os.dup(1), os.dup(2)
    warnings = Warnings()
    with (folder / "log.txt").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr, force=True
        )
        logging.getLogger().addHandler(warnings)
        try:
            run_stage(folder, out)
            return {"ok": True, "warnings": warnings.texts[:MOST_WARNINGS]}
        except Stopped as stopped:
            kind = "reached" if isinstance(stopped, Reached) else "stopped"
            return {"ok": False, "kind": kind, "message": str(stopped)}
        except UserError as error:
            return {"ok": False, "kind": "user", "message": str(error)}
        except ModelError as error:  # a server that is away: no bug, and nothing that a traceback explains
            logging.error("%s", error)
            return {"ok": False, "kind": "model", "message": str(error)}
        except BaseException as error:
            with suppress(OSError):  # a full disk
                traceback.print_exc()
            kind = "disk" if isinstance(error, OSError) and error.errno == 28 else "bug"
            message = f"{type(error).__name__}: {error}"
            if kind == "disk":
                message = f"the disk of {folder} is full: make room and run again; what was finished is kept."
            return {"ok": False, "kind": kind, "message": message}
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):
                    stream.flush()
            for target, source in zip((1, 2), saved, strict=True):
                os.dup2(source, target)
                os.close(source)


def serve() -> None:
    """Answer jobs until stdin closes. Dies with its launcher, whatever kills that one."""
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group: the launcher answers with a STOP file
        signal.signal(number, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        job = json.loads(line)
        if os.getppid() != job["launcher"]:  # it was killed before the kernel knew what to tell us, its job in the pipe
            return
        outcome = answer(Path(job["folder"]), Path(job["out"]))
        print(json.dumps(outcome | {"on_gpu": _on_gpu()}), file=replies, flush=True)


def _on_gpu() -> bool:
    """Whether this process holds a GPU's memory by now (a context alone takes hundreds of megabytes)."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def main() -> None:
    if len(sys.argv) == 1:
        return serve()
    if "RANK" in os.environ:  # our torchrun dies with the launcher, and we with it
        known = os.environ.get(TORCHRUN)
        die_with_parent(int(known) if known else None)
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    outcome = answer(folder, out)
    if os.environ.get("RANK", "0") == "0":  # exit codes do not cross torchrun: say it in a file
        (folder / "outcome.json").write_text(json.dumps(outcome))
    elif outcome.get("kind") == "stopped":  # torchrun ends all ranks at the first failure: let rank 0 finish its file
        sys.exit(0)
    sys.exit(0 if outcome["ok"] else EXIT_STOPPED if outcome["kind"] == "stopped" else 1)


if __name__ == "__main__":
    main()
