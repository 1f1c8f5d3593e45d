"""Flawed instructions and responses, for teaching reviewers what to object to and for testing the checkers."""

from __future__ import annotations

import random
import re

from gra_train.mini import programs, stories
from gra_train.mini.language import MISCONCEPTIONS, Problem, parse, rationale_text, response_text, sample_problem, work


def flawed_response(rng: random.Random, problem: Problem) -> str:
    """A response with a wrong answer: a misconception, a slip that is carried on, or a wrong conclusion."""
    for _ in range(20):
        if rng.random() < 0.5:
            steps = work(problem, [rng.choice(MISCONCEPTIONS[problem.domain])])
            response = response_text(rationale_text(steps), steps[-1].result)
        else:
            response = _slip(rng, problem)
        if not response.endswith(f"#### {problem.answer}"):
            return response
    return response_text(problem.rationale, _other(rng, problem.answer))


def _slip(rng: random.Random, problem: Problem) -> str:
    """One word of the solution replaced by another of its kind, in every place or from one place on."""
    words = problem.response.split(" ")
    told = set(re.findall(r"\w+", problem.instruction))
    places = [i for i, w in enumerate(words) if (w.rstrip(".") not in told and w.rstrip(".").isdigit()) or _is_item(w)]
    place = rng.choice(places or [len(words) - 1])
    old = words[place].rstrip(".")
    new = _other(rng, old, pool=sorted(told))
    start = place if rng.random() < 0.5 else 0
    return " ".join(w.replace(old, new) if i >= start and w.rstrip(".") == old else w for i, w in enumerate(words))


def _is_item(word: str) -> bool:
    return word.rstrip(".") in stories.NAMES or word.rstrip(".") in programs.LETTERS


def _other(rng: random.Random, word: str, pool: list[str] | None = None) -> str:
    """Another number near by, another name or letter (of the problem where possible)."""
    if word.isdigit():
        return str(max(0, min(99, int(word) + rng.choice((-10, -2, -1, 1, 2, 10)))))
    if " " in word:
        return (
            " ".join(reversed(word.split(" ")))
            if word.split(" ") != word.split(" ")[::-1]
            else word + " " + word.split(" ")[0]
        )
    names = stories.NAMES if word in stories.NAMES else programs.LETTERS
    known = [w for w in pool or () if w in names and w != word]
    return rng.choice(known or [n for n in names if n != word])


def flawed_instruction(rng: random.Random, problem: Problem) -> tuple[str, tuple[int, int, int]]:
    """An instruction that states no valid problem, with its flags (reasonableness, completeness, clarity)."""
    sentences = re.findall(r"[^.?]+[.?]", problem.instruction)
    for _ in range(20):
        kind = rng.choice(("missing", "unclear", "unreasonable"))
        if kind == "missing":
            text, flags = "".join(s for i, s in enumerate(sentences) if i != _drop(rng, sentences)).strip(), (1, 0, 1)
        elif kind == "unclear":
            other = re.findall(r"[^.?]+[.?]", sample_problem(rng, problem.domain).instruction)
            mixed = list(sentences)
            place = rng.randrange(len(mixed))
            mixed[place] = f" {rng.choice(other).strip()}"
            text, flags = "".join(mixed).strip(), (1, 1, 0)
        else:
            text, flags = _unreasonable(rng, problem), (0, 1, 1)
        if parse(text) is None:
            return text, flags
    return "".join(sentences[:-1]).strip(), (1, 0, 1)


def _drop(rng: random.Random, sentences: list[str]) -> int:
    return rng.randrange(len(sentences))


def _unreasonable(rng: random.Random, problem: Problem) -> str:
    """Numbers that do not work out, comparisons that form no line, too few letters."""
    words = problem.instruction.split(" ")
    if isinstance(problem.spec, stories.Story) and problem.spec.other and rng.random() < 0.3:
        return problem.instruction.replace(f"to {problem.spec.other}.", f"to {problem.spec.who}.")
    if isinstance(problem.spec, programs.Program):
        letters = " ".join(problem.spec.letters)
        return problem.instruction.replace(letters, letters[: rng.choice((1, 3))])
    if problem.domain == stories.DOMAIN:
        places = [i for i, w in enumerate(words) if w.rstrip(".").isdigit()]
    else:
        places = [i for i, w in enumerate(words) if w.rstrip(".") in stories.NAMES]
    place = rng.choice(places)
    old = words[place].rstrip(".")
    if old.isdigit():
        new = str(rng.randint(2, 99))
    else:
        others = [words[i].rstrip(".") for i in places if words[i].rstrip(".") != old]
        new = rng.choice(others or [old])
    words[place] = words[place].replace(old, new)
    return " ".join(words)
