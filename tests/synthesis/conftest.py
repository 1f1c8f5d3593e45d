"""A scripted pool: answers are a function of the request, so that stories can be told without a model."""

import asyncio
import hashlib
from collections import Counter

import pytest

from gra_train.chat.dispatch import take
from gra_train.chat.protocol import Completion, Reply
from gra_train.records import Sample
from gra_train.synthesis.prompts import family

MODELS = ("ada", "bea", "cyd", "dot", "eve")
TAGS = family("tags")
WORDS = [
    "amber",
    "birch",
    "coral",
    "delta",
    "ember",
    "flint",
    "grove",
    "haven",
    "iris",
    "jade",
    "kelp",
    "lunar",
    "maple",
    "north",
    "olive",
    "pearl",
    "quartz",
    "river",
    "stone",
    "tide",
]


def number_of(model, request):
    text = f"{model} {request.seed} {request.attempt} {request.messages}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


class Scripted:
    """Answers by prompt kind; `answers` replaces the writers of some kinds: (model, request) -> text or Reply."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    async def ask(self, *calls):
        self.asked += calls
        await asyncio.sleep(0)
        return [self._reply(model, request) for model, request in calls]

    def run(self, stories, *, block=64, on_done=None):
        async def tell():
            return [await story(self.ask) for story in stories]

        results = asyncio.run(tell())
        if on_done:
            on_done(len(results))
        return results

    def stream(self, stories, *, block=64, on_done=None):
        """As OpenPool.stream with a model in process; `order` may shuffle what finishes within a block."""
        source, start, exhausted = iter(stories), 0, False
        while not exhausted:
            part, exhausted = take(source, block)
            yield from self.order(list(enumerate(self.run(part, on_done=on_done), start)))
            start += len(part)

    def order(self, results):
        return results

    def count(self):
        """Calls by purpose."""
        return Counter(request.purpose for _, request in self.asked)

    def _reply(self, model, request):
        kind = request.purpose.split("/")[1]
        if not isinstance(request, Completion):
            return self.answers["log_probs"](model, request)
        text = self.answers.get(kind, DEFAULTS[kind])(model, request)
        return text if isinstance(text, Reply) else Reply(text)


def words(model, request, count):
    n = number_of(model, request)
    return [WORDS[(n >> (5 * i)) % len(WORDS)] for i in range(count)]


def scores(value, text="fine"):
    return TAGS.response_review("i", "r").write(((value,) * 6, text))


DEFAULTS = {
    "domain": lambda m, r: "<domain>Math</domain>",
    "summary": lambda m, r: "<summary>A task.</summary>",
    "keywords": lambda m, r: "<keywords>a, b, c</keywords>",
    "new_keywords": lambda m, r: (
        "<keywords>" + ", ".join(f"{w}{i}" for i, w in enumerate(words(m, r, 3))) + "</keywords>"
    ),
    "instruction": lambda m, r: f"<instruction>Say {' '.join(words(m, r, 8))}</instruction>",
    "instruction_review": lambda m, r: "<flags>[1, 1, 1]</flags>",
    "response": lambda m, r: f"<response>{' '.join(words(m, r, 6))}</response>",
    "response_review": lambda m, r: scores(9),
    "adjudication": lambda m, r: scores(9, "right after all"),
}


@pytest.fixture
def scripted():
    return Scripted


@pytest.fixture
def seeds():
    """Annotated seeds: six of Math, three of QA."""
    return [
        Sample(
            f"seed-{i}",
            f"Seed task number {i} about {WORDS[i]}",
            "done",
            "Math" if i < 6 else "QA",
            (f"k{i}", "b", "c"),
            f"Task {i}.",
        )
        for i in range(9)
    ]
