"""COLLATE's three modes, told apart by the prompt: I -> A, I -> R and [I;R] -> A (arXiv 2506.02519, section 3.1).

Each function returns the text of the user's turn. `family` is "tags" for real models (one skeleton for all modes: role,
task between markers, labelled fields, the place where the answer begins) or "mini" for the miniature's short prompts.
"""

from __future__ import annotations

import re

from gra_train.mini import prompts as mini

ROLE = "You are a careful assistant who solves tasks of many kinds."
TASKS = {
    "answer": "Give the answer to the instruction. Write the answer alone, without explanation.",
    "rationale": (
        "Think the instruction through for another assistant, who will read your reasoning and then give the answer. "
        "Write the reasoning that helps it most to find the right answer: what matters, the steps in order, what each "
        "step establishes."
    ),
    "answer_with_rationale": (
        "Give the answer to the instruction. A rationale by another assistant is shown: use it where it is sound. "
        "Write the answer alone, without explanation."
    ),
    "refine": (
        "Another assistant will read a rationale and then give the answer to the instruction. The rationale is shown: "
        "mend what is wrong in it, add what is missing, leave out what does not help. Write the whole rationale anew."
    ),
    "judge": (
        "A rationale for the instruction is shown. Rate it from 0 to 5 points: one point each if it is about the "
        "instruction, is correct, is complete, is clear, and leads straight to the right answer. Write one sentence "
        "of reasons, then `Score: N` on a line of its own."
    ),
}
_MARKERS = re.compile(r"<<<|>>>")


def answer(family: str, instruction: str) -> str:
    """I -> A."""
    return mini.answer(instruction) if family == "mini" else _skeleton("answer", Instruction=instruction)


def rationale(family: str, instruction: str) -> str:
    """I -> R: reasoning that is of use to another assistant."""
    return mini.explain(instruction) if family == "mini" else _skeleton("rationale", Instruction=instruction)


def answer_with_rationale(family: str, instruction: str, rationale: str) -> str:
    """[I;R] -> A."""
    if family == "mini":
        return mini.answer_with(instruction, rationale)
    return _skeleton("answer_with_rationale", Instruction=instruction, Rationale=rationale)


def refine(family: str, instruction: str, rationale: str) -> str:
    """[I;R] -> R: a better rationale. The miniature's models were not taught this: they see both as one question."""
    if family == "mini":
        return mini.explain(f"{instruction} {rationale}")
    return _skeleton("refine", Instruction=instruction, Rationale=rationale)


def judge(instruction: str, rationale: str) -> str:
    """[I;R] -> points, for models that can write them."""
    return _skeleton("judge", Instruction=instruction, Rationale=rationale)


_SCORE = re.compile(r"score\W{0,6}(\d+)(?!\s*[.,]\s*\d|\d)", re.IGNORECASE)
_ALONE = re.compile(r"\W*(\d+)(?:\s*/\s*5)?\W*")


def read_points(text: str) -> float | None:
    """What a judge gave: the last `Score: N`, or a number that stands alone; 0 to 5. None: unparseable."""
    alone = _ALONE.fullmatch(text.strip())
    given = [int(n) for n in _SCORE.findall(text)] or ([int(alone[1])] if alone else [])
    return float(given[-1]) if given and given[-1] <= 5 else None


def _skeleton(mode: str, **fields: str) -> str:
    return skeleton(TASKS[mode], **fields)


def skeleton(task: str, **fields: str) -> str:
    """The prompt of a task sentence and its labelled fields; no field can close the task."""
    shown = "\n".join(f"{label}: {_MARKERS.sub('', text).strip()}" for label, text in fields.items())
    return f"{ROLE}\n\n<<<TASK\n{task}\n{shown}\nTASK>>>\n\nResponse:"
