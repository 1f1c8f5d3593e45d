"""`gra-train replay RUN|experiment=... [options]`: decide again over a finished synthesis, count what would be kept.

  T_mean=7:9:0.5, T_std=1,1.5,2    thresholds: lists, or ranges from:to:step
  committee=1,2,3                  the first k reviewers of each candidate; or the models named (wren+lark)
  mode=committee,majority          committee, majority, single or none
  dedup=0.85,0.9                   the cosine from which two instructions are near-duplicates
  --fill                           ask the models for what the run did not ask; without it nothing is asked
  out=FOLDER                       where sweep.csv, sweep.svg and data.jsonl go (default: RUN/replay)

What is not given is as in the run. Every combination is a row of the table and of sweep.csv, and a point of sweep.svg.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from gra_train.errors import UserError, nearest
from gra_train.experiment import synthesis_only
from gra_train.records import read_samples, write_jsonl
from gra_train.runs import read_json
from gra_train.settings import build
from gra_train.stages import STAGES
from gra_train.synthesis import replay
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.checker import Checker, checker
from gra_train.synthesis.decontaminate import Benchmarks
from gra_train.synthesis.draw import committee_of
from gra_train.synthesis.embed import encoder
from gra_train.synthesis.estimate_view import grid
from gra_train.synthesis.replay import Count, Recorded, Rule, Verdict
from gra_train.synthesis.replay_plot import plot

SWEPT = ("T_mean", "T_std", "committee", "mode", "dedup")
MODES = ("committee", "majority", "single", "none")


@dataclass(frozen=True)
class Source:
    """A finished synthesis: its frozen stage, and what it recorded."""

    folder: Path
    stage_name: str
    stage: Any
    run: Recorded


def main(words: Sequence[str]) -> int:
    """The command. Returns an exit code; raises UserError."""
    if not words or {"-h", "--help"} & set(words):
        print(__doc__)
        return 0 if words else 2
    options, overrides, place = _sorted(words)
    source = read(Path(place) if place else _of_experiment(overrides))
    rules = combinations(source.run, options)
    paying = "--fill" in words
    out = Path(options.get("out") or source.folder / "replay")
    check = checker(source.run.synthesis.checker)
    benchmarks = Benchmarks.of(source.run.synthesis.decontaminate, source.stage.benchmarks)
    encode = encoder(source.run.synthesis.dedup.encoder) if source.stage_name == "synthesize" else None
    curation = replay.Curation(source.run, encode, check, benchmarks)
    counts: list[Count] = []
    last: list[Candidate] = []
    with _asking(source, paying) as models:
        for rule in rules:
            run, verdicts = _decided(source, rule, models, check)
            keep = partial(curation.keep, threshold=rule.dedup)
            counts.append(replay.count(run, verdicts, keep, checker=check is not None))
            last = [c for c, v in zip(run.candidates, verdicts, strict=True) if v is Verdict.ACCEPTED]
        spent = models.usage()["total"] if models is not None else None
    print(table(source, rules, counts))
    if spent is not None:
        print(f"calls to models: {spent['computed']} made, {spent['from_ledger']} answered from the ledger")
    _write(out, rules, counts, recorded=replay.recorded_rule(source.run.synthesis))
    written = ["sweep.csv", "sweep.svg"]
    if len(rules) == 1 and not counts[0].undecided:
        write_jsonl(out / "data.jsonl", [c.sample() for c in curation.keep(last, threshold=rules[0].dedup)])
        written.append("data.jsonl")
    else:
        (out / "data.jsonl").unlink(missing_ok=True)  # of an earlier replay
    print(f"written: {out}/ {', '.join(written)}")
    return 0


def _decided(source: Source, rule: Rule, models: Any, check: Checker | None) -> tuple[Recorded, list[Verdict]]:
    """The run and its candidates' verdicts; with an open pool, what was undecided is asked for."""
    run = source.run
    verdicts = [replay.verdict(run, c, rule) for c in run.candidates]
    open_ = [v in replay.UNDECIDED for v in verdicts]
    if models is None or not any(open_):
        return run, verdicts
    filled = replay.fill(run, rule, verdicts, models, check, refined=source.stage_name == "refine")
    told = [replay.filled_verdict(c) if asked else v for c, v, asked in zip(filled, verdicts, open_, strict=True)]
    return replace(run, candidates=filled), told


def _sorted(words: Sequence[str]) -> tuple[dict[str, str], list[str], str]:
    """(own options, overrides of an experiment, run folder)."""
    options: dict[str, str] = {}
    overrides: list[str] = []
    places: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--fill":
            continue
        if equals and name in (*SWEPT, "out"):
            options[name] = value
        elif equals:
            overrides.append(word)
        elif word.startswith("-"):
            raise UserError(f"gra-train replay: no option {word!r}.{nearest(word, ['--fill'])} Known: --fill.")
        else:
            places.append(word)
    if len(places) > 1 or bool(places) == bool(overrides):
        raise UserError(
            "gra-train replay: give one run folder (runs/synthesize-...), or an experiment=... whose synthesis has run."
        )
    return options, overrides, places[0] if places else ""


def _of_experiment(overrides: Sequence[str]) -> Path:
    from gra_train.compose import compose

    config = compose(overrides)
    return synthesis_only(config)[-1].run(Path(config.runs_dir)).folder


def read(folder: Path) -> Source:
    """A finished synthesis. Raises UserError, with what was found, for anything else."""
    import pyarrow.parquet as pq

    folder = folder.parent if folder.name == "result" else folder
    if plan := read_json(folder / "runs.json"):  # an experiment's own folder
        made = [folder.parent / r["run"] for r in plan["runs"] if r["stage"] in ("synthesize", "refine")]
        if len(made) != 1:
            listed = ", ".join(p.name for p in made) or "none"
            raise UserError(f"{folder}: it has several syntheses or none; name the one to replay: {listed}.")
        folder = made[0]
    file = folder / "result" / "candidates.parquet"
    if not file.is_file():
        raise UserError(f"{folder}: no finished synthesis there (result/candidates.parquet); run it first.")
    frozen = yaml.safe_load((folder / "config.yaml").read_text())
    stage: Any = build(STAGES[frozen["stage"]].config, frozen["config"])  # what an older run does not have: as it was
    candidates = [_candidate(row) for batch in pq.ParquetFile(file).iter_batches(256) for row in batch.to_pylist()]
    seeds_folder = folder.parent / frozen["inputs"]["seeds"] / "result"
    if not seeds_folder.is_dir():
        raise UserError(f"{folder}: its annotated seeds ({seeds_folder}) are gone; run the experiment again.")
    seeds = read_samples(seeds_folder)
    samples = {s.id: s for s in seeds} | {c.id: c.sample() for c in candidates if c.fate.value == "kept"}
    names = [m.name for m in stage.pool.models]
    run = Recorded(stage.seed, stage.synthesis, names, candidates, seeds, samples)
    return Source(folder, frozen["stage"], stage, run)


def _candidate(row: dict[str, Any]) -> Candidate:
    """A row of candidates.parquet as it was. Attempts stay behind but where replay.py tells places by them: one model
    reviewed in several, and not every review could be read."""
    from gra_train.records import Fate, InstructionReview, Review
    from gra_train.synthesis.calls import Attempt
    from gra_train.synthesis.decide import Decision

    found = Candidate.from_dict({**row, "attempts": []})
    told = [row["instruction_reviews"] or (), row["reviews"] or ()]
    same = len({*found.reviewers}) < len(found.reviewers) and any(len(t) < len(found.reviewers) for t in told)
    return replace(
        found,
        attempts=tuple(Attempt.from_dict({**a, "key": b""}) for a in row["attempts"]) if same else (),
        fate=Fate(row["fate"]),
        instruction_reviews=tuple(InstructionReview.from_dict(r) for r in row["instruction_reviews"] or ()),
        reviews=tuple(Review.from_dict(r) for r in row["reviews"] or ()),
        adjudication=Review.from_dict(row["adjudication"]) if row["adjudication"] else None,
        decision=Decision(row["decision"]) if row["decision"] else None,
        weights=tuple(row.get("weights") or ()),
    )


def combinations(run: Recorded, options: Mapping[str, str]) -> list[Rule]:
    """Every combination of what is swept, in the order given. Raises UserError for a value that cannot be."""
    as_was = replay.recorded_rule(run.synthesis)
    T_means = _numbers("T_mean", options.get("T_mean"), 1, 10) or [as_was.T_mean]
    T_stds = _numbers("T_std", options.get("T_std"), 0, 10) or [as_was.T_std]
    dedups = _numbers("dedup", options.get("dedup"), 0, 1) or [as_was.dedup]
    modes = options["mode"].split(",") if "mode" in options else [as_was.mode]
    for mode in modes:
        if mode not in MODES:
            raise UserError(f"mode={mode}: expected one of {', '.join(MODES)}.{nearest(mode, MODES)}")
    committees = _committees(run, options.get("committee"))
    rules = [
        Rule(T_mean, T_std, mode, committee[0] or as_was.num_reviewers, dedup, committee[1])
        for mode, committee, dedup, T_std, T_mean in itertools.product(modes, committees, dedups, T_stds, T_means)
    ]
    for rule in rules:
        _check_roles(run, rule)
    return rules


def _check_roles(run: Recorded, rule: Rule) -> None:
    """Raises UserError where the run's pool (with adaptive roles: what was drawn of it) is too small for the rule."""
    synthesis = rule.settings(run.synthesis)
    if run.synthesis.roles == "single" or rule.mode == "none":
        return
    reviewers, adjudicator = committee_of(synthesis), rule.mode == "committee"
    needed = 1 + reviewers + adjudicator
    asked = f"1 generator, {reviewers} reviewer{'s' * (reviewers > 1)}" + ", 1 adjudicator" * adjudicator
    rule_text = f"mode={rule.mode} with committee={reviewers}"
    if run.synthesis.roles == "adaptive":
        drawn = committee_of(run.synthesis) + (run.synthesis.review.mode == "committee")
        if needed - 1 > drawn:
            raise UserError(
                f"{rule_text} needs {needed - 1} models beside the generator; this run has adaptive roles and drew "
                f"{drawn} for each candidate, which cannot be drawn again otherwise. Give a smaller committee=."
            )
    elif needed > len(run.models):
        raise UserError(
            f"{rule_text} needs {needed} models ({asked}); the pool has {len(run.models)}: {', '.join(run.models)}. "
            "Give a smaller committee=, or mode=majority or single, which have no adjudicator."
        )


def _committees(run: Recorded, text: str | None) -> list[tuple[int, frozenset[str] | None]]:
    """(size, members) of each committee that is asked for: numbers, or model names joined by +."""
    if text is None:
        return [(0, None)]
    found: list[tuple[int, frozenset[str] | None]] = []
    for part in text.split(","):
        if part.isdigit() and int(part):
            found.append((int(part), None))
            continue
        members = frozenset(part.split("+"))
        for name in sorted(members - set(run.models)):
            raise UserError(
                f"committee={part}: expected a number from 1, or models of the pool joined by +."
                f"{nearest(name, list(run.models))} It has: {', '.join(run.models)}."
            )
        found.append((0, members))
    return found


def _numbers(name: str, text: str | None, low: float, high: float) -> list[float]:
    """7,8,9 or 7:9:0.5 (both ends included)."""
    if text is None:
        return []
    found: list[float] = []
    try:
        for part in text.split(","):
            ends = [float(x) for x in part.split(":")]
            if len(ends) == 3 and ends[2] > 0:
                steps = int((ends[1] - ends[0]) / ends[2] + 1e-9)
                found += [round(ends[0] + i * ends[2], 9) for i in range(steps + 1)]
            elif len(ends) == 1:
                found += ends
            else:
                raise ValueError
    except ValueError:
        raise UserError(f"{name}={text}: expected numbers (7,8,9) or a range from:to:step (7:9:0.5).") from None
    for value in found:
        if not low <= value <= high:
            raise UserError(f"{name}={value:g}: expected a number from {low:g} to {high:g}.")
    return found


def _asking(source: Source, paying: bool) -> Any:
    """The open pool of the run with --fill; else nothing that could be asked."""
    from contextlib import ExitStack, nullcontext

    if not paying:
        return nullcontext()
    from gra_train.chat.pool import open_pool
    from gra_train.chat.servers import serving

    class Opened(ExitStack):
        def __enter__(self) -> Any:
            pool = source.stage.pool
            placed = self.enter_context(serving(pool.models, source.folder / "replay"))
            opening = open_pool(
                placed,
                ledger=Path(source.stage.ledger),
                batch_tokens=pool.batch_tokens,
                continuous=pool.continuous_batching,
            )
            return self.enter_context(opening)

    return Opened()


def table(source: Source, rules: Sequence[Rule], counts: Sequence[Count]) -> str:
    """The sweep for a terminal; bounds as `least-most` where something is undecided."""
    as_was = replay.recorded_rule(source.run.synthesis)
    checked = any(c.correct for c in counts)
    head = ["T_mean", "T_std", "mode", "committee", "dedup", "accepted", "kept", "no response", "no review",
            "no adjudication", *["correct % of accepted"] * checked, ""]  # fmt: skip
    rows = [
        [f"{r.T_mean:g}", f"{r.T_std:g}", r.mode, _committee(r), f"{r.dedup:g}",
         _bounds(c.accepted), _bounds(c.kept),
         *(str(c.undecided.get(v.value, 0)) for v in replay.UNDECIDED),
         *[_percent(c.correct)] * checked, "as run" * (r == as_was)]
        for r, c in zip(rules, counts, strict=True)
    ]  # fmt: skip
    notes = [
        f"{source.folder.name}: {len(source.run.candidates)} recorded proposals, held fixed; rounds are not cut at the "
        "target. A real run under other settings would draw other examples in later rounds.",
        "kept: after curation, if none and if all of the undecided are accepted." * any(c.undecided for c in counts),
    ]
    return grid(head, rows) + "\n\n" + "\n".join(note for note in notes if note)


def _committee(rule: Rule) -> str:
    return "+".join(sorted(rule.members)) if rule.members is not None else str(rule.num_reviewers)


def _bounds(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}-{pair[1]}"


def _percent(pair: tuple[float, float] | None) -> str:
    if pair is None:
        return "n/a"
    low, high = (f"{100 * value:.1f}" for value in pair)
    return low if low == high else f"{low}-{high}"


def _write(out: Path, rules: Sequence[Rule], counts: Sequence[Count], *, recorded: Rule) -> None:
    """sweep.csv and sweep.svg, each written and renamed into place."""
    out.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [v.value.replace(" ", "_") for v in replay.UNDECIDED]
    writer.writerow([*SWEPT, "as_run", "candidates", "accepted_least", "accepted_most", "kept_none", "kept_all", *names,
                     "correct_least", "correct_most"])  # fmt: skip
    for r, c in zip(rules, counts, strict=True):
        writer.writerow(
            [r.T_mean, r.T_std, _committee(r), r.mode, r.dedup, int(r == recorded), c.candidates, *c.accepted, *c.kept]
            + [c.undecided.get(v.value, 0) for v in replay.UNDECIDED]
            + ([round(value, 6) for value in c.correct] if c.correct else ["", ""])
        )
    for name, content in (("sweep.csv", text.getvalue()), ("sweep.svg", plot(rules, counts, _committee))):
        temporary = out / f"{name}.tmp"
        temporary.write_text(content)
        temporary.replace(out / name)
