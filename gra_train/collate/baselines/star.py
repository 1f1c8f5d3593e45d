"""STaR (Zelikman et al. 2022, arXiv 2203.14465): learn from the rationales whose answers come out right.

Where the first rationale fails, a few more are written with the right answer as a hint ("rationalisation"); training
starts from the same model in every iteration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gra_train.chat.protocol import Ask, Reply
from gra_train.collate import modes
from gra_train.collate.baselines import prompts
from gra_train.collate.baselines.answers import fits
from gra_train.collate.baselines.thinking import Thinker, Thought
from gra_train.collate.data import Task, number
from gra_train.collate.pairs import leaks
from gra_train.records import Record

FIRST, HINTED, FAILED = "first", "hinted", "failed"


@dataclass(frozen=True, slots=True)
class Tried(Record):
    """What became of a task: fate FIRST (kept at once), HINTED (kept after a hint) or FAILED (no rationale kept).

    unparseable: answers that could not be read, of `tries`.
    """

    task_id: str
    fate: str
    rationale: str = ""
    tries: int = 1
    unparseable: int = 0


def keep(task: Task, first: Thought, hinted: Sequence[Thought]) -> Tried:
    """The rule: the first thought if its answer is right, else the first right one of those after a hint."""
    tries = (first, *hinted)
    unparseable = sum(one.value is None for one in tries)
    for fate, one in zip((FIRST, *[HINTED] * len(hinted)), tries, strict=True):
        if one.rationale and fits(one.answer, task.answer):
            return Tried(task.id, fate, one.rationale, len(tries), unparseable)
    return Tried(task.id, FAILED, "", len(tries), unparseable)


async def attempt(
    ask: Ask, thinker: Thinker, task: Task, *, seed: int, temperature: float, hints: int, roles: str
) -> Tried:
    """One task's rationale, with up to `hints` tries after a hint where the first one fails."""
    [first] = await thinker.think(ask, task.instruction, seed=seed, temperature=temperature)
    if fits(first.answer, task.answer) or not hints:
        return keep(task, first, ())
    drawn = number(seed, "hint")
    if roles == "prompt":
        asked = [prompts.hint(task.instruction, task.answer)] * hints
        told = [(prompts.hint(one.instruction, one.answer), one.rationale) for one in thinker.examples]
        written = await thinker.write(ask, asked, told, seed=drawn, temperature=temperature, purpose="hinted")
    else:
        written = [await _likeliest(ask, thinker, task, drawn, temperature, hints)]
    return keep(task, first, await thinker.conclude(ask, task.instruction, written))


async def _likeliest(ask: Ask, thinker: Thinker, task: Task, seed: int, temperature: float, count: int) -> Reply:
    """A hint without a prompt for it: of `count` rationales, the one under which the right answer is likeliest.

    P(R | I, A) is proportional to P(R | I) P(A | I, R): drawn from the first, chosen by the second.
    """
    asked = [modes.rationale(thinker.family, task.instruction)] * count
    written = await thinker.write(ask, asked, seed=seed, temperature=temperature, purpose="hinted")
    merits = await thinker.likely(ask, task.instruction, [(reply.text.strip(), task.answer) for reply in written])
    return written[max(range(count), key=lambda k: (merits[k], -k))]


def statistics(tasks: Sequence[Task], tried: Sequence[Tried]) -> dict[str, Any]:
    """Shares of the tasks by fate, and what the kept rationales are like."""
    fates, answers = Counter(one.fate for one in tried), {task.id: task.answer for task in tasks}
    kept = [one for one in tried if one.fate != FAILED]
    return {
        "tasks": len(tried),
        "kept": len(kept),
        "kept_share": len(kept) / max(len(tried), 1),
        "shares": {fate: fates[fate] / max(len(tried), 1) for fate in (FIRST, HINTED, FAILED)},
        "tries": sum(one.tries for one in tried),
        "unparseable": sum(one.unparseable for one in tried),
        "leak_rate": sum(leaks(one.rationale, answers[one.task_id]) for one in kept) / max(len(kept), 1),
    }
