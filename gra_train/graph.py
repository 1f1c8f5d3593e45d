"""A node of an experiment's graph: a stage with its frozen configuration and inputs, and the name of its run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gra_train.locate import MINI, fingerprint, model_folder
from gra_train.runs import Run, content_hash
from gra_train.schema import DataFile, Dedup, Evaluation, Model
from gra_train.settings import WITHHELD, change, identity
from gra_train.stages import STAGES
from gra_train.synthesis.embed import encoder_folder


@dataclass(frozen=True, eq=False)
class Node:
    """One stage to run: its frozen configuration and the nodes whose results it reads."""

    stage: str
    label: str
    config: Any
    inputs: dict[str, Node] = field(default_factory=dict)

    @cached_property
    def run_id(self) -> str:
        """<stage>-<label>-s<seed>-<hash8>: the same work has the same name, on any machine."""
        payload = {
            "stage": self.stage,
            "version": STAGES[self.stage].version,
            "config": identity(_by_content(self.config)),
            "inputs": {name: node.run_id for name, node in self.inputs.items()},
        }
        label = "".join(c if c.isalnum() else "-" for c in self.label)
        return f"{self.stage}-{label}-s{self.config.seed}-{content_hash(payload)[:8]}"

    def run(self, runs_dir: Path) -> Run:
        return Run(runs_dir / self.run_id)


def ordered(last: Node) -> Iterator[Node]:
    """Inputs before users, each node once."""
    seen: set[str] = set()

    def visit(node: Node) -> Iterator[Node]:
        if node.run_id in seen:
            return
        seen.add(node.run_id)
        for earlier in node.inputs.values():
            yield from visit(earlier)
        yield node

    yield from visit(last)


def _answering(serve: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a server of ours that change what it answers."""
    return {name: serve[name] for name in ("engine", "arguments") if name in serve}


def outside_files(value: Any) -> dict[str, str]:
    """Path -> fingerprint of every data file that a stage's configuration names: what its run's name stands for."""
    if isinstance(value, DataFile):
        outside = value.path and not value.path.startswith(MINI)
        return {value.path: fingerprint(value.path)} if outside else {}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {path: digest for one in inner for path, digest in outside_files(one).items()}


def _by_content(value: Any) -> Any:
    """Paths of models and files replaced by fingerprints of what they hold: a changed file is another identity."""
    if isinstance(value, Model):
        path = fingerprint(model_folder(value.path)) if value.path else ""
        return change(value, path=path, serve=_answering(value.serve))
    if isinstance(value, Evaluation) and vars(value)["serve"] is not WITHHELD:
        value = change(value, serve=_answering(value.serve))
    if isinstance(value, DataFile):
        outside = value.path and not value.path.startswith(MINI)
        return change(value, path=fingerprint(value.path)) if outside else value
    if isinstance(value, Dedup):
        folder = encoder_folder(value.encoder)
        return change(value, encoder=fingerprint(str(folder))) if folder else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{k: _by_content(v) for k, v in vars(value).items()})
    if isinstance(value, dict):
        return {k: _by_content(v) for k, v in value.items()}
    return [_by_content(v) for v in value] if isinstance(value, list) else value
