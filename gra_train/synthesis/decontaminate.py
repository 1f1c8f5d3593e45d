"""Decontamination: rows that share an n-gram of words with a benchmark's question, and the question as evidence.

Words are runs of letters and digits, in lower case; 13 equal words in a row are an overlap by default (the usual size
since GPT-3, arXiv 2005.14165, appendix C). Questions of fewer words cannot be found this way; the report counts them.
An n-gram never spans two texts (instruction and response).

    against = Benchmarks.of(decontaminate, benchmarks(decontaminate, evaluation))
    clean, evidence = against.split(samples)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Self

from gra_train.data.benchmarks import Question, questions
from gra_train.records import Sample
from gra_train.schema import DataFile, Decontaminate

_BASE = 0xBF58476D1CE4E5B9
_AT_ONCE = 2000
"""Questions whose n-grams are hashed together."""


def words(text: str) -> list[str]:
    """What counts as a word."""
    return re.findall(r"\w+", text.lower())


@dataclass(frozen=True, slots=True)
class Match:
    """The benchmark and the question that a text overlaps with, and the words they share."""

    benchmark: str
    question_id: str
    question: str
    ngram: str


class Benchmarks:
    """The n-grams of all questions, as sorted 64-bit hashes: 12 bytes for each. Every hit is checked by words."""

    def __init__(self, asked: Sequence[Question], *, ngram: int = 13, text: str = "both") -> None:
        import numpy as np

        self.questions, self.ngram, self.text = list(asked), ngram, text
        self._numbers: dict[str, int] = {}
        self.counts = Counter(q.benchmark for q in self.questions)
        self.too_short: Counter[str] = Counter()
        hashes: list[Any] = [np.zeros(0, np.uint64)]
        owners: list[Any] = [np.zeros(0, np.int32)]
        for first in range(0, len(self.questions), _AT_ONCE):
            numbers, places = [], []
            for place, question in enumerate(self.questions[first : first + _AT_ONCE], first):
                told = [self._numbers.setdefault(word, len(self._numbers) + 1) for word in words(question.text)]
                self.too_short[question.benchmark] += len(told) < ngram
                numbers += [*told, 0]  # no n-gram goes on into the next question
                places += [place] * (len(told) + 1)
            found = self._hashes(np.asarray(numbers, np.uint64))
            hashes.append(found[found > 0])
            owners.append(np.asarray(places, np.int32)[: len(found)][found > 0])
        every = np.concatenate(hashes)
        order = np.argsort(every, kind="stable")  # of questions that share an n-gram, the first comes first
        self._sorted: Any = every[order]
        self._owner: Any = np.concatenate(owners)[order]

    @classmethod
    def of(cls, settings: Decontaminate, files: Mapping[str, DataFile]) -> Self | None:
        """The questions of `files`; None where there are none to compare with (decontamination is off)."""
        if not files:
            return None
        asked = [question for name, file in files.items() for question in questions(name, file)]
        return cls(asked, ngram=settings.ngram, text=settings.text)

    def matches(self, text: str) -> Iterator[Match]:
        """Every question that shares an n-gram with a text: by place in the text, then in the benchmarks' order."""
        import numpy as np

        told = words(text)
        hashes = self._hashes(np.asarray([self._numbers.get(word, 0) for word in told], np.uint64))
        first: Any = np.searchsorted(self._sorted, hashes)
        seen: set[int] = set()
        for place in np.flatnonzero(self._sorted.take(first, mode="clip") == hashes) if len(self._sorted) else ():
            ngram = " ".join(told[place : place + self.ngram])
            last = np.searchsorted(self._sorted, hashes[place], "right")
            for owner in self._owner[first[place] : last]:
                question = self.questions[owner]
                if owner not in seen and f" {ngram} " in f" {' '.join(words(question.text))} ":
                    seen.add(owner)
                    yield Match(question.benchmark, question.id, question.text, ngram)

    def match(self, instruction: str, response: str) -> Match | None:
        """The first question that a row overlaps with."""
        texts = [instruction] * (self.text != "response") + [response] * (self.text != "instruction")
        return next((match for text in texts for match in self.matches(text)), None)

    def split(self, rows: Sequence[Sample]) -> tuple[list[Sample], list[dict[str, Any]]]:
        """(rows that overlap with no question, the others: each with its evidence)."""
        clean, dropped = [], []
        for row in rows:
            if match := self.match(row.instruction, row.response):
                dropped.append({**asdict(match), **row.to_dict()})
            else:
                clean.append(row)
        return clean, dropped

    def report(self, files: Mapping[str, DataFile], dropped: Counter[str]) -> dict[str, Any]:
        """What was compared with what. too_short: questions of fewer words than an n-gram; dropped: rows."""
        return {
            "ngram": self.ngram,
            "text": self.text,
            "benchmarks": {
                name: {"questions": self.counts[name], "too_short": self.too_short[name], "dropped": dropped[name]}
                for name, file in files.items()
                if file.path
            },
            "missing": [name for name, file in files.items() if not file.path],
        }

    def _hashes(self, numbers: Any) -> Any:
        """Of n words [n], as numbers (0: in no question): the hash of each n-gram [n - ngram + 1], 0 if one is 0.

        A polynomial in _BASE modulo 2^64, its coefficients the words: the difference of two prefix sums, shifted to the
        same powers by an inverse.
        """
        import numpy as np

        size, n = len(numbers), self.ngram
        if size < n:
            return np.zeros(0, np.uint64)
        powers, inverses = _powers(1 << (size - 1).bit_length())
        mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        total = _windows(np.cumsum(mixed * powers[:size]), n) * inverses[: size - n + 1]
        known = _windows(np.cumsum(numbers == 0), n) == 0
        return np.where(known, total | np.uint64(1), np.uint64(0))


def _windows(sums: Any, n: int) -> Any:
    """Of prefix sums: the sum of each n neighbours."""
    found = sums[n - 1 :].copy()
    found[1:] -= sums[:-n]
    return found


@cache
def _powers(count: int) -> tuple[Any, Any]:
    """The first `count` powers of _BASE and of its inverse, modulo 2^64."""
    import numpy as np

    def powers(base: int) -> Any:
        factors: Any = np.full(count, base, np.uint64)
        factors[0] = 1
        return np.cumprod(factors)

    return powers(_BASE), powers(pow(_BASE, -1, 1 << 64))
