"""The stages of COLLATE in which rationales are written and scored: merit (stage 3, first half), and rationales (the
picked provider's, for training and testing the answerer)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from gra_train.collate import modes, work
from gra_train.collate.data import Task, number, parts
from gra_train.collate.judge import judge
from gra_train.collate.merit import Merit, mean_per_token, score
from gra_train.collate.pairs import Rules, agreement, leaks, make_pairs, statistics
from gra_train.collate.providers import member, task_sampling, told, write_rationales
from gra_train.collate.refine import refined
from gra_train.collate.sources import rationale_rows, task_rows
from gra_train.collate.work import SCORER, Inputs
from gra_train.errors import UserError
from gra_train.records import Rationale, write_jsonl
from gra_train.runs import log_metrics, read_json, write_json
from gra_train.stages import CollateStage

log = logging.getLogger(__name__)


def merit(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Stage 3, first half of iteration i -> rationales.jsonl, pairs_<s>.jsonl for every provider, statistics.json.

    Every provider writes rationales for each task; frozen M_IFT scores them by the likelihood of the gold answer (an
    ablation: judges them); best against worst is a pair of the provider whose part the task is in, whoever wrote them.
    """
    method = config.collate
    given = task_rows(config, inputs, out)
    calls, sampling = work.calls(config, out), task_sampling(method)
    folders = work.writers(inputs)
    writers = [member(name, folder, config.model) for name, folder in folders.items()]
    scorer = member(SCORER, inputs["ift"], config.model)
    seeds = [number(config.seed, "task", config.iteration, *([k] if k else [])) for k in range(method.candidates)]
    written = write_rationales(writers, given, calls=calls, sampling=sampling, seeds=seeds)
    owners = [writer.name for writer in writers for _ in seeds]
    texts = [[told(replies[i]) for replies in written] for i in range(len(given))]
    scored = score(scorer, given, texts, calls=calls)
    points = None
    if method.selection == "judge":
        points = judge(scorer, given, texts, calls=calls, judging=method.judging)
    rules = Rules(method.filter, method.leak_filter, method.max_length_ratio)
    prompts = [modes.rationale(method.prompts, t.instruction) for t in given]
    pairs, fates = make_pairs(given, texts, scored, prompts, rules, points=points)
    pairs = [replace(pair, info={**pair.info, "writer": owners[pair.info["winner"]]}) for pair in pairs]
    report: dict[str, Any] = {}
    if method.refine:
        seed = number(config.seed, "refine", config.iteration)
        pairs, report["refined"] = refined(
            pairs, {t.id: t for t in given}, writers, scorer, rules, calls=calls, sampling=sampling, seed=seed
        )
    report |= statistics(pairs, fates, {t.id: t.answer for t in given}, owners) | {
        "mean_log_likelihood_per_token": {"none": mean_per_token(scored, None)}
        | {name: mean_per_token(scored, *(s for s, o in enumerate(owners) if o == name)) for name in folders},
        "leak_rate": _leak_rate(given, texts),
        "truncated_share": fmean(reply.finish == "length" for replies in written for reply in replies),
        "agreement": agreement(texts),
    }
    report |= _unusable(texts, scored)
    write_jsonl(
        out / "rationales.jsonl",
        (
            Rationale(task.id, owner, text, math.nan if (value := found.candidates[s]) is None else value)
            for task, own, found in zip(given, texts, scored, strict=True)
            for s, owner in enumerate(owners)
            if (text := own[s]) is not None
        ),
    )
    redrawn = config.iteration if method.redraw_splits else 0
    split = parts(given, method.providers, number(config.seed, "tasks", redrawn), by=method.split)
    for s, part in enumerate(split):
        ids = {t.id for t in part}
        write_jsonl(out / f"pairs_{s}.jsonl", [p for p in pairs if p.task_id in ids])
    write_json(out / "statistics.json", report)
    log_metrics(out, {f"pairs/{name}": report[name] for name in ("tasks", "pairs", "kept_share", "leak_rate")})


def rationales(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Pick the provider whose rationales make the validation answers likeliest under M_IFT, and let it write one for
    every instruction of the task's train and test set -> train.jsonl, test.jsonl, pick.json.

    With M_IFT as the only provider these are M_IFT's own rationales (Distilling Step-by-Step).
    """
    from gra_train.evaluation.questions import questions

    method = config.collate
    writers = {name: member(name, folder, config.model) for name, folder in work.writers(inputs).items()}
    calls = work.calls(config, out)

    failed: dict[str, int] = {}

    def write(names: Sequence[str], on: Sequence[Task], what: str) -> list[list[str | None]]:
        written = write_rationales(
            [writers[name] for name in names],
            on,
            calls=calls,
            sampling=task_sampling(method),
            seeds=[number(config.seed, what)],
            label=f"{what} rationales",
        )
        texts = [[told(reply) for reply in replies] for replies in written]
        if count := sum(own.count(None) for own in texts):
            log.warning("%d %s rationales failed: nothing was written", count, what)
            failed[what] = count
        return texts

    kept = set(read_json(inputs["ift"] / "splits.json")["validation"])
    validation = [t for t in rationale_rows(config, inputs) if t.id in kept]
    texts = write(list(writers), validation, "validation")
    scorer = member(SCORER, inputs["ift"], config.model)
    scored = score(scorer, validation, list(zip(*texts, strict=True)), calls=calls)
    able, left_out = comparable(scored)
    if not able:
        raise UserError(
            f"no provider can be picked: on none of the {len(scored)} validation rows has every provider written a "
            "rationale under which the answer is within M_IFT's window. Lower collate.max_tokens, or look at log.txt."
        )
    means = {name: mean_per_token(able, s) for s, name in enumerate(writers)}
    known = {name: mean for name, mean in means.items() if mean is not None}
    pick = max(known, key=lambda name: known[name])
    picked: dict[str, Any] = {
        "pick": pick,
        "mean_log_likelihood_per_token": means | {"none": mean_per_token(able, None)},
    }
    if left_out:
        log.warning("%d of %d validation rows pick no provider: no number for each of them", left_out, len(scored))
        picked["left_out"] = left_out
    log_metrics(out, {f"validation/{name}": value for name, value in known.items()})

    train = task_rows(config, inputs, out)
    [own] = write([pick], train, "train")
    rows = [t.to_dict() | {"rationale": text} for t, text in zip(train, own, strict=True) if text is not None]
    if not rows:
        raise UserError(f"all {len(train)} rationales of the task data failed: there is nothing to train on.")
    write_jsonl(out / "train.jsonl", rows)
    asked = questions(config.evaluation)
    held_out = [Task(f"{q['task']}/{q['question_id']}", q["instruction"], q["gold"]) for q in asked]
    own = write([pick], held_out, "test")[0] if asked else []
    write_jsonl(out / "test.jsonl", (_asked(q, text) for q, text in zip(asked, own, strict=True)))
    write_json(out / "pick.json", picked | ({"failed": failed} if failed else {}))


def comparable(scored: Sequence[Merit]) -> tuple[list[Merit], int]:
    """(the rows by which providers can be compared, how many are left out): those with a number for every provider that
    has any, so that the means are over the same rows."""
    able = [s for s in range(len(scored[0].candidates)) if any(m.candidates[s] is not None for m in scored)]
    kept = [m for m in scored if able and all(m.candidates[s] is not None for s in able)]
    return kept, len(scored) - len(kept)


def _asked(question: dict[str, Any], text: str | None) -> dict[str, Any]:
    """A question with its rationale; one that was not written is said to have failed, and the evaluation counts it."""
    return question | ({"rationale": text} if text is not None else {"rationale": "", "failed": True})


def _leak_rate(given: Sequence[Task], texts: Sequence[Sequence[str | None]]) -> float | None:
    """Share of the written rationales that state the answer."""
    found = [leaks(text, t.answer) for t, own in zip(given, texts, strict=True) for text in own if text is not None]
    return fmean(found) if found else None


def _unusable(texts: Sequence[Sequence[str | None]], scored: Sequence[Merit]) -> dict[str, int]:
    """How many rationales failed, and how many more have no merit (`merit.known`); 0: not mentioned."""
    failed = sum(text is None for own in texts for text in own)
    unscored = sum(value is None for found in scored for value in found.candidates) - failed
    if failed or unscored:
        log.warning("%d rationales failed, %d could not be scored: they are in no pair", failed, unscored)
    return {name: count for name, count in (("failed", failed), ("unscored", unscored)) if count}
