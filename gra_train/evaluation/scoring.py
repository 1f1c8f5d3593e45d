"""Reading and judging answers that are written already: many at once, in worker processes or in the sandbox.

    marks = score(kind, questions, answers, protocol)      # in order

lm-eval's own command line scores one answer at a time through `process_results`, by the same functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from gra_train.errors import UserError
from gra_train.evaluation import answers as reading
from gra_train.evaluation.answers.found import Found
from gra_train.evaluation.answers.maths import normal


class Mark(NamedTuple):
    """extracted: None where nothing could be read. guessed: read from the last thing of its kind."""

    correct: bool
    extracted: str | None
    guessed: bool = False
    detail: str = ""


class How(NamedTuple):
    """How answers are read and compared: a benchmark's kind and its protocol's patterns; limits of programs."""

    kind: str
    patterns: tuple[str, ...] = ()
    take: str = "last"
    same: str = ""
    program_seconds: float = 10.0
    unsandboxed: bool = False


def score(
    how: How,
    questions: Sequence[Mapping[str, Any]],
    answers: Sequence[str],
    *,
    on_done: Callable[[int], None] = lambda n: None,
) -> list[Mark]:
    """Marks of answers, in order. Raises UserError where programs cannot be run safely (kind code)."""
    if how.kind == "ifeval":
        from gra_train.evaluation.instructions import follow

        return follow(questions, answers, on_done=on_done)
    found = [read_answer(how, question, answer) for question, answer in zip(questions, answers, strict=True)]
    if how.kind == "code":
        return _programs(how, questions, found, on_done)
    golds = [str(question["gold"]) for question in questions]
    if how.kind == "formula" and how.same != "text":
        from gra_train.evaluation.answers.many import same_formulas

        pairs = [(gold, one.value) for gold, one in zip(golds, found, strict=True)]
        right = [bool(same) for same in same_formulas(pairs, on_done=on_done)]
    else:
        right = [_same(how, gold, one.value) for gold, one in zip(golds, found, strict=True)]
        on_done(len(right))
    return [Mark(ok, one.value, one.guessed) for ok, one in zip(right, found, strict=True)]


def read_answer(how: How, question: Mapping[str, Any], answer: str) -> Found:
    """What an answer says. Kind ifeval has nothing to read."""
    if how.patterns:
        return Found(_matched(how.patterns, how.take, answer))
    choices = list(question.get("choices") or ())
    if how.kind == "letter":
        return reading.letter(answer, choices, letters="ABCDEFGHIJ"[: len(choices) or 5])
    if how.kind == "code":
        points = question.get("entry_points") or [""]
        return reading.code(answer, points[0], prompt=question.get("beginning") or "")
    return {"number": reading.number, "formula": reading.formula, "text": reading.text}[how.kind](answer)


def _matched(patterns: Sequence[str], take: str, answer: str) -> str | None:
    for pattern in patterns:
        if matches := list(_compiled(pattern).finditer(answer)):
            match = matches[-1 if take == "last" else 0]
            return next((g for g in match.groups() if g is not None), match[0]).strip() or None
    return None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _same(how: How, gold: str, value: str | None) -> bool:
    if value is None:
        return False
    if how.kind == "number":
        return reading.same_number(reading.number(f"#### {gold}").value, reading.number(f"#### {value}").value)
    if how.kind == "letter":
        return value.upper() == gold.strip("(). ").upper()
    if how.kind == "formula":
        return normal(gold) == normal(value)
    return reading.same_text(gold, value)


def _programs(
    how: How, questions: Sequence[Mapping[str, Any]], found: Sequence[Found], on_done: Callable[[int], None]
) -> list[Mark]:
    """Programs against their tests, in the sandbox."""
    from gra_train.evaluation.sandbox import Limits, Sandbox

    why = refuse_unsandboxed(how)
    jobs = [
        (one.value or "", question["tests"], tuple(question.get("entry_points") or ()))
        for question, one in zip(questions, found, strict=True)
    ]
    with Sandbox(Limits(seconds=how.program_seconds), confined=not why) as sandbox:
        verdicts = sandbox.check_all(jobs, on_done=on_done)
    return [
        Mark(verdict.passed and one.value is not None, one.value, one.guessed, verdict.reason)
        for verdict, one in zip(verdicts, found, strict=True)
    ]


def refuse_unsandboxed(how: How) -> str:
    """Why programs have no sandbox here ("": they have). UserError where that was not allowed by name."""
    from gra_train.evaluation.sandbox import unavailable

    why = unavailable()
    if why and not how.unsandboxed:
        raise UserError(
            f"the programs of this benchmark cannot be run safely here: {why}. Install it, leave the benchmark "
            "out, or, if you answer for what a model may write, set evaluation.unsandboxed=true."
        )
    return why


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's hook: the score of one answer. `doc` holds the question and, in `how`, how it is read (JSON)."""
    import json

    how = How(**json.loads(doc["how"]))
    how = how._replace(patterns=tuple(how.patterns))
    return {"correct": float(score(how, [json.loads(doc["question"])], [results[0]])[0].correct)}


def process_choices(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """lm-eval's hook for choices that are scored by likelihood."""
    return {"correct": float(likeliest(doc["choices"], results, per_character=doc["per_character"]) == doc["gold"])}


def likeliest(choices: Sequence[str], results: Sequence[tuple[float, bool]], *, per_character: bool) -> int:
    """The choice of the highest log-likelihood (of texts of unequal length: per character, lm-eval's acc_norm)."""
    lengths = [max(len(choice), 1) if per_character else 1 for choice in choices]
    values = [ll / length for (ll, _), length in zip(results, lengths, strict=True)]
    return max(range(len(values)), key=values.__getitem__)
