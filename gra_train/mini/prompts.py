"""The miniature's prompts: one short line per role, with the fields of the paper's nine prompts, and COLLATE's modes.

Each function returns the text of the user's turn. The same functions make the models' training texts (roles.py) and
query the models, so what is asked is what was learned. `read_*` parse what a model writes back; None: unparseable.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

SEPARATOR = "; "  # between keywords


def domain(instruction: str) -> str:
    """Prompt 1. Answer: the domain's name."""
    return f"Domain: {instruction}"


def summary(instruction: str) -> str:
    """Prompt 2. Answer: one short sentence."""
    return f"Sum up: {instruction}"


def keywords(instruction: str) -> str:
    """Prompt 3. Answer: three keywords joined by SEPARATOR."""
    return f"Keywords: {instruction}"


def new_keywords(domain: str, examples: Sequence[Sequence[str]]) -> str:
    """Prompt 4. Answer: new keywords. Of the examples' keyword sets the first two are shown (prompts stay short)."""
    return f"New {domain}: {' / '.join(SEPARATOR.join(k) for k in examples[:2])}"


def instruction(domain: str, keywords: Sequence[str], summaries: Sequence[str] = ()) -> str:
    """Prompt 5. Answer: the instruction. Of the reference summaries the first is shown."""
    like = f" Like: {summaries[0]}" if summaries else ""
    return f"Write {domain}: {SEPARATOR.join(keywords)}.{like}"


def instruction_review(instruction: str) -> str:
    """Prompt 6. Answer: three flags, `1 1 1`."""
    return f"Check: {instruction}"


def response(instruction: str) -> str:
    """Prompt 7. Answer: the steps, then `#### answer`."""
    return f"Solve: {instruction}"


def response_review(instruction: str, response: str) -> str:
    """Prompt 8. Answer: `Review: ... Scores: 10 10 10 10 10 10`."""
    return f"Rate: {instruction} Response: {response}"


def adjudication(instruction: str, response: str, means: Sequence[float]) -> str:
    """Prompt 9. As prompt 8, after the reviewers' means (rounded to integers)."""
    return f"Decide: {instruction} Response: {response} Given: {' '.join(str(round(m)) for m in means)}"


def answer(instruction: str) -> str:
    """COLLATE, I -> A."""
    return f"Answer: {instruction}"


def explain(instruction: str) -> str:
    """COLLATE, I -> R."""
    return f"Explain: {instruction}"


def answer_with(instruction: str, rationale: str) -> str:
    """COLLATE, [I;R] -> A."""
    return f"Answer: {instruction} Because: {rationale}"


def write_review(text: str, scores: Sequence[int]) -> str:
    """What a reviewer writes: a short text, then the six scores."""
    return f"Review: {text} Scores: {' '.join(map(str, scores))}"


FLAGS_PATTERN = r"[01] [01] [01]"
SCORES_PATTERN = r"Review: [^:]*(?::[^:]*)* Scores: (?:(?:10|[1-9]) ){5}(?:10|[1-9])"
_SCORES = re.compile(r"(?:Review: *)?(.*?) *Scores: ((?:(?:10|[1-9]) ){5}(?:10|[1-9]))\.?", re.DOTALL)


def read_keywords(text: str) -> tuple[str, ...] | None:
    """Exactly three non-empty keywords."""
    parts = tuple(part.strip() for part in text.strip().rstrip(".").split(";"))
    return parts if len(parts) == 3 and all(parts) else None


def read_flags(text: str) -> tuple[int, int, int] | None:
    """Reasonableness, completeness, clarity."""
    if not re.fullmatch(FLAGS_PATTERN, text.strip()):
        return None
    first, second, third = map(int, text.split())
    return first, second, third


def read_review(text: str) -> tuple[tuple[int, ...], str] | None:
    """(six scores from 1 to 10 in the order of CRITERIA, the review's text)."""
    match = _SCORES.fullmatch(text.strip())
    return (tuple(map(int, match[2].split())), match[1]) if match else None
