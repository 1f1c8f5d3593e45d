"""The narrow door to evaluation: what is asked, how an answer is read, when it is right, how results are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gra_train import progress
from gra_train.errors import UserError
from gra_train.evaluation.answers import number, same_number
from gra_train.evaluation.benchmarks import asking
from gra_train.evaluation.questions import questions, without_instructions
from gra_train.evaluation.scoring import How, Mark, read_answer, score
from gra_train.evaluation.stages import COLUMNS, summarise
from gra_train.mini.problem import ANSWER_MARK
from gra_train.runs import log_metrics, write_json
from gra_train.schema import Evaluation

Reader = Callable[[str], str | None]
"""What an answer says, in the form in which answers are compared; None: unparseable."""


def read(text: str) -> str | None:
    """The answer in what was written after a rationale: all of it, or what follows the last ####; None for nothing."""
    return " ".join(text.rpartition(ANSWER_MARK)[2].split()) or None


def right(value: str | None, gold: str) -> bool:
    """Whether an answer that was read (by `read`) is the gold answer."""
    return value is not None and value == read(gold)


def fits(answer: str, gold: str) -> bool:
    """Whether an answer to a training task is its gold answer: as `read` reads both, or both as one number."""
    told, wanted = number(answer).value, number(gold)
    return right(read(answer), gold) or (wanted.how == "alone" and same_number(told, wanted.value))


@dataclass(frozen=True)
class Questions:
    """The evaluation's questions (task, domain, question_id, instruction, gold), and how our benchmarks are read."""

    rows: list[dict[str, Any]]
    hows: dict[str, How]

    @classmethod
    def of(cls, evaluation: Evaluation) -> Questions:
        """Raises UserError for questions that are not at hand, or whose text is lm-eval's own."""
        if foreign := without_instructions(evaluation):
            raise UserError(
                f"evaluation.tasks: {', '.join(foreign)} cannot be answered by COLLATE's baselines: lm-eval's own "
                "tasks bring their own prompts. Name benchmarks of ours, or files of your own."
            )
        ours = [asking.asked(task, evaluation, rationales=True) for task in asking.ours(evaluation)]
        return cls(questions(evaluation), {one.name: one.how for one in ours})

    def reader(self, row: Mapping[str, Any]) -> Reader:
        """How answers to a question are read. What follows no rules but its own (ifeval) is taken as it stands."""
        how = self.hows.get(row["task"])
        if how is None or how.kind == "ifeval":
            return read
        return lambda text: read_answer(how, row, text).value

    def mark(self, answers: Sequence[str]) -> list[Mark]:
        """The marks of one answer to each question, in order."""
        marks: list[Mark | None] = [None] * len(self.rows)
        with progress.task("judging", total=len(self.rows), unit="answers") as bar:
            for task in dict.fromkeys(row["task"] for row in self.rows):
                places = [i for i, row in enumerate(self.rows) if row["task"] == task]
                if how := self.hows.get(task):
                    rows, texts = [self.rows[i] for i in places], [answers[i] for i in places]
                    found = score(how, rows, texts, on_done=bar.advance)
                else:
                    values = [read(answers[i]) for i in places]
                    golds = [str(self.rows[i]["gold"]) for i in places]
                    found = [Mark(right(*pair), pair[0]) for pair in zip(values, golds, strict=True)]
                for i, one in zip(places, found, strict=True):
                    marks[i] = one
        return [one for one in marks if one is not None]


def write_results(rows: Sequence[Mapping[str, Any]], confidence: float, out: Path) -> None:
    """questions.parquet and scores.json, as the evaluation stage writes them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({column: [row[column] for row in rows] for column in COLUMNS}), out / "questions.parquet")
    scores = summarise(rows, confidence)
    write_json(out / "scores.json", scores)
    log_metrics(out, {f"score/{task}": entry["score"] for task, entry in scores.items()})
