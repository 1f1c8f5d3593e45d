"""The questions and the worked examples of a benchmark, from files or from the Hub, as plain dicts.

    where = find(benchmark("gsm8k"), evaluation)   # part -> DataFile
    for question in load_questions(benchmark("gsm8k"), where["questions"]): ...

A question has question_id (unique in its benchmark), domain, question, instruction (the question with its choices: what
COLLATE writes a rationale for), gold, choices, and whatever else the benchmark's rows name (tests, entry_point, ...).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from hashlib import blake2b
from keyword import iskeyword
from pathlib import Path
from typing import Any

from gra_train.data.files import read_rows
from gra_train.data.hub import at_hand
from gra_train.errors import UserError
from gra_train.evaluation.benchmarks import Benchmark, Source
from gra_train.schema import DataFile, Evaluation

HUB = "hub:"
LETTERS = "ABCDEFGHIJ"


def data_dir(evaluation: Evaluation) -> str:
    """The folder of data sets: the setting, else $GRA_DATA_DIR, else none ("")."""
    return evaluation.data_dir or os.environ.get("GRA_DATA_DIR", "")


def find(found: Benchmark, evaluation: Evaluation) -> dict[str, DataFile]:
    """Where a benchmark's "questions", "shots" and "context" are, and its own "benchmark" file where it is not ours.

    `evaluation.sources` decides ("gsm8k", "gsm8k.shots", ...), then the folder of data sets, then the Hub. A part that
    comes with lm-eval has no entry. Raises UserError where the questions are nowhere.
    """
    name, folder = found.name, data_dir(evaluation)
    protocol = found.protocol(evaluation.protocol)
    questions = replace(found.questions, split=protocol.hub_split or found.questions.split)
    parts = {"questions": questions, "shots": found.shots}
    where = {
        part: evaluation.sources.get(name if part == "questions" else f"{name}.{part}") or locate(name, source, folder)
        for part, source in parts.items()
        if source and not source.given
    }
    if found.context and (known := evaluation.sources.get(f"{name}.context")):
        where["context"] = known
    elif found.context and folder and (file := Path(folder).expanduser() / found.context.file).is_file():
        where["context"] = DataFile(path=str(file))
    if found.path:
        where["benchmark"] = DataFile(path=found.path)
    return where


def locate(name: str, source: Source, folder: str) -> DataFile:
    """The file of a source in `folder`, else its place on the Hub. Raises UserError where it has neither."""
    file = Path(folder).expanduser() / source.file
    if folder and source.file and file.is_file():
        return DataFile(path=str(file))
    if not source.hub:
        there = f"{folder} has none" if folder else "no folder is named (evaluation.data_dir, or $GRA_DATA_DIR)"
        raise UserError(f"{name}: its rows are in a file {source.file!r} of a folder of data sets, and {there}.")
    return DataFile(path=HUB + source.hub, split=source.split)


def load_questions(found: Benchmark, where: DataFile, limit: int | None = None) -> list[dict[str, Any]]:
    """The questions of a benchmark, in their order, the first `limit`. Raises UserError where they cannot be read."""
    questions: list[dict[str, Any]] = []
    instruction = _template(found.instruction)
    for number, fields in _fields(found.questions, where):
        if limit is not None and len(questions) >= limit:
            break
        row = {"question_id": str(number), "domain": "", "choices": [], **fields}
        row["question_id"], row["domain"] = str(row["question_id"]), str(row["domain"])
        row["gold"] = _gold(row.get("gold", ""))
        row["instruction"] = row.get("instruction") or instruction.render(row).strip()
        questions.append(row)
    if not questions:
        raise UserError(f"{found.name}: {where.path} has no questions.")
    return questions


def question_texts(found: Benchmark, where: DataFile) -> Iterator[tuple[str, str]]:
    """(question_id, the question without its choices) of every question: what training data are kept apart from."""
    for number, fields in _fields(found.questions, where, ("question_id", "question")):
        name = fields.get("question_id")
        yield str(number if name is None else name), str(fields["question"])


def worked_examples(found: Benchmark, where: DataFile | None, count: int) -> list[dict[str, str]]:
    """The first `count` worked examples: [{prompt, gold}] as turns. Raises UserError where there are too few."""
    if not count:
        return []
    if found.shots is None:
        raise UserError(f"evaluation.shots={count}: {found.name} has no worked examples.")
    examples: list[dict[str, str]] = []
    prompt, response = _template(found.prompt), _template(found.shot)
    for _, fields in _fields(found.shots, where or DataFile()):
        if len(examples) == count:
            break
        row = {"domain": "", "choices": [], **fields}
        row["gold"] = _gold(row.get("gold", ""))
        examples.append({"prompt": prompt.render(row).strip(), "gold": response.render(row).strip()})
    if len(examples) < count:
        raise UserError(f"{found.name}: {count} worked examples are asked for, and there are {len(examples)}.")
    return examples


def as_training(found: Benchmark, row: Mapping[str, Any]) -> dict[str, str] | None:
    """A row of the benchmark's training split as {instruction, answer}, in the words in which its questions are asked
    (without those on the form of the answer). None: its columns are neither the Hub's nor the file's."""
    from jinja2 import UndefinedError

    told = {key: value for key, value in row.items() if key.isidentifier()} | {"row": row}
    for hub in (True, False):
        try:
            values = {name: _expression(text)(**told) for name, text in found.questions.fields(hub=hub).items()}
        except (AttributeError, IndexError, KeyError, TypeError, UndefinedError, ValueError):
            continue  # made of columns that this row has not
        if all(values.get(name) not in (None, "", []) for name in ("question", "gold")):
            whole = {"domain": "", "choices": [], **values, "gold": _gold(values["gold"])}
            return {"instruction": render(found.instruction, whole), "answer": whole["gold"]}
    return None


def contexts(found: Benchmark, where: DataFile | None) -> Mapping[str, str]:
    """domain -> the text that the prompt shows as {{ context }}."""
    if found.context is None:
        return {}
    context = found.context
    if where is None:
        texts = _lm_eval_contexts(context.lm_eval)
    else:
        texts = {str(row[context.by]): str(row[context.text]) for _, row in _columns(where)}
    return {name: re.sub(context.drop, "", text).strip() for name, text in texts.items()}


def render(template: str, row: Mapping[str, Any]) -> str:
    """A prompt."""
    return _template(template).render(row).strip()


def _fields(source: Source, where: DataFile, only: Sequence[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number, the fields of a row) of a source, at a place; the place decides which columns are expected."""
    hub = where.path.startswith(HUB)
    named = {name: text for name, text in source.fields(hub=hub).items() if only is None or name in only}
    wanted = {name: _expression(text) for name, text in named.items()}
    condition = _expression(source.where) if source.where else None
    rows = enumerate(source.given) if source.given else _columns(where)
    for number, row in rows:
        told = {key: value for key, value in row.items() if key.isidentifier()} | {"row": row}
        if condition and not condition(**told):
            continue
        found = {name: expression(**told) for name, expression in wanted.items()}
        if empty := [name for name in ("question", "gold") if name in wanted and found[name] in (None, "")]:
            raise UserError(
                f"{where.path}, row {number + 1}: nothing to be read as {empty[0]} "
                f"({source.fields(hub=hub)[empty[0]]}); its columns are {', '.join(row)}."
            )
        yield number, found


def _columns(where: DataFile) -> Iterator[tuple[int, dict[str, Any]]]:
    if where.path.startswith(HUB):
        yield from enumerate(_hub_rows(where))
        return
    for row in read_rows(where):
        if row.problem or row.values is None:
            raise UserError(f"{where.path}, {row.place}: {row.problem}; expected a question in every row.")
        yield row.number, row.values


def _hub_rows(where: DataFile) -> Iterator[dict[str, Any]]:
    """Rows of a data set on the Hub; of "name:*" those of all its configurations, which each row names in `subset`."""
    from datasets import get_dataset_config_names, load_dataset

    name, _, subset = where.path.removeprefix(HUB).partition(":")
    subsets = _from_hub(name, where.split, partial(get_dataset_config_names, name)) if subset == "*" else [subset]
    for one in subsets:
        for row in _from_hub(name, where.split, partial(load_dataset, name, one or None, split=where.split)):
            yield {**row, "subset": one}


def _from_hub(name: str, split: str, load: Callable[[], Any]) -> Any:
    """What `load` finds. Raises UserError."""
    try:
        with at_hand():
            return load()
    except Exception as error:  # the library raises whatever its network layer raises
        raise UserError(
            f"the questions in {name!r} (split {split!r}) cannot be loaded from the Hub "
            f"({type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}). Check the network, or name a "
            "folder that has them as a file (evaluation.data_dir, or $GRA_DATA_DIR)."
        ) from None


@cache
def _lm_eval_contexts(folder: str) -> Mapping[str, str]:
    """The worked examples that lm-eval ships for a group of tasks, by the end of their names."""
    import lm_eval
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: None)
    found = {}
    for file in sorted((Path(lm_eval.__file__).parent / "tasks" / folder).glob("[!_]*.yaml")):
        task = yaml.load(file.read_text(), Loader)
        shots = task.get("fewshot_config", {}).get("samples", [])
        worked = [f"Q: {shot['input']}\nA: Let's think step by step.\n{shot['target']}" for shot in shots]
        found[file.stem] = "\n\n".join([str(task.get("description", "")).strip(), *worked]).strip()
    return found


def _gold(value: Any) -> str:
    """An index is a choice's letter."""
    return LETTERS[value] if isinstance(value, int) and not isinstance(value, bool) else str(value).strip()


@cache
def _environment() -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters |= {
        "lettered": lambda choices: "\n".join(f"{x}. {c}" for x, c in zip(LETTERS, choices, strict=False)),
        "letter": lambda index: LETTERS[int(index)],
        "without": lambda text, pattern: re.sub(pattern, "", text),
        "find": lambda text, pattern: (re.search(pattern, text) or [""])[0],
        "finds": lambda text, pattern: re.findall(pattern, text),
        "boxed": _boxed,
        "shuffled": _shuffled,
    }
    return environment


def _boxed(text: str) -> str:
    from gra_train.evaluation.answers.found import boxed

    return boxed(text) or ""


def _shuffled(choices: Sequence[str], key: str) -> list[str]:
    """In an order that `key` decides: the right one must not always be the first, and no seed may move it."""
    return sorted(choices, key=lambda choice: blake2b(f"{key}\x1f{choice}".encode(), digest_size=8).digest())


@cache
def _expression(text: str) -> Any:
    """The value of `text` for a row; None where it names what the row has not."""
    from jinja2 import TemplateSyntaxError

    if text.isidentifier() and not iskeyword(text) and text not in ("true", "false", "none"):
        return lambda **told: told.get(text)  # a column's name, as most are: without Jinja, in a tenth of the time
    try:
        return _environment().compile_expression(text, undefined_to_none=True)
    except TemplateSyntaxError as error:
        raise UserError(f"a benchmark's expression is not valid: {text!r} ({error}).") from None


@cache
def _template(text: str) -> Any:
    from jinja2 import TemplateSyntaxError

    try:
        return _environment().from_string(text)
    except TemplateSyntaxError as error:
        raise UserError(f"a benchmark's prompt is not a valid template: {text!r} ({error}).") from None
