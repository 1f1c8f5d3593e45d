"""`gra-train mini`: list the miniature's models, build them again, show problems of its language."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from gra_train.errors import UserError


def main(arguments: Sequence[str]) -> int:
    """Exit code 0; raises UserError for wrong arguments."""
    parser = _Parser(prog="gra-train mini", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="the shipped models")
    show = actions.add_parser("show", help="some problems of the language")
    show.add_argument("--number", type=int, default=6)
    show.add_argument("--seed", type=int, default=0)
    make = actions.add_parser("build", help="train the models again from nothing (about 10 minutes on two cores)")
    make.add_argument("--out", type=Path, required=True, help="folder for the models")
    make.add_argument("--only", nargs="*", default=(), help="names of models (default: all)")
    make.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    make.add_argument("--seed", type=int, default=0, help="another number makes another pool of the same kind")
    words = parser.parse_args(list(arguments))
    if words.action == "build":
        from gra_train.mini.build import build

        folders = build(words.out, only=words.only, workers=words.workers, seed=words.seed)
        for folder in folders:
            print(folder)
        if not words.only:
            print(f"a pool of them: gra-train run experiment=mini pool={_write_pool(words.out)}")
    elif words.action == "list":
        _list()
    else:
        _show(words.number, words.seed)
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{self.prog}: {message}. {' '.join(self.format_usage().split())}")


def _write_pool(folder: Path) -> Path:
    """pool.yaml beside the models: the pool of conf/pool/mini.yaml, made of these folders."""
    from gra_train.compose import conf_dir

    text = (conf_dir() / "pool/mini.yaml").read_text().replace("mini:", f"{folder}/")
    path = folder / "pool.yaml"
    path.write_text(text.replace("name: mini\n", f"name: mini-{folder.name}\n"))
    return path


def _list() -> None:
    from gra_train.mini.models import MODELS_DIR, NAMES, recipe

    for name in NAMES:
        there = "" if (MODELS_DIR / name / "config.json").is_file() else "  (not built)"
        print(f"mini:{name:<10} {recipe(name).purpose}{there}")


def _show(number: int, seed: int) -> None:
    from gra_train.mini.language import sample_problem

    rng = random.Random(seed)
    for _ in range(number):
        problem = sample_problem(rng)
        print(f"[{problem.domain}] {problem.instruction}\n    {problem.response}\n")
