"""`gra-train validate [options] [name=value ...]`: is it ready, and what will it cost?

  --offline            without what needs servers or the network
  from=RUN             estimate by what this earlier run measured (default: the nearest relative in runs_dir)
  assume.NAME=VALUE    another assumption; the estimate lists them all

Everything that can be found out before anything is spent: configuration, seeds, servers, model folders, GPUs, room on
the disk, batches and adapters; then calls, tokens, hours and money, with every assumption. All problems are listed at
once; exit code 2 if there is one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gra_train.compose import check_overrides, compose_plain
from gra_train.doctor import Finding
from gra_train.errors import UserError
from gra_train.evaluation.readiness import evaluations
from gra_train.experiment import Node, check_rationale_tasks, plan, synthesis_only
from gra_train.records import Sample
from gra_train.schema import Config, DataFile
from gra_train.settings import build, change, problems
from gra_train.synthesis.assumptions import basis, named_run
from gra_train.synthesis.estimate import estimate
from gra_train.synthesis.estimate_view import costs
from gra_train.synthesis.readiness import benchmarks, disk, encoders, evaluated, models
from gra_train.synthesis.windows import windows
from gra_train.training.readiness import trainings


@dataclass(frozen=True)
class Words:
    """The command line, sorted."""

    offline: bool
    run: str
    assume: dict[str, str]
    overrides: list[str]


def main(words: Sequence[str]) -> int:
    """The command. Returns 0, or 2 if there is a problem."""
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    own = _sorted(words)
    bad: list[Finding] = []
    config = _configuration(own.overrides, bad)
    found = [*bad]
    if config is not None:
        if not bad:
            found.append(Finding("ok", "configuration", f"{config.name}: every setting is valid"))
        nodes = _graph(config, found)
        samples = _seeds(config.seeds, config.seed, found, offline=own.offline)
        listed: dict[str, int] = {}
        found += models(config, nodes, listed, offline=own.offline)
        found += encoders(nodes)
        found += windows(config, samples, listed)
        found += evaluated(nodes, offline=own.offline)
        found += evaluations(nodes)
        found += trainings(nodes, Path(config.runs_dir))
        found += benchmarks(nodes, offline=own.offline)
        found += disk(config, nodes)
    for finding in found:
        print(_line(finding))
    count = sum(f.state == "problem" for f in found)
    try:
        if config is not None and nodes:
            run = named_run(own.run) if own.run else None
            stages, notes = estimate(config, nodes, samples, own.assume, run)
            print()
            print(costs(config, stages, notes))
        else:
            basis(own.assume, None)  # a wrong name is said all the same
    except UserError as error:
        print(_line(Finding("problem", "estimate", str(error))))
        count += 1
    print(f"\n{count} problem(s): mend them first." if count else "\nNothing stands in the way.")
    return 2 if count else 0


def _sorted(words: Sequence[str]) -> Words:
    rest = [w for w in words if w != "--offline"]
    if len(rest) < len(words):
        os.environ["HF_HUB_OFFLINE"] = "1"  # read by the Hub's libraries when they are imported
    assume = dict(w.removeprefix("assume.").split("=", 1) for w in rest if w.startswith("assume.") and "=" in w)
    run = next((w.removeprefix("from=") for w in rest if w.startswith("from=")), "")
    overrides = [w for w in rest if not w.startswith(("assume.", "from="))]
    return Words(len(rest) < len(words), run, assume, overrides)


def _configuration(overrides: Sequence[str], bad: list[Finding]) -> Config | None:
    """The configuration, with every wrong override named and left out; None if what is left does not build."""
    good = []
    for text in overrides:
        try:
            check_overrides([text])
            good.append(text)
        except UserError as error:
            bad.append(Finding("problem", "configuration", str(error)))
    while True:
        try:
            values = compose_plain(good)
        except UserError as error:
            composing = _composing(good, bad)
            if len(composing) == len(good):
                bad.append(Finding("problem", "configuration", str(error)))
                return None
            good = composing
            continue
        wrong = problems(Config, values)
        if not wrong:
            return build(Config, values)
        bad += [Finding("problem", "configuration", text) for text in wrong.values()]
        blamed = {_blamed(path, good) for path in wrong} - {""}
        if not blamed:  # a file's fault: nothing to leave out
            return None
        good = [text for text in good if text not in blamed]


def _composing(overrides: Sequence[str], bad: list[Finding]) -> list[str]:
    """The overrides that compose, groups first; the others are named."""
    fine: list[str] = []
    for text in sorted(overrides, key=lambda t: "." in t.split("=", 1)[0]):
        try:
            compose_plain([*fine, text])
            fine.append(text)
        except UserError as error:
            bad.append(Finding("problem", "configuration", f"{text}: {error}"))
    return fine


def _blamed(path: str, overrides: Sequence[str]) -> str:
    """The override that set this setting: of those on the way to it the most particular, and of these the last."""
    names = [(text.split("=", 1)[0].lstrip("+~"), text) for text in overrides]
    on_the_way = [
        (len(name), place, text) for place, (name, text) in enumerate(names) if f"{path}.".startswith(f"{name}.")
    ]
    return max(on_the_way, default=(0, 0, ""))[2]


def _graph(config: Config, found: list[Finding]) -> list[Node]:
    """The stages; each arm that cannot be made is named. Without arms: what `gra-train synthesize` runs."""
    wrong, fine = [], {}
    for name, arm in config.arms.items():
        try:
            plan(change(config, arms={name: arm}, compare=change(config.compare, baseline=name)))
            fine[name] = arm
        except UserError as error:
            wrong.append(str(error))
    nodes: list[Node] = []
    try:
        nodes = plan(config) if config.arms else synthesis_only(config)
        check_rationale_tasks(nodes, config.evaluation)
    except UserError as error:
        wrong.append(str(error))
        if fine:
            nodes = plan(change(config, arms=fine, compare=change(config.compare, baseline=next(iter(fine)))))
    found += [Finding("problem", "experiment", text) for text in dict.fromkeys(wrong)]
    if not wrong:
        done = sum(n.run(Path(config.runs_dir)).status["state"] == "done" for n in nodes)
        arms = f"arms {', '.join(config.arms)}" if config.arms else "no arms: synthesis alone"
        found.append(Finding("ok", "experiment", f"{arms}; {len(nodes)} stages, {done} of them done"))
    if config.resources.needs:
        found.append(Finding("note", "hardware", config.resources.needs))
    return nodes


def _seeds(file: DataFile, seed: int, found: list[Finding], *, offline: bool) -> list[Sample] | None:
    """All rows of the seed set, read and counted; None where they cannot be read."""
    from gra_train.data.load import read

    if not file.path:
        return None  # the experiment says so where it needs them
    remote = not Path(file.path).expanduser().exists() and not file.path.startswith("mini:")
    try:
        loaded = read(change(file, on_bad_row="skip"), seed=seed)
    except UserError as error:
        state = "note" if remote and offline else "problem"
        found.append(Finding(state, "seeds", "not loaded (offline)" if state == "note" else str(error)))
        return None
    lacking = {k: sum(not getattr(s, k) for s in loaded.samples) for k in ("domain", "keywords", "summary")}
    text = f"{file.path}: {len(loaded.samples)} rows; to be annotated: " + ", ".join(
        f"{k} of {n}" for k, n in lacking.items()
    )
    found.append(Finding("ok", "seeds", text))
    if loaded.skipped:
        stops = file.on_bad_row == "stop"
        text = f"{len(loaded.skipped)} rows do not fit: " + "; ".join(loaded.skipped[:5])
        text += "; ..." * (len(loaded.skipped) > 5)
        advice = "mend them, or seeds.on_bad_row=skip" if stops else "they are left out (seeds.on_bad_row=skip)"
        found.append(Finding("problem" if stops else "note", "seeds", text, advice))
    return loaded.samples


def _line(finding: Finding) -> str:
    sign = {"ok": "  ok ", "note": "note ", "problem": "BAD  "}[finding.state]
    text = f"{sign} {finding.topic:<14} {finding.text}"
    return text + (f"\n      {'':<14} -> {finding.advice}" if finding.advice else "")
