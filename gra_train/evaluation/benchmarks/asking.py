"""What a run asks of our benchmarks: every question with its prompt, its worked examples and how it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gra_train.errors import UserError
from gra_train.evaluation.benchmarks import Benchmark, Protocol, benchmark, is_ours
from gra_train.evaluation.benchmarks.rows import (
    HUB,
    contexts,
    find,
    load_questions,
    render,
    worked_examples,
)
from gra_train.evaluation.sandbox import unavailable
from gra_train.evaluation.scoring import How, refuse_unsandboxed
from gra_train.schema import Evaluation


@dataclass(frozen=True)
class Asked:
    """How a run asks one benchmark. shots: worked examples as turns, {prompt, gold}; by_likelihood: choices are scored.

    source: "file", or the Hub's name. notes: what a reader of the scores must know.
    """

    benchmark: Benchmark
    how: How
    shots: list[dict[str, str]]
    by_likelihood: bool
    max_tokens: int
    source: str
    notes: list[str]

    @property
    def name(self) -> str:
        return self.benchmark.name

    def told(self, protocol: str) -> dict[str, Any]:
        """How it was asked, as plain data: what a reader of its score must know."""
        notes = list(self.notes)
        if self.benchmark.kind == "ifeval":
            from gra_train.evaluation.instructions import tokenizer

            notes.append(f"Sentences and words were counted by {tokenizer()}.")
        return {
            "protocol": protocol,
            "answers": "choices scored by likelihood" if self.by_likelihood else "written",
            "shots": len(self.shots),
            "max_tokens": None if self.by_likelihood else self.max_tokens,
            "source": self.source,
            "unsandboxed": bool(self.benchmark.kind == "code" and unavailable()),
            "notes": notes,
        }


def reads_questions(evaluation: Evaluation) -> tuple[str, ...]:
    """The settings that decide which questions a run asks: what a stage that only writes rationales for them reads."""
    more = ("protocol", "data_dir", "sources") if ours(evaluation) else ()
    return ("tasks", "limit", "split", "questions", *more)


def ours(evaluation: Evaluation) -> list[str]:
    """The tasks of a run that are benchmarks of ours."""
    return [task for task in dict.fromkeys(evaluation.tasks) if is_ours(task)]


def questions(task: str, evaluation: Evaluation) -> list[dict[str, Any]]:
    """The first `evaluation.limit` questions of one of our benchmarks. UserError where they cannot be read."""
    found = benchmark(task)
    rows = load_questions(found, find(found, evaluation)["questions"], evaluation.limit)
    return [{"task": found.name, **row} for row in rows]


def asked(task: str, evaluation: Evaluation, *, rationales: bool = False) -> Asked:
    """How a run asks one of our benchmarks. Raises UserError where its worked examples are not at hand, and where
    programs cannot be run safely.

    rationales: in COLLATE's mode [I;R]->A, where the prompt is COLLATE's and the answer is read tolerantly.
    """
    found, where = benchmark(task), find(benchmark(task), evaluation)
    protocol = found.protocol(evaluation.protocol)
    place = where["questions"].path
    notes = [protocol.note, "" if place.startswith(HUB) else found.questions.note]
    how = How(found.kind, tuple(protocol.patterns), protocol.take, protocol.same)
    how = How(found.kind) if rationales else how
    if found.kind == "code":
        how = how._replace(program_seconds=evaluation.program_seconds, unsandboxed=evaluation.unsandboxed)
        refuse_unsandboxed(how)  # before a model is asked, not after
    return Asked(
        found,
        how,
        [] if rationales else worked_examples(found, where.get("shots"), _count(found, protocol, evaluation)),
        evaluation.choices == "likelihood" and found.likelihood is not None,
        evaluation.max_tokens or protocol.max_tokens,
        place.removeprefix(HUB) if place.startswith(HUB) else "file",
        [note for note in notes if note],
    )


def with_prompts(one: Asked, rows: Sequence[dict[str, Any]], evaluation: Evaluation) -> list[dict[str, Any]]:
    """The questions of a benchmark with their prompts. Raises UserError where a worked example is one of them."""
    found = one.benchmark
    told = contexts(found, find(found, evaluation).get("context"))
    template = found.protocol(evaluation.protocol).prompt or found.prompt
    if one.by_likelihood and found.likelihood:
        template = found.likelihood.prompt or template
    asked = [{**row, "prompt": render(template, {**row, "context": told.get(row["domain"], "")})} for row in rows]
    shown = {shot["prompt"] for shot in one.shots}
    if twice := [row["question_id"] for row in asked if row["prompt"] in shown]:
        raise UserError(
            f"{found.name}: worked examples are test questions ({', '.join(twice[:3])}): take them from the training "
            "set (the benchmark's `shots`)."
        )
    return asked


def located(evaluation: Evaluation) -> Evaluation:
    """The evaluation with every source written down: what a run's identity counts, by content.

    The miniature's and lm-eval's tasks need none. Raises UserError for an unknown benchmark or source.
    """
    found = dict(evaluation.sources)
    for task in ours(evaluation):
        one = benchmark(task)
        for part, where in find(one, evaluation).items():
            found.setdefault(one.name if part == "questions" else f"{one.name}.{part}", where)
    return type(evaluation)(**{**vars(evaluation), "sources": found})


def _count(found: Benchmark, protocol: Protocol, evaluation: Evaluation) -> int:
    return protocol.shots if evaluation.shots is None else evaluation.shots
