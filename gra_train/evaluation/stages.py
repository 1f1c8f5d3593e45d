"""The evaluation stage: a model's answers to every question, and its scores with their doubt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gra_train.errors import UserError
from gra_train.evaluation.benchmarks import asking, names
from gra_train.evaluation.benchmarks.asking import Asked
from gra_train.evaluation.engine import answering
from gra_train.evaluation.questions import TASKS, questions, without_instructions
from gra_train.evaluation.statistics import Estimate, mean_of, share
from gra_train.locate import model_folder
from gra_train.records import read_jsonl
from gra_train.runs import log_metrics, write_json
from gra_train.schema import Evaluation
from gra_train.stages import EvaluateStage

AVERAGE = "average"
COLUMNS = ("task", "domain", "question_id", "instruction", "prompt_hash", "prompt", "answer", "extracted", "gold",
           "correct", "truncated", "unparseable", "guessed", "failed", "tokens")  # fmt: skip


def evaluate(config: EvaluateStage, inputs: Mapping[str, Path], out: Path) -> None:
    """inputs: model? (else config.model), rationales? -> questions.parquet, scores.json, protocol.json (how each of our
    benchmarks was asked, and what a reader of its score must know).

    With rationales every question is asked in COLLATE's mode [I;R]->A with the provider's rationale, and the bare
    answer is read; otherwise the instruction is the prompt and the answer follows `####`.
    Raises UserError for a missing rationale, an unknown task or a model that cannot be loaded.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from gra_train.evaluation.harness import ask

    written = inputs.get("rationales")
    evaluation = config.evaluation
    if written and (foreign := without_instructions(evaluation)):
        raise UserError(
            f"evaluation.tasks: {', '.join(foreign)} cannot be asked with rationales: lm-eval's own tasks bring their "
            f"own prompts. Those can: {', '.join([*TASKS, *names()])}, or a benchmark file of one's own."
        )
    benchmarks = [asking.asked(task, evaluation, rationales=bool(written)) for task in asking.ours(evaluation)]
    asked = with_prompts(questions(evaluation), config.prompts, written, benchmarks, evaluation)
    template = "mini_rationale" if written else "mini"
    with _answering(config, inputs.get("model"), out) as lm:
        rows = ask(lm, asked, evaluation, benchmarks, template=template)
    if without := {q["instruction"] for q in (read_jsonl(written / "test.jsonl") if written else ()) if "failed" in q}:
        rows = [row | {"failed": row["failed"] or row["instruction"] in without} for row in rows]
    table = {column: [row[column] for row in rows] for column in COLUMNS}
    pq.write_table(pa.table(table), out / "questions.parquet")
    write_json(out / "protocol.json", {one.name: one.told(evaluation.protocol) for one in benchmarks})
    scores = summarise(rows, config.evaluation.confidence)
    write_json(out / "scores.json", scores)
    log_metrics(out, {f"score/{task}": entry["score"] for task, entry in scores.items()})


def with_prompts(
    asked: Sequence[Mapping[str, Any]],
    family: str,
    rationales: Path | None,
    benchmarks: Sequence[Asked] = (),
    evaluation: Evaluation | None = None,
) -> list[dict[str, Any]]:
    """The questions with the text of the user's turn: the benchmark's prompt, the instruction (of the miniature), or
    [I;R]->A with test.jsonl's rationale.

    Raises UserError where a question has no rationale, or a worked example is a question.
    """
    if rationales is None:
        ours: dict[tuple[str, str], dict[str, Any]] = {}
        for one in benchmarks:
            assert evaluation is not None
            mine = asking.with_prompts(one, [dict(row) for row in asked if row["task"] == one.name], evaluation)
            ours |= {(row["task"], row["question_id"]): row for row in mine}
        plain = ({**row, "prompt": row["instruction"]} for row in asked)
        return [ours.get((row["task"], row["question_id"]), row) for row in plain]
    from gra_train.collate import modes

    written = {row["instruction"]: row["rationale"] for row in read_jsonl(rationales / "test.jsonl")}
    missing = [row["instruction"] for row in asked if row["instruction"] not in written]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(asked)} questions have no rationale in this run, the first: {missing[0]!r}. "
            "Rationales and evaluation must name the same evaluation.tasks, split, questions and limit."
        )
    return [
        {**row, "prompt": modes.answer_with_rationale(family, row["instruction"], written[row["instruction"]])}
        for row in asked
    ]


def summarise(rows: Iterable[Mapping[str, Any]], confidence: float) -> dict[str, dict[str, Any]]:
    """Per task, and `average` (plain mean of the tasks): score, n, low, high, and counts: failed (not answered), and
    of the others unparseable, truncated, guessed."""
    by_task: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_task[row["task"]].append(row)
    scores, estimates = {}, []
    for task, answered in by_task.items():
        estimate = share(sum(row["correct"] for row in answered), len(answered), confidence)
        estimates.append(estimate)
        scores[task] = _entry(estimate, answered)
    everything = [row for answered in by_task.values() for row in answered]
    return scores | {AVERAGE: _entry(mean_of(estimates), everything)}


def _entry(estimate: Estimate, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "score": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": len(rows),
        "unparseable": sum(row["unparseable"] and not row["failed"] for row in rows),
        "truncated": sum(row["truncated"] for row in rows),
        "guessed": sum(row["guessed"] for row in rows),
        "failed": sum(row["failed"] for row in rows),
    }


@contextmanager
def _answering(config: EvaluateStage, result: Path | None, out: Path) -> Iterator[Any]:
    """The evaluated model as lm-eval's LM: HFLM, or through the chat layer, with a server of ours or somebody's."""
    from gra_train.evaluation.harness import local
    from gra_train.evaluation.served import served

    model = answering(config, str(result / "model") if result else "")
    block = config.evaluation.batch_size
    if model is None:
        yield local(*_load(config, result), block)
        return
    ledger = Path(config.ledger) if config.ledger else out.parent / "ledger"
    with served(model, ledger=ledger, folder=out.parent, block=block, device=config.device) as lm:
        yield lm


def _load(config: EvaluateStage, result: Path | None) -> tuple[Any, Any]:
    """The model on its device, for inference, and its tokenizer (an adapter's folder loads with its base)."""
    import torch
    from transformers import AutoTokenizer

    from gra_train.weights import load_weights

    folder = str(result / "model") if result else model_folder(config.model.path)
    trust = config.model.trust_remote_code
    revision = "" if result or Path(folder).is_dir() else config.model.revision
    device = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust, revision=revision or "main")
        dtype = getattr(torch, config.evaluation.dtype)
        model = load_weights(folder, dtype=dtype, trust_remote_code=trust, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(f"the model {config.model.path or folder!r} cannot be loaded: {error}") from error
    return model.to(device).eval(), tokenizer
