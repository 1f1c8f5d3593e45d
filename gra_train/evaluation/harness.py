"""Asking a model the questions, with lm-eval as the engine; one plain row per question comes back.

A run gets a temporary folder with one YAML file and one jsonl file per miniature task, which is what lm-eval's own
command line would take with --include_path. lm-eval's other tasks are evaluated by their names.

What is cut: `simple_evaluate` spends 0.7 s per model on a report of the environment (pip, compilers), so `evaluate`,
one level below, is called (a test compares the two); the index of lm-eval's 10,000 task files, ten seconds, is built
only when one of them is asked for; no bootstrap inside lm-eval. The model is loaded elsewhere and handed over, because
HFLM would otherwise leave an Accelerator behind in the process.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gra_train import progress
from gra_train.errors import UserError, nearest
from gra_train.evaluation.questions import TASKS
from gra_train.records import write_jsonl
from gra_train.schema import Evaluation

YAML = Path(__file__).parent / "tasks"
INVALID = "[invalid]"
"""What lm-eval's filters say when nothing could be extracted."""


def ask(
    model: Any, tokenizer: Any, asked: Sequence[Mapping[str, Any]], evaluation: Evaluation, *, template: str = "mini"
) -> list[dict[str, Any]]:
    """Let a loaded causal model answer; greedy, in batches of `evaluation.batch_size`.

    asked: questions with their `prompt`, the text of the user's turn; the chat template is put around it here.
    template: the YAML in tasks/ that says how an answer is read.
    Returns rows with task, domain, question_id, instruction, prompt (as the model saw it), prompt_hash, answer,
    extracted (None: unparseable), gold, correct, truncated (cut at the cap), unparseable, tokens (of the answer).
    Raises UserError for an unknown task and for a prompt that leaves no room for an answer.
    """
    with _tasks(asked, evaluation, template) as (manager, names):
        tasks = _load(manager, names)
        longest = _longest_prompt(tokenizer, asked)
        lm = _model(model, tokenizer, evaluation.batch_size)
        room = lm.max_length - longest
        if room < 1:
            raise UserError(
                f"the longest question has {longest} tokens, and the model reads {lm.max_length}: nothing is left for "
                "an answer. Use a model with a longer context (max_position_embeddings)."
            )
        cap = min(evaluation.max_tokens, room)
        for task in tasks.values():
            if task.OUTPUT_TYPE == "generate_until":
                task.set_config("generation_kwargs", {"max_gen_toks": cap}, update=True)
        total = len(asked) if all(name in TASKS for name in names) else None
        samples = _evaluate(lm, tasks, evaluation.limit, total)
    by_id = {(row["task"], row["question_id"]): row for row in asked}
    return [_row(task, sample, lm.written, by_id) for task in tasks for sample in samples[task]]


@contextmanager
def _tasks(
    asked: Sequence[Mapping[str, Any]], evaluation: Evaluation, template: str
) -> Iterator[tuple[Any, list[str]]]:
    """A task manager that knows this run's tasks, and their names."""
    import yaml
    from lm_eval.tasks import TaskManager

    names = list(dict.fromkeys(evaluation.tasks))
    foreign = [name for name in names if name not in TASKS]
    with tempfile.TemporaryDirectory(prefix="gra-train-evaluation-") as folder:
        root = Path(folder)
        for name in names:
            if name in TASKS:
                rows = [{k: row[k] for k in ("question_id", "prompt", "gold")} for row in asked if row["task"] == name]
                write_jsonl(root / f"{name}.jsonl", rows)
                task = {
                    "include": str(YAML / f"{template}.yaml"),
                    "task": name,
                    "dataset_kwargs": {
                        "data_files": {"test": str(root / f"{name}.jsonl")},
                        "cache_dir": f"{root}/cache",
                    },
                }
                (root / f"{name}.yaml").write_text(yaml.safe_dump(task))
        manager = TaskManager(include_path=str(root), include_defaults=bool(foreign))
        for name in foreign:
            if name not in manager.all_tasks:
                raise UserError(
                    f"evaluation.tasks: there is no task {name!r}.{nearest(name, [*TASKS, *manager.all_tasks])} "
                    f"Ours: {', '.join(TASKS)}; else any of lm-eval's (lm_eval ls tasks)."
                )
        yield manager, names


def _load(manager: Any, names: Sequence[str]) -> dict[str, Any]:
    tasks: dict[str, Any] = manager.load(list(names))["tasks"]
    for task in tasks.values():  # as simple_evaluate does
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=1234)
    return tasks


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
            apply_chat_template=lm.tokenizer.chat_template is not None,
        )
    samples: dict[str, list[dict[str, Any]]] = found["samples"]
    return samples


def _longest_prompt(tokenizer: Any, asked: Sequence[Mapping[str, Any]]) -> int:
    """In tokens, chat template included (0 without questions of ours)."""
    if not asked:
        return 0
    turns = [[{"role": "user", "content": row["prompt"]}] for row in asked]
    texts = (
        tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        if tokenizer.chat_template
        else [row["prompt"] for row in asked]
    )
    return max(map(len, tokenizer(texts)["input_ids"]))


def _model(model: Any, tokenizer: Any, batch_size: int) -> Any:
    """lm-eval's HFLM, which also notes for every prompt how many tokens were written and whether they were cut."""
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
                    self.written[prompt] = (len(kept), not stopped and len(row) >= room)
                else:
                    self.written[prompt] = (length, False)
            self.bar.advance(len(output))
            return output

    lm = Recorder(model, tokenizer=tokenizer, batch_size=batch_size, backend="causal")
    lm.written = {}
    return lm


def _row(
    task: str,
    sample: Mapping[str, Any],
    written: Mapping[str, tuple[int, bool]],
    asked: Mapping[tuple[str, str], Mapping[str, Any]],
) -> dict[str, Any]:
    """One question of lm-eval's log. For lm-eval's own tasks: its first filter, exact_match or accuracy."""
    prompt = sample["arguments"][0][0]
    answer, extracted = sample["resps"][0][0], sample["filtered_resps"][0]
    question_id = sample["doc"].get("question_id", str(sample["doc_id"]))
    ours = asked.get((task, question_id), {})
    metric = next(m for m in ("exact_match", "acc", *sample["metrics"]) if m in sample["metrics"])
    tokens, truncated = written.get(prompt, (0, False))
    unparseable = isinstance(extracted, str) and (extracted == INVALID or not extracted.strip())
    return {
        "task": task,
        "domain": ours.get("domain", ""),
        "question_id": question_id,
        "instruction": ours.get("instruction", ""),
        "prompt_hash": hashlib.sha256(prompt.encode()).hexdigest()[:16],
        "prompt": prompt,
        "answer": answer if isinstance(answer, str) else "",
        "extracted": None if unparseable else str(extracted),
        "gold": str(sample["target"]),
        "correct": bool(sample[metric]),
        "truncated": truncated,
        "unparseable": unparseable,
        "tokens": tokens,
    }
