"""IFEval's instructions, checked by lm-eval's own checkers (Zhou et al. 2023, arXiv 2311.07911).

The checkers count sentences and words with nltk's `punkt_tab`, which is fetched from the network where it is
missing. Here nothing is fetched: where it is missing, sentences are found by Punkt without its trained model, told a
few abbreviations, and `tokenizer` says which of the two counted. `python -m nltk.downloader punkt_tab` gets the
model.
"""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from gra_train.evaluation.scoring import Mark

ABBREVIATIONS = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "st",
        "jr",
        "sr",
        "vs",
        "etc",
        "e.g",
        "i.e",
        "fig",
        "no",
        "a.m",
        "p.m",
        "u.s",
        "u.k",
        "inc",
        "ltd",
        "co",
        "dept",
        "approx",
        "jan",
        "feb",
        "aug",
        "sept",
        "oct",
        "nov",
        "dec",
    ]
)


def follow(
    questions: Sequence[Mapping[str, Any]], answers: Sequence[str], *, on_done: Callable[[int], None] = lambda n: None
) -> list[Mark]:
    """Right is a prompt all of whose instructions are followed, strictly. extracted: how many ("2 of 3, loosely 3").

    An empty answer is unparseable. Every question is checked with the same random state: some checkers draw.
    """
    checks = _checks()
    marks = []
    for question, answer in zip(questions, answers, strict=True):
        given = checks.InputExample(
            key=question["question_id"],
            instruction_id_list=list(question["instruction_id_list"]),
            prompt=question["question"],
            kwargs=[dict(one or {}) for one in question["kwargs"]],
        )
        state = random.getstate()
        random.seed(0)
        strict = checks.test_instruction_following_strict(given, answer)
        loose = checks.test_instruction_following_loose(given, answer)
        random.setstate(state)
        followed, told = sum(strict.follow_instruction_list), len(given.instruction_id_list)
        text = f"{followed} of {told}, loosely {sum(loose.follow_instruction_list)}"
        marks.append(Mark(bool(strict.follow_all_instructions), text if answer.strip() else None))
        on_done(1)
    return marks


@cache
def tokenizer() -> str:
    """Which tokenizer counts sentences and words here: nltk's trained one, or the fallback."""
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
        return "nltk punkt_tab"
    except LookupError:
        return f"Punkt without its trained model and {len(ABBREVIATIONS)} abbreviations (nltk's punkt_tab is not here)"


@cache
def _checks() -> Any:
    """lm-eval's module of checks, without a download at its import, and with the fallback where it is needed."""
    import langdetect
    import nltk

    langdetect.DetectorFactory.seed = 0  # or the same text has another language every time
    missing = tokenizer() != "nltk punkt_tab"
    download = nltk.download
    if missing:
        nltk.download = lambda *args, **kwargs: False
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it says that it has downloaded
            from lm_eval.tasks.ifeval import instructions_util, utils
    finally:
        nltk.download = download
    if missing:
        from nltk.tokenize.destructive import NLTKWordTokenizer
        from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

        known = PunktParameters()
        known.abbrev_types = set(ABBREVIATIONS)
        sentences, words = PunktSentenceTokenizer(known), NLTKWordTokenizer()
        instructions_util._get_sentence_tokenizer = lambda: sentences

        class Nltk:
            """nltk as instructions.py uses it."""

            tokenize = nltk.tokenize

            @staticmethod
            def word_tokenize(text: str) -> list[str]:
                return [word for sentence in sentences.tokenize(text) for word in words.tokenize(sentence)]

        instructions_util.nltk = Nltk
    return utils
