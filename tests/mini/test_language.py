"""The language: sampling and parsing are inverse, and nothing else is accepted."""

import random

import pytest

from gra_train.mini import language, orders
from gra_train.mini.flaws import flawed_instruction, flawed_response

EXAMPLES = {
    "Bob has 4 bags with 6 shells each. Bob gives 6 to Jon. How many shells does Bob have now?":
        "Filling: 4 * 6 = 24. Giving: 24 - 6 = 18. #### 18",
    "Ann has 20 pens. Ann buys 4 more. Ann packs them in boxes of 8. How many boxes does Ann fill?":
        "Buying: 20 + 4 = 24. Packing: 24 / 8 = 3. #### 3",
    "Dan is younger than Jon. Dan is older than Ann. Who is the youngest?":
        "Old: Jon > Dan > Ann. The youngest: Ann. #### Ann",
    "Take d f k m. Reverse it. Swap the ends. What is left?": "Reverse: m k f d. Swap: d k f m. #### d k f m",
}  # fmt: skip
INVALID = [
    "",
    "What is 2 + 2?",
    "Bob has 10 shells. Bob gives 12 to Jon. Bob buys 3 more. How many shells does Bob have now?",  # below zero
    "Bob has 10 shells. Bob buys 3 more. Bob packs them in boxes of 4. How many boxes does Bob fill?",  # a remainder
    "Bob has 10 shells. Ann buys 3 more. Bob gives 2 to Ann. How many shells does Bob have now?",  # another buyer
    "Bob has 10 shells. Bob buys 3 more. Bob gives 2 to Bob. How many shells does Bob have now?",
    "Bob has 10 shells. Bob buys 3 more. Bob gives 2 to Jon. How many pens does Bob have now?",
    "Bob has 10 shells. Bob buys 3 more. Bob gives 2 to Jon.",
    "Bob has 90 shells. Bob buys 20 more. Bob gives 2 to Jon. How many shells does Bob have now?",  # above 99
    "Dan is taller than Jon. Jon is taller than Ann. Ann is taller than Dan. Who is the tallest?",  # a cycle
    "Dan is taller than Jon. Jon is taller than Dan. Who is the tallest?",
    "Dan is taller than Dan. Jon is taller than Ann. Who is the tallest?",
    "Dan is taller than Jon. Dan is taller than Ann. Who is the shortest?",  # a branch
    "Dan is taller than Jon. Eve is taller than Ann. Who is the shortest?",  # two lines
    "Dan is taller than Jon. Jon is taller than Ann. Who is the oldest?",  # another attribute
    "Dan is taller than Jon. Jon is older than Ann. Who is the tallest?",
    "Who is the tallest?",
    "Take d f k m. What is left?",
    "Take d f. Reverse it. Swap the ends. What is left?",
    "Take d f k m. Reverse it. What is left?",
    "Take d f k. Drop the last. Chop the first. Drop the last. What is left?",  # nothing is left
    "Take d f k m. Paint it. Swap the ends. What is left?",
]


@pytest.mark.parametrize(("instruction", "response"), EXAMPLES.items())
def test_examples(instruction: str, response: str) -> None:
    problem = language.parse(instruction)
    assert problem is not None
    assert problem.response == response
    assert language.is_correct(instruction, response)
    assert not language.is_correct(instruction, response + " 1")
    assert not language.is_correct(instruction, problem.rationale)


@pytest.mark.parametrize("text", INVALID)
def test_invalid_instructions_are_rejected(text: str) -> None:
    assert language.parse(text) is None
    assert not language.is_correct(text, "#### 1")


@pytest.mark.parametrize("domain", language.DOMAINS)
def test_parse_is_the_inverse_of_sampling(domain: str) -> None:
    rng = random.Random(domain)
    for _ in range(3000):
        problem = language.sample_problem(rng, domain)
        assert language.parse(problem.instruction) == problem
        assert problem.domain == domain
        assert language.final_answer(problem.response) == problem.answer != ""
        assert len(problem.keywords) == 3
        assert all(problem.keywords)
        assert problem.answer not in problem.vague_rationale.split()


def test_damaged_instructions_parse_only_to_what_they_say() -> None:
    """Whatever damage is done, parsing ends, and what still parses is a problem with exactly this wording."""
    rng = random.Random(5)
    for _ in range(4000):
        words = language.sample_problem(rng).instruction.split(" ")
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(words))
            words[place : place + rng.randint(0, 2)] = rng.choices(words, k=rng.randint(0, 2))
            if not words:
                break
        problem = language.parse(" ".join(words))
        assert problem is None or problem.instruction == " ".join(words).strip()


@pytest.mark.parametrize(
    "pairs",
    [[("a", "b"), ("b", "a")], [("a", "a")], [("a", "b"), ("c", "b")], [("a", "b"), ("a", "c")],
     [("a", "b"), ("c", "d")], [("a", "b"), ("b", "c"), ("c", "b")], []],
)  # fmt: skip
def test_comparisons_that_form_no_line(pairs: list[tuple[str, str]]) -> None:
    assert orders.chain(pairs) is None


@pytest.mark.parametrize(("domain", "held"), [(d, m) for d, all_ in language.MISCONCEPTIONS.items() for m in all_])
def test_every_misconception_shows_and_not_always(domain: str, held: str) -> None:
    rng = random.Random(held)
    wrong = 0
    for _ in range(300):
        problem = language.sample_problem(rng, domain)
        assert language.work(problem, ()) == language.work(problem, ("a misconception of another domain",))
        wrong += language.work(problem, (held,))[-1].result != problem.answer
    assert 30 < wrong < 290


def test_flaws_are_flaws() -> None:
    rng = random.Random(2)
    for _ in range(2000):
        problem = language.sample_problem(rng)
        assert not language.is_correct(problem.instruction, flawed_response(rng, problem))
        text, flags = flawed_instruction(rng, problem)
        assert language.parse(text) is None
        assert sorted(flags) == [0, 1, 1]


def test_split_ignores_wording_and_has_its_sizes() -> None:
    one = language.parse("Bob has 20 pens. Bob buys 4 more. Bob gives 3 to Jon. How many pens does Bob have now?")
    two = language.parse("Eve has 20 keys. Eve buys 4 more. Eve gives 3 to Tom. How many keys does Eve have now?")
    assert one is not None
    assert two is not None
    assert one.key == two.key
    assert language.split_of(one) == language.split_of(two)
    rng = random.Random(0)
    splits = [language.split_of(language.sample_problem(rng)) for _ in range(5000)]
    assert abs(splits.count("train") / 5000 - 0.8) < 0.03
    assert abs(splits.count("test") / 5000 - 0.1) < 0.03


@pytest.mark.parametrize(
    ("text", "answer"),
    [("a #### 5", "5"), ("#### d  f ", "d f"), ("no mark", None), ("####", None), ("#### 1 #### 2", "2")],
)
def test_final_answer(text: str, answer: str | None) -> None:
    assert language.final_answer(text) == answer
