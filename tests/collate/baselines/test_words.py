"""Roles in words: what a model is asked for, and what becomes of what it writes, with the model's part written here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gra_train.chat.protocol import Completion, Reply, TokenLogProbs
from gra_train.collate import modes
from gra_train.collate.baselines import prompts
from gra_train.collate.baselines.answers import read
from gra_train.collate.baselines.exchange import exchange_of_thought
from gra_train.collate.baselines.rewarding import compete
from gra_train.collate.baselines.star import FAILED, HINTED, attempt
from gra_train.collate.baselines.thinking import Thinker
from gra_train.collate.baselines.tree import tree_of_thoughts
from gra_train.collate.data import Task

TASK = Task("t", "What is 3 + 4?", "7")
SHOT = Task("s", "What is 1 + 1?", "2", "one and one")


def thinker(**changes):
    return Thinker("m", "tags", read, 32, 8, 0.9, **changes)


def tell(story, says: Callable[[Completion], str]):
    """The story's result, and the requests that it made. Likelihoods are -len(continuation) per token."""
    asked = []

    async def ask(*calls):
        asked.extend(request for _, request in calls)
        return [
            Reply(says(request), completion_tokens=3)
            if isinstance(request, Completion)
            else TokenLogProbs((-float(len(request.continuation)),))
            for _, request in calls
        ]

    return asyncio.run(story(ask)), asked


def last(request) -> str:
    return request.messages[-1]["content"]


def answers(request, **of) -> str:
    """What `of` says for the rationale in an [I;R] -> A prompt."""
    return next(answer for rationale, answer in of.items() if f"Rationale: {rationale}\n" in last(request))


def test_a_thought_is_two_calls_after_worked_examples():
    def says(request):
        return "three and four" if "Rationale:" not in last(request) else "7"

    [thought], asked = tell(lambda ask: thinker(examples=(SHOT,)).think(ask, TASK.instruction, seed=1), says)
    assert (thought.rationale, thought.value, thought.tokens) == ("three and four", "7", 6)
    rationale, answer = asked
    assert [turn["role"] for turn in rationale.messages] == ["user", "assistant", "user"]
    assert rationale.messages[1]["content"] == SHOT.rationale
    assert last(rationale) == modes.rationale("tags", TASK.instruction)
    assert last(answer) == modes.answer_with_rationale("tags", TASK.instruction, "three and four")
    assert answer.messages[1]["content"] == SHOT.answer
    assert (rationale.sampling.temperature, rationale.seed, answer.sampling.max_tokens) == (0.0, 0, 8)


def test_samples_of_a_thought_draw_apart():
    _, asked = tell(
        lambda ask: thinker().think(ask, TASK.instruction, seed=1, count=3, temperature=0.7), lambda request: "x"
    )
    assert len({request.seed for request in asked}) == 6


def test_a_hint_shows_the_answer_and_training_does_not():
    hinted = prompts.hint(TASK.instruction, TASK.answer)

    def says(request):
        if "Rationale:" in last(request):
            return answers(request, wrong="8", shown="7")
        return "shown" if last(request) == hinted else "wrong"

    def story(**changes):
        kind = {"seed": 0, "temperature": 0.7, "hints": 1, "roles": "prompt"} | changes
        return lambda ask: attempt(ask, thinker(), TASK, **kind)

    tried, asked = tell(story(), says)
    assert (tried.fate, tried.rationale, tried.tries) == (HINTED, "shown", 2)
    assert len(asked) == 4
    tried, asked = tell(story(hints=0), says)
    assert (tried.fate, len(asked)) == (FAILED, 2)


def test_colleagues_see_both_thoughts():
    def says(request):
        text = last(request)
        if "Your colleague's answer" in text:
            assert "Your reasoning: yours" in text or "Your reasoning: mine" in text
            return "both"
        if "Rationale:" in text:
            return answers(request, mine="7", yours="8", both="7")
        return drafts.pop()

    drafts = ["yours", "mine"]
    (thought, counted), asked = tell(
        lambda ask: exchange_of_thought(
            ask, thinker(), TASK.instruction, seed=0, rounds=3, temperature=0.7, roles="prompt"
        ),
        says,
    )
    assert (thought.rationale, thought.value) == ("both", "7")
    assert counted == {"agreement": 1, "rounds": 1}
    assert len(asked) == 8


def test_steps_are_asked_for_and_rated():
    steps = {"(none)": ["bad", "good", "good"], "good": ["better", prompts.DONE, "worse"], "bad": ["x", "y", "z"]}
    values = {"bad": "Score: 1", "good": "Score: 3", "good\nbetter": "Score: 5", "good\nworse": "hm"}

    def says(request):
        text = last(request)
        if prompts.STEP in text:
            return steps[text.split("Steps: ")[1].split("\nTASK>>>")[0]].pop()
        if prompts.PROMISE in text:
            return values.get(text.split("Steps: ")[1].split("\nTASK>>>")[0], "Score: 0")
        return answers(request, **{"good\nbetter": "7"})

    (thought, counted), _ = tell(
        lambda ask: tree_of_thoughts(
            ask, thinker(), TASK.instruction, seed=0, proposals=3, beam=2, depth=2, temperature=0.7, roles="prompt"
        ),
        says,
    )
    assert (thought.rationale, thought.value) == ("good\nbetter", "7")
    assert counted["steps"] == 2
    assert counted["unparseable_ratings"] == 1


def test_a_judge_that_cannot_be_read_gives_no_value():
    drafts = ["b", "a"]

    def says(request):
        text = last(request)
        if text in (modes.judge(TASK.instruction, "a"), modes.judge(TASK.instruction, "b")):
            return "Sound.\nScore: 4" if "Rationale: a\n" in text else "Fine, I think."
        return drafts.pop()

    judged, _ = tell(
        lambda ask: compete(ask, thinker(), TASK, seed=0, candidates=2, temperature=0.7, roles="prompt"), says
    )
    assert (judged.texts, judged.values) == (("a", "b"), (4.0, None))
