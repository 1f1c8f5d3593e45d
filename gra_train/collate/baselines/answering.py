"""The baselines that answer the evaluation's questions themselves: rows like any arm's, and what an answer cost."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from gra_train import progress
from gra_train.chat.protocol import Ask
from gra_train.collate import modes, work
from gra_train.collate.baselines.answers import Questions, read, write_results
from gra_train.collate.baselines.exchange import exchange_of_thought
from gra_train.collate.baselines.thinking import Thinker, Thought
from gra_train.collate.baselines.tree import tree_of_thoughts
from gra_train.collate.baselines.vote import self_consistency
from gra_train.collate.data import Task, number
from gra_train.collate.providers import member
from gra_train.collate.sources import clean, rationale_rows
from gra_train.errors import UserError
from gra_train.evaluation.scoring import Mark
from gra_train.records import write_jsonl
from gra_train.runs import log_metrics, write_json
from gra_train.schema import Collate, Model
from gra_train.stages import CollateStage

Answered = tuple[Thought, dict[str, Any]]
"""What a question ends in, and what the method counts on the way."""
Method = Callable[[Ask, Thinker, str, int, Collate], Awaitable[Answered]]
"""(ask, thinker, instruction, seed, settings) -> answered."""
EFFORT = ("asked", "prompt_tokens", "completion_tokens", "scored_tokens", "truncated")


async def direct(ask: Ask, thinker: Thinker, instruction: str, seed: int, method: Collate) -> Answered:
    """I -> A."""
    return await thinker.answer(ask, instruction), {}


async def chain(ask: Ask, thinker: Thinker, instruction: str, seed: int, method: Collate) -> Answered:
    """CoT: one rationale, greedy, and its answer."""
    [thought] = await thinker.think(ask, instruction, seed=seed)
    return thought, {}


async def consistent(ask: Ask, thinker: Thinker, instruction: str, seed: int, method: Collate) -> Answered:
    own = method.baselines
    return await self_consistency(
        ask, thinker, instruction, seed=seed, samples=own.samples, temperature=own.temperature
    )


async def tree(ask: Ask, thinker: Thinker, instruction: str, seed: int, method: Collate) -> Answered:
    own = method.baselines
    return await tree_of_thoughts(
        ask, thinker, instruction, seed=seed, proposals=own.tot_proposals, beam=own.tot_beam, depth=own.tot_depth,
        temperature=own.temperature, roles=own.roles,
    )  # fmt: skip


async def exchanged(ask: Ask, thinker: Thinker, instruction: str, seed: int, method: Collate) -> Answered:
    own = method.baselines
    return await exchange_of_thought(
        ask, thinker, instruction, seed=seed, rounds=own.eot_rounds, temperature=own.temperature, roles=own.roles
    )


def answer_questions(config: CollateStage, inputs: Mapping[str, Path], out: Path, method: Method) -> None:
    """inputs: model? (else config.model) -> questions.parquet, scores.json, details.jsonl (what the method counted for
    each question), effort.json (calls and tokens per question, means of the details)."""
    asked = Questions.of(config.evaluation)
    rows = asked.rows
    thinker = make_thinker(config, inputs, few_shot=method is not direct)

    def story(row: Mapping[str, Any]) -> Callable[[Ask], Awaitable[Answered]]:
        seed = number(config.seed, "answering", row["task"], row["question_id"])
        own = replace(thinker, read=asked.reader(row))
        return lambda ask: method(ask, own, row["instruction"], seed, config.collate)

    with (
        work.calls(config, out).open([start_model(config, inputs)]) as pool,
        progress.task("questions", total=len(rows), unit="questions") as bar,
    ):
        answered = pool.run([story(row) for row in rows], block=config.collate.block, on_done=bar.advance)
        spent = pool.usage()["total"]
    marks = asked.mark([thought.answer for thought, _ in answered])
    written = [
        _row(row, thought, mark, _prompt(config.collate.prompts, row["instruction"], thought, bare=method is direct))
        for row, (thought, _), mark in zip(rows, answered, marks, strict=True)
    ]
    write_results(written, config.evaluation.confidence, out)
    write_jsonl(
        out / "details.jsonl",
        (
            {"task": row["task"], "question_id": row["question_id"], "rationale": thought.rationale, **counted}
            for row, (thought, counted) in zip(rows, answered, strict=True)
        ),
    )
    effort = effort_of([counted for _, counted in answered], spent)
    write_json(out / "effort.json", effort)
    log_metrics(out, {f"effort/{name}": value for name, value in effort.items()})


def effort_of(counted: Sequence[Mapping[str, float]], spent: Mapping[str, int]) -> dict[str, float]:
    """Per question: calls, tokens read, written and scored, calls cut at their cap; means of what a method counted."""
    found: dict[str, float] = {"questions": len(counted)}
    for name in EFFORT:
        found[f"{name.replace('asked', 'calls')}_per_question"] = spent[name] / max(len(counted), 1)
    for name in counted[0] if counted else ():
        found[f"mean_{name}"] = fmean(one[name] for one in counted)
    return found


def make_thinker(config: CollateStage, inputs: Mapping[str, Path], *, few_shot: bool = True) -> Thinker:
    """The stage's model as a thinker; with `collate.baselines.shots`, after worked examples of the rationale data that
    overlap with no question of collate.decontaminate.

    Raises UserError for fewer examples than are to be shown.
    """
    method, own = config.collate, config.collate.baselines
    examples: tuple[Task, ...] = ()
    if few_shot and own.shots:
        given = rationale_rows(config, inputs)
        given = clean(config, given, None) if config.benchmarks else given
        if len(given) < own.shots:
            raise UserError(f"collate.baselines.shots={own.shots}, but the rationale data have {len(given)} rows")
        examples = tuple(random.Random(number("shots", config.seed)).sample(given, own.shots))
    return Thinker("baseline", method.prompts, read, method.max_tokens, own.answer_tokens, method.top_p, examples)


def start_model(config: CollateStage, inputs: Mapping[str, Path]) -> Model:
    """The model in inputs["model"], or config.model, as the one member of a pool."""
    if "model" in inputs:
        return member("baseline", inputs["model"], config.model)
    base = config.model
    return Model(
        name="baseline", path=base.path, revision=base.revision, dtype=base.dtype,
        trust_remote_code=base.trust_remote_code,
    )  # fmt: skip


def _prompt(family: str, instruction: str, thought: Thought, *, bare: bool) -> str:
    """The user's turn that was answered last."""
    return (
        modes.answer(family, instruction)
        if bare
        else modes.answer_with_rationale(family, instruction, thought.rationale)
    )


def _row(row: Mapping[str, Any], thought: Thought, mark: Mark, prompt: str) -> dict[str, Any]:
    """One question as the evaluation stage writes it."""
    return {
        **{name: row[name] for name in ("task", "domain", "question_id", "instruction")},
        "gold": str(row["gold"]),
        "prompt_hash": hashlib.sha256(prompt.encode()).hexdigest()[:16],
        "prompt": prompt,
        "answer": thought.answer,
        "extracted": mark.extracted,
        "correct": mark.correct,
        "truncated": thought.truncated,
        "unparseable": mark.extracted is None,
        "guessed": mark.guessed,
        "failed": thought.failed,
        "tokens": thought.tokens,
    }
