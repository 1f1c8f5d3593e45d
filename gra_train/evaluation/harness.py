"""Asking a model the questions, with lm-eval as the engine; one plain row per question comes back.

Our tasks are written for it into a folder (lm_tasks.py); lm-eval's other tasks are evaluated by their names. Answers to
our benchmarks are judged afterwards, all at once (scoring.py); lm-eval's command line judges them one by one, to the
same scores.

What is cut: `simple_evaluate` spends 0.7 s per model on a report of the environment (pip, compilers), so `evaluate`,
one level below, is called (a test compares the two); the index of lm-eval's 14,000 files, seven seconds, is built
only when one of its tasks is asked for; no bootstrap inside lm-eval.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gra_train import progress
from gra_train.errors import UserError
from gra_train.evaluation.benchmarks.asking import Asked
from gra_train.evaluation.lm_tasks import load_tasks, task_manager, write_tasks
from gra_train.evaluation.questions import TASKS
from gra_train.evaluation.scoring import likeliest, score
from gra_train.schema import Evaluation


class Written(NamedTuple):
    """What became of an answer: its tokens, whether it was cut at the cap, whether the call failed (no answer)."""

    tokens: int
    truncated: bool = False
    failed: bool = False


INVALID = "[invalid]"
"""What lm-eval's filters say when nothing could be extracted."""
MINI_TOKENS = 512
"""The miniature's longest answer by default."""


def ask(
    lm: Any,
    asked: Sequence[Mapping[str, Any]],
    evaluation: Evaluation,
    benchmarks: Sequence[Asked] = (),
    *,
    template: str = "mini",
) -> list[dict[str, Any]]:
    """Let a model answer, greedily.

    lm: a model of lm-eval's, with two things more: `written`, which says of a prompt what became of its answer, and
    `bar`, which is set here and told of progress. `check`, if it has one, refuses tasks that it cannot be asked.
    asked: questions with their `prompt`, the text of the user's turn; the chat template is put around it here.
    benchmarks: how those of our benchmarks are asked and read. template: the YAML in tasks/ for the miniature's.
    Returns rows with task, domain, question_id, instruction, prompt (as the model saw it), prompt_hash, answer,
    extracted (None: unparseable), gold, correct, truncated (cut at the cap), unparseable, guessed, failed, tokens.
    Raises UserError for an unknown task, for a prompt that leaves no room for an answer, and for a task of lm-eval's
    whose metric is more than right or wrong.
    """
    ours = {one.name: one for one in benchmarks}
    with tempfile.TemporaryDirectory(prefix="gra-train-evaluation-") as folder:
        names = write_tasks(Path(folder), asked, evaluation, benchmarks, template=template)
        tasks = load_tasks(task_manager(Path(folder), names), names)
        if hasattr(lm, "check"):
            lm.check(tasks)
        room = _room(lm, asked, benchmarks)
        for name, task in tasks.items():
            cap = ours[name].max_tokens if name in ours else evaluation.max_tokens
            cap = cap or (MINI_TOKENS if name in TASKS else task.config.generation_kwargs.get("max_gen_toks", 512))
            if name in ours:
                task.set_config("process_results", lambda doc, results: {"correct": 0.0})  # judged below, at once
            if task.OUTPUT_TYPE == "generate_until":
                task.set_config("generation_kwargs", {"max_gen_toks": min(cap, room)}, update=True)
        total = len(asked) if all(name in TASKS or name in ours for name in tasks) else None
        samples = _evaluate(lm, tasks, evaluation.limit, total)
    by_id = {(row["task"], row["question_id"]): row for row in asked}
    rows: list[dict[str, Any]] = []
    for name in tasks:
        if name in ours:
            rows += _judged(ours[name], samples[name], lm.written, by_id)
        else:
            rows += [_row(name, sample, lm.written, by_id) for sample in samples[name]]
    return rows


def _evaluate(
    lm: Any, tasks: Mapping[str, Any], limit: int | None, total: int | None
) -> dict[str, list[dict[str, Any]]]:
    import lm_eval

    with progress.task("questions", total=total, unit="questions") as bar:
        lm.bar = bar
        found = lm_eval.evaluate(
            lm,
            {"tasks": dict(tasks), "groups": {}, "group_map": {}},
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=has_chat_template(lm),
            fewshot_as_multiturn=True,
        )
    return {task: _of_first_filter(logged) for task, logged in found["samples"].items()}


def _of_first_filter(logged: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One sample per question: lm-eval logs each question once for every filter, all of the first filter first."""
    return [sample for sample in logged if sample["filter"] == logged[0]["filter"]]


def has_chat_template(lm: Any) -> bool:
    """A model behind a server has its own, always."""
    tokenizer = getattr(lm, "tokenizer", None)
    return tokenizer is None or getattr(tokenizer, "chat_template", None) is not None


def _room(lm: Any, asked: Sequence[Mapping[str, Any]], benchmarks: Sequence[Asked]) -> int:
    """Tokens that the longest prompt leaves for an answer. Raises UserError where it leaves none."""
    tokenizer = getattr(lm, "tokenizer", None)
    if tokenizer is None or not hasattr(tokenizer, "apply_chat_template"):
        return 1 << 30  # a server counts for itself
    shots = {
        one.name: [
            turn
            for shot in one.shots
            for turn in ({"role": "user", "content": shot["prompt"]}, {"role": "assistant", "content": shot["gold"]})
        ]
        for one in benchmarks
    }
    turns = [[*shots.get(row["task"], ()), {"role": "user", "content": row["prompt"]}] for row in asked]
    if not turns:
        return int(lm.max_length)
    texts = (
        tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        if tokenizer.chat_template
        else ["\n\n".join(turn["content"] for turn in one) for one in turns]
    )
    longest = max(map(len, tokenizer(texts)["input_ids"]))
    if longest >= lm.max_length:
        raise UserError(
            f"the longest question has {longest} tokens, and the model reads {lm.max_length}: nothing is left for "
            "an answer. Use a model with a longer context (max_position_embeddings), or fewer worked examples "
            "(evaluation.shots=0)."
        )
    return int(lm.max_length) - longest


def local(model: Any, tokenizer: Any, batch_size: int) -> Any:
    """A loaded causal model as lm-eval's HFLM, which also notes for every prompt how many tokens were written and
    whether they were cut. (HFLM given a name in place of a model would leave an Accelerator behind in the process.)"""
    from lm_eval.models.huggingface import HFLM

    ends = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}

    class Recorder(HFLM):
        def tok_batch_encode(self, strings, *args, **kwargs):
            self.asking = strings
            return super().tok_batch_encode(strings, *args, **kwargs)

        def _model_generate(self, context, max_length, stop, **kwargs):
            output = super()._model_generate(context, max_length, stop, **kwargs)
            room = max_length - context.shape[1]
            for prompt, row in zip(self.asking, output[:, context.shape[1] :].tolist(), strict=True):
                length = next((i for i, token in enumerate(row) if token in ends), None)
                if length is None:  # no end of text: either a stop string ended it, or the cap
                    text = self.tokenizer.decode(row)
                    before = min((text.find(s) for s in stop if s and s in text), default=len(text))
                    stopped = before < len(text)
                    kept = self.tokenizer(text[:before], add_special_tokens=False)["input_ids"] if stopped else row
                    self.written[prompt] = Written(len(kept), not stopped and len(row) >= room)
                else:
                    self.written[prompt] = Written(length)
            self.bar.advance(len(output))
            return output

    lm = Recorder(model, tokenizer=tokenizer, batch_size=batch_size, backend="causal")
    lm.written = {}
    return lm


def _judged(
    one: Asked,
    samples: Sequence[Mapping[str, Any]],
    written: Mapping[str, Written],
    asked: Mapping[tuple[str, str], Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The answers to one of our benchmarks, judged."""
    questions = [asked[one.name, sample["doc"]["question_id"]] for sample in samples]
    if one.by_likelihood:
        return [_chosen(one, sample, question) for sample, question in zip(samples, questions, strict=True)]
    answers = [sample["resps"][0][0] for sample in samples]
    with progress.task("judging", total=len(answers), unit="answers") as bar:
        marks = score(one.how, questions, answers, on_done=bar.advance)
    return [
        _plain(question, sample, written) | {
            "answer": answer,
            "extracted": mark.extracted,
            "gold": str(question["gold"]),
            "correct": mark.correct,
            "unparseable": mark.extracted is None,
            "guessed": mark.guessed,
        }
        for question, sample, answer, mark in zip(questions, samples, answers, marks, strict=True)
    ]  # fmt: skip


def _chosen(one: Asked, sample: Mapping[str, Any], question: Mapping[str, Any]) -> dict[str, Any]:
    """A question whose choices were scored: nothing is written, so nothing can be unparseable or cut."""
    doc = sample["doc"]
    place = likeliest(doc["choices"], sample["filtered_resps"], per_character=doc["per_character"])
    letter = chr(ord("A") + place)
    return _plain(question, sample, {}) | {
        "answer": str(doc["choices"][place]),
        "extracted": letter,
        "gold": str(question["gold"]),
        "correct": letter == question["gold"],
        "unparseable": False,
        "guessed": False,
    }


def _plain(question: Mapping[str, Any], sample: Mapping[str, Any], written: Mapping[str, Written]) -> dict[str, Any]:
    prompt = sample["arguments"][0][0]
    tokens, truncated, failed = written.get(prompt, Written(0))
    return {
        "task": question["task"],
        "domain": question["domain"],
        "question_id": question["question_id"],
        "instruction": question["instruction"],
        "prompt_hash": hashlib.sha256(prompt.encode()).hexdigest()[:16],
        "prompt": prompt,
        "truncated": truncated,
        "failed": failed,
        "tokens": tokens,
    }


def _row(
    task: str,
    sample: Mapping[str, Any],
    written: Mapping[str, Written],
    asked: Mapping[tuple[str, str], Mapping[str, Any]],
) -> dict[str, Any]:
    """One question of lm-eval's log. For lm-eval's own tasks: exact_match, accuracy, or else its first metric."""
    answer, extracted = sample["resps"][0][0], sample["filtered_resps"][0]
    question_id = str(sample["doc"].get("question_id", sample["doc_id"]))
    bare = {"task": task, "domain": "", "question_id": question_id, "instruction": ""}
    metric = next(m for m in ("exact_match", "acc", *sample["metrics"]) if m in sample["metrics"])
    unparseable = isinstance(extracted, str) and (extracted == INVALID or not extracted.strip())
    return _plain(asked.get((task, question_id), bare), sample, written) | {
        "answer": answer if isinstance(answer, str) else "",
        "extracted": None if unparseable else str(extracted),
        "gold": str(sample["target"]),
        "correct": _is_right(task, metric, sample[metric]),
        "unparseable": unparseable,
        "guessed": False,
    }


def _is_right(task: str, metric: str, value: Any) -> bool:
    """Whether a question counts as right. Raises UserError for a metric that says more than that: every interval and
    test here is one of right and wrong answers."""
    import numpy as np

    if np.ndim(value) or value not in (0, 1):
        raise UserError(
            f"evaluation.tasks: {task!r} cannot be reported: its metric {metric!r} gives a question {value}, where 0 "
            "(wrong) or 1 (right) was expected; rounding it would be a lie. Name another task (truthfulqa_mc1 in place "
            "of truthfulqa_mc2), or score this one with lm-eval's own program."
        )
    return bool(value)
