"""The command `gra-train`. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence

USAGE = """\
gra-train COMMAND [name=value ...]      settings and groups: gra-train config --schema
                                        options of validate, preview, replay, ...: gra-train COMMAND --help

  run         an experiment from seeds to the comparison table    gra-train run experiment=mini
  synthesize  GRA on your seeds with your pool                    gra-train synthesize seeds=FILE pool=POOL
  preview     prompts and parsed answers of a few samples         gra-train preview seeds=FILE pool=POOL n=5
  validate    is it ready, and what will it cost?                 gra-train validate experiment=gra/paper
  replay      decide again over recorded proposals, no new call   gra-train replay RUN T_mean=7:9:0.5
  sft         fine-tune the student of every arm                  gra-train sft data=FILE student.path=FOLDER
  collate     up to COLLATE's last iteration                      gra-train collate experiment=mini
  evaluate    up to the scores of every arm                       gra-train evaluate experiment=mini
  compare     the comparison (= run)                              gra-train compare experiment=mini
  config      the resolved configuration, with origins            gra-train config experiment=mini
  table       a paper's table: plan, run, render                  gra-train table gra_table1 plan
  ledger      the answers kept: stats, export, show, vacuum       gra-train ledger stats runs/ledger
  export      a data set to hand on: chat, Alpaca, parquet; Hub   gra-train export RUN --format chat
  mini        the miniature world: list or build its models       gra-train mini build --out DIR
  doctor      what this machine has and lacks

  -m          sweep: gra-train run experiment=mini -m seed=0,1,2,3,4
  run again   reuses what is done and resumes what was interrupted"""

OWN_HELP = ("export", "ledger", "mini", "preview", "replay", "table", "validate")
"""Commands with options beside settings; the others' --help is the usage."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 2 wrong input, 75 stopped and resumable, 130 interrupted, 141 when
    nobody reads on (`| head`)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE)
        sys.exit(0 if words else 2)
    if words[0] == "--version":
        from gra_train import __version__

        print(f"gra-train {__version__}")
        return
    command, *rest = words
    from gra_train.errors import UserError, nearest

    try:
        if command not in COMMANDS:
            raise UserError(f"No command {command!r}.{nearest(command, list(COMMANDS))} Known: {', '.join(COMMANDS)}.")
        if any(word in ("-h", "--help") for word in rest) and command not in OWN_HELP:
            print(USAGE)
            return
        code = COMMANDS[command](rest)
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:
        if not _reader_left():
            raise
        sys.exit(141)
    except UserError as error:
        print(f"gra-train: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print("gra-train: the disk is full: make room and run again; what was finished is kept.", file=sys.stderr)
        sys.exit(1)


def _reader_left() -> bool:
    """Whether the reader of our output is gone, as `head` is when it has seen enough; the rest goes nowhere then."""
    import select

    pipe = select.poll()
    pipe.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in pipe.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _experiment(until: str) -> Callable[[list[str]], int]:
    def command(rest: list[str]) -> int:
        if "-m" in rest or "--multirun" in rest:
            return _sweep(until, [word for word in rest if word not in ("-m", "--multirun")])
        from gra_train.compose import compose
        from gra_train.session import run_experiment

        config = compose(rest)
        return run_experiment(config, until=until, overrides=rest)

    return command


def _sweep(until: str, overrides: list[str]) -> int:
    """Hand over to Hydra's multirun: one job for each combination, through the configured launcher."""
    import hydra

    from gra_train.compose import check_overrides, checked, conf_dir, register_schema

    ready = check_overrides(overrides)
    register_schema()
    codes: list[int] = []

    def job(config: object) -> int:
        register_schema()
        from gra_train.session import run_experiment

        code = run_experiment(checked(config), until=until, overrides=overrides)
        codes.append(code)
        if code:
            raise RuntimeError(f"a sweep job ended with exit code {code}")
        return code

    sys.argv = ["gra-train", "--multirun", *ready]
    hydra.main(version_base="1.3", config_path=str(conf_dir().absolute()), config_name="config")(job)()
    if until == "compare" and not any(codes):
        _over_seeds(overrides)
    return max(codes, default=0)


def _over_seeds(overrides: list[str]) -> None:
    """After a sweep over seeds: their means and intervals, printed and kept."""
    from gra_train.reporting.over_seeds import write_over_seeds

    if path := write_over_seeds(overrides):
        print(f"\n{path.read_text()}\nover seeds: {path}")


def _config(rest: list[str]) -> int:
    from gra_train.describe import describe_config, describe_schema

    if "--schema" in rest:
        print(describe_schema())
        return 0
    print(describe_config([word for word in rest if not word.startswith("--")]))
    return 0


def _mini(rest: list[str]) -> int:
    from gra_train.mini.command import main as mini

    return mini(rest)


def _ledger(rest: list[str]) -> int:
    from gra_train.chat.ledger_command import main as ledger

    return ledger(rest)


def _export(rest: list[str]) -> int:
    from gra_train.data.export import main as export

    return export(rest)


def _doctor(rest: list[str]) -> int:
    from gra_train.doctor import doctor

    return doctor()


def _preview(rest: list[str]) -> int:
    from gra_train.synthesis.preview import main as preview

    return preview(rest)


def _validate(rest: list[str]) -> int:
    from gra_train.validate import main as validate

    return validate(rest)


def _replay(rest: list[str]) -> int:
    from gra_train.synthesis.replay_command import main as replay

    return replay(rest)


def _table(rest: list[str]) -> int:
    from gra_train.reporting.command import main as table

    return table(rest)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": _experiment("compare"),
    "synthesize": _experiment("synthesize"),
    "sft": _experiment("sft"),
    "collate": _experiment("collate"),
    "evaluate": _experiment("evaluate"),
    "compare": _experiment("compare"),
    "config": _config,
    "preview": _preview,
    "validate": _validate,
    "replay": _replay,
    "table": _table,
    "ledger": _ledger,
    "export": _export,
    "mini": _mini,
    "doctor": _doctor,
}

if __name__ == "__main__":
    main()
