"""What a problem of the miniature world is: plain data shared by the three domains.

A problem is derived from a *spec* (a story, an order, a program), and an instruction parses back to the same spec,
so that validity and correctness are exact and never a matter of judgement.
"""

from __future__ import annotations

from dataclasses import dataclass

ANSWER_MARK = "####"


@dataclass(frozen=True)
class Step:
    """One sentence of a rationale: `label: working`; `result` is what the step establishes (the end of `working`)."""

    label: str
    working: str
    result: str

    def __str__(self) -> str:
        return f"{self.label}: {self.working}."


@dataclass(frozen=True)
class Problem:
    """A valid problem with its gold solution.

    key: canonical form, the same for every wording of the problem (names of people in stories do not count).
    rationale: the worked steps, without the final `#### answer`.
    vague_rationale: says what the problem is about and establishes nothing (COLLATE's less useful gold rationale).
    keywords: three, naming all entities; exactly the last one is abstract.
    spec: the domain's own structure, from which everything else is derived.
    """

    domain: str
    key: str
    instruction: str
    rationale: str
    vague_rationale: str
    answer: str
    keywords: tuple[str, ...]
    summary: str
    spec: object

    @property
    def response(self) -> str:
        """The gold response: rationale, then `#### answer`."""
        return response_text(self.rationale, self.answer)


def response_text(rationale: str, answer: str) -> str:
    """A response in the one form that the miniature knows: the steps, then `#### answer`."""
    return f"{rationale} {ANSWER_MARK} {answer}".strip()


def rationale_text(steps: tuple[Step, ...]) -> str:
    return " ".join(map(str, steps))
