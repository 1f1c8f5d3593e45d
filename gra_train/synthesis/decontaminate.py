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
from typing import Any, Self

from gra_train.data.benchmarks import Question, questions
from gra_train.records import Sample
from gra_train.schema import DataFile, Decontaminate


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
        hashes: list[Any] = [np.zeros(0, np.uint64)]
        owners: list[Any] = [np.zeros(0, np.int32)]
        for place, question in enumerate(self.questions):
            numbers = [self._numbers.setdefault(word, len(self._numbers) + 1) for word in words(question.text)]
            found = self._hashes(np.asarray(numbers, np.uint64))
            hashes.append(found)
            owners.append(np.full(len(found), place, np.int32))
        every = np.concatenate(hashes)
        order = np.argsort(every, kind="stable")  # of questions that share an n-gram, the first comes first
        self._sorted: Any = every[order]
        self._owner: Any = np.concatenate(owners)[order]
        self.counts = Counter(q.benchmark for q in self.questions)
        self.too_short = Counter(
            q.benchmark for q, found in zip(self.questions, hashes[1:], strict=True) if not len(found)
        )

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
        numbers = np.fromiter((self._numbers.get(word, 0) for word in told), np.uint64, len(told))
        hashes = self._hashes(numbers)
        first: Any = np.searchsorted(self._sorted, hashes, "left")
        last: Any = np.searchsorted(self._sorted, hashes, "right")
        seen: set[int] = set()
        for place in np.flatnonzero(last > first):
            ngram = " ".join(told[place : place + self.ngram])
            for owner in self._owner[first[place] : last[place]]:
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
        """Of n words [n], as numbers (0: in no question): the hash of each n-gram [n - ngram + 1], 0 if one is 0."""
        import numpy as np

        count = len(numbers) - self.ngram + 1
        if count < 1:
            return np.zeros(0, np.uint64)
        mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        total: Any = np.zeros(count, np.uint64)
        known: Any = np.ones(count, bool)
        for step in range(self.ngram):
            total = total * np.uint64(0xBF58476D1CE4E5B9) + mixed[step : step + count]
            known &= numbers[step : step + count] > 0
        return np.where(known, total | np.uint64(1), np.uint64(0))
