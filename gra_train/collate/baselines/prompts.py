"""What the baselines ask beyond COLLATE's modes: to take a hint, to exchange, to go on step by step, to rate steps.

Our own wording, for real models (family "tags", the skeleton of modes.py). The miniature's models know none of these
prompts: `collate.baselines.roles=likelihood` does the same without them (docs/baselines.md).
"""

from __future__ import annotations

from gra_train.collate.modes import skeleton

DONE = "DONE"

HINT = (
    "Think the instruction through for another assistant, who will read your reasoning and then give the answer. The "
    "right answer is shown, so that you can check where your reasoning leads. Write the reasoning that leads from the "
    "instruction to this answer, as if the answer had not been shown."
)
EXCHANGE = (
    "You and a colleague have both thought the instruction through and come to different answers. Compare the two "
    "lines of reasoning, find out where they part and which is right there, and write the reasoning that you now hold "
    "to be sound. Do not write the answer alone: write the steps."
)
STEP = (
    "Think the instruction through step by step. The steps so far are shown. Write the next step alone, in one or two "
    f"sentences. If the steps so far already settle the answer, write {DONE} and nothing else."
)
PROMISE = (
    "Some steps of reasoning about the instruction are shown; they need not be complete. Judge whether they are right "
    "so far and lead towards the right answer. Write one line, Score: N, where N is a whole number from 0 (a step is "
    "wrong) to 5 (every step is right and the answer is near)."
)


def hint(instruction: str, answer: str) -> str:
    """I and A -> R: STaR's rationalisation."""
    return skeleton(HINT, Instruction=instruction, Answer=answer)


def exchange(instruction: str, own: tuple[str, str], other: tuple[str, str]) -> str:
    """I, own (R, A) and the other's -> R."""
    return skeleton(
        EXCHANGE,
        Instruction=instruction,
        **{"Your reasoning": own[0], "Your answer": own[1], "Your colleague's reasoning": other[0]},
        **{"Your colleague's answer": other[1]},
    )


def step(instruction: str, steps: str) -> str:
    """I and the steps so far -> the next step, or DONE."""
    return skeleton(STEP, Instruction=instruction, Steps=steps or "(none)")


def promise(instruction: str, steps: str) -> str:
    """I and the steps so far -> points."""
    return skeleton(PROMISE, Instruction=instruction, Steps=steps)
