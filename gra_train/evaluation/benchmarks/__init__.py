"""Benchmarks: one YAML file each says where the questions are, how they are asked and how an answer is read.

The files beside this one are ours; `evaluation.tasks` names them (`gsm8k`), or the path of a file of one's own. Fields
of a row are Jinja expressions over its columns, in a sandbox: a benchmark is data, never code. docs/evaluation.md has
the format with an example.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from gra_train.errors import UserError, nearest
from gra_train.settings import build

FOLDER = Path(__file__).parent
LM_EVAL = "lm-eval:"
"""`lm-eval:gsm8k` is lm-eval's own task where one of ours has the same name."""
KINDS = ("number", "formula", "letter", "text", "code", "ifeval")


@dataclass(frozen=True)
class Source:
    """Rows: those given here, or from the folder of data sets (evaluation.data_dir) where it has the file, or the Hub.

    hub: "owner/name", or "owner/name:configuration"; several configurations: "owner/name:*". file: below the folder.
    rows: name -> Jinja expression over a row's columns; hub_rows and file_rows add to it for one of the two. where: a
    Jinja condition on the rows to use. note: what a reader must know of the file where it is not what the paper used.
    """

    hub: str = ""
    split: str = "test"
    file: str = ""
    rows: dict[str, str] = field(default_factory=dict)
    hub_rows: dict[str, str] = field(default_factory=dict)
    file_rows: dict[str, str] = field(default_factory=dict)
    where: str = ""
    given: list[dict[str, str]] = field(default_factory=list)
    note: str = ""

    def fields(self, *, hub: bool) -> dict[str, str]:
        return {**self.rows, **(self.hub_rows if hub else self.file_rows)}


@dataclass(frozen=True)
class Protocol:
    """How it is asked. shots: worked examples before the question. max_tokens: cap of an answer.

    patterns: regular expressions, the first that matches reads the answer (its first group; take: of several matches);
    without any the tolerant readers of gra_train.evaluation.answers do. same: "" or "text", which compares formulas as
    normalised text. prompt: in place of the benchmark's. hub_split: in place of the source's. note: shown with scores.
    """

    shots: int = 0
    max_tokens: int = 1024
    patterns: list[str] = field(default_factory=list)
    take: str = "last"
    same: str = ""
    prompt: str = ""
    hub_split: str = ""
    note: str = ""


@dataclass(frozen=True)
class Context:
    """A text per domain that the prompt shows as {{ context }} (BBH's worked examples).

    file: rows with the columns `by` (the domain) and `text`. lm_eval: a folder of few-shot tasks in lm-eval's package,
    used where there is no file. drop: a regular expression of what is taken off the text.
    """

    file: str = ""
    by: str = "task"
    text: str = "prompt"
    lm_eval: str = ""
    drop: str = ""


@dataclass(frozen=True)
class Likelihood:
    """How choices are scored in place of an answer that is written (evaluation.choices=likelihood).

    of: letters (after a prompt that lists the choices) or texts (the choices themselves, per character, after
    `prompt`).
    """

    of: str = "letters"
    prompt: str = ""


@dataclass(frozen=True)
class Benchmark:
    """One benchmark. kind: how answers are read and compared, one of KINDS. prompt: Jinja over a question's fields.

    shot: what a worked example answers. instruction: what COLLATE takes for a question. stop: texts that end an answer
    (models without a chat template go on to the next question). aliases: other names of the same questions.
    path: the file, of a benchmark that is not one of ours.
    """

    name: str
    about: str
    kind: str
    questions: Source
    prompt: str
    published: Protocol
    robust: Protocol
    shots: Source | None = None
    shot: str = "{{ response }}"
    context: Context | None = None
    likelihood: Likelihood | None = None
    instruction: str = "{{ question }}{% if choices %}\n{{ choices | lettered }}{% endif %}"
    stop: list[str] = field(default_factory=list)
    license: str = ""
    aliases: list[str] = field(default_factory=list)
    path: str = ""

    def protocol(self, name: str) -> Protocol:
        return self.robust if name == "robust" else self.published


def names() -> list[str]:
    """Our benchmarks."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def is_ours(task: str) -> bool:
    """Whether `evaluation.tasks` means a benchmark of these files (or of one's own) by this name."""
    return task.endswith((".yaml", ".yml")) or (FOLDER / f"{task}.yaml").is_file()


@cache
def named(name: str) -> str:
    """The task of a name or alias; "" where no benchmark of ours has it."""
    if is_ours(name):
        return name
    return next((task for task in names() if name in benchmark(task).aliases), "")


@cache
def benchmark(task: str) -> Benchmark:
    """The benchmark of a name or of a file. Raises UserError for what is unknown, or no valid file."""
    import yaml

    file = Path(task).expanduser() if task.endswith((".yaml", ".yml")) else FOLDER / f"{task}.yaml"
    if not file.is_file():
        raise UserError(f"there is no benchmark {task!r}.{nearest(task, names())} Ours: {', '.join(names())}.")
    try:
        data = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not YAML: {error}") from None
    given = {"name": file.stem, "path": "" if file.parent == FOLDER else str(file), **(data or {})}
    found = build(Benchmark, given, f"{file.name}: ")
    if found.kind not in KINDS:
        raise UserError(f"{file.name}: kind={found.kind!r}: expected one of {', '.join(KINDS)}.")
    return found
