"""Reading answers: written by hand as models write them, and the reference solutions of real benchmarks."""

import gzip
import json
import time

import pytest

from gra_train.evaluation.answers import code, formula, letter, number, same_formula, same_number, same_text, text
from gra_train.evaluation.answers.many import same_formulas

NUMBERS = [
    ("She makes 9 * 2 = 18 dollars.\n#### 18", "18", "marked"),
    ("#### 5\nNo, wait.\n#### 1,234", "1234", "marked"),
    ("#### $3.50", "7/2", "marked"),
    ("####  -12 ", "-12", "marked"),
    (r"Therefore $x = \boxed{42}$.", "42", "boxed"),
    (r"\boxed{\frac{3}{4}} of the cake", "3/4", "boxed"),
    (r"First \boxed{1}, at last \boxed{1,000,000}.", "1000000", "boxed"),
    (r"\boxed{\$18}", "18", "boxed"),
    (r"\boxed{12\text{ apples}}", "12", "boxed"),
    (r"\boxed{10{,}500}", "10500", "boxed"),
    (r"\boxed 7", "7", "boxed"),
    ("The answer is 72.", "72", "stated"),
    ("**Final answer:** 1 1/2 cups", "3/2", "stated"),
    ("So the answer is $1,250.75 in total.", "5003/4", "stated"),
    ("The final answer is −7.", "-7", "stated"),
    ("The answer is 3 + 4 = 7", "7", "stated"),
    ("Answer: 15%", "15", "stated"),
    ("the answer is 12 (that is, 3 boxes of 4).", "12", "stated"),
    ("The answer is 2.5e3 metres.", "2500", "stated"),
    (r"The answer is 3 \times 10^{4}.", "30000", "stated"),
    ("The correct answer would be .5", "1/2", "stated"),
    ("18", "18", "alone"),
    ("-3.25", "-13/4", "alone"),
    ("$20", "20", "alone"),
    ("He has 5 apples, eats 2 and is left with 3.", "3", "last"),
    ("Tom walks 3 miles on day 1 and 4 miles on day 2, so 7 miles.", "7", "last"),
    ("It costs 1 200 euros altogether, as said", "1200", "last"),
    ("<think>Perhaps 99. The answer is 98.</think>The answer is 7.", "7", "stated"),
    ("<think>The answer is 98, or", None, ""),
    ("I cannot answer that.", None, ""),
    ("", None, ""),
    ("Item A4 is in room B12", None, ""),
    ("#### Step 1: count\nso \\boxed{42}", "42", "boxed"),
    ("#### Step 2: sell them\nThe answer is 26.", "26", "stated"),
    ("#### 1. Count\n5 eggs.\n#### 2.\nSell them for 30 dollars", "30", "last"),
    ("#### 18 dollars\n\nI hope that this helps all 3 of you!", "18", "marked"),
    ("#### Step 3: so the answer is 7", "7", "marked"),
    ("#### 18 dollars (2 for each of 9 eggs)", "18", "marked"),
    ("The cheaper option is 20 dollars less than 50, so she pays 30.", "30", "last"),
    ("**Answer:** Janet has 16 eggs, eats 3 and bakes with 4, making 18 dollars.", "18", "last"),
    ("The answer is 20 less than 50, so 30.", "30", "last"),
    ("The answer is 18 dollars for 9 eggs.", "18", "stated"),
    ("The answer is 12, since 3 boxes hold 4 each.", "12", "stated"),
    ("Answer: 3 * 4 = 12, 5 + 6 = 11 and 20 are left", "20", "last"),
]


@pytest.mark.parametrize(("given", "value", "how"), NUMBERS)
def test_numbers(given, value, how):
    assert number(given) == (value, how)


def test_equal_numbers():
    assert same_number("1/3", "333333333/1000000000")
    assert not same_number("1/3", "33/100")
    assert not same_number(None, "3")
    assert not same_number("3", "four")
    assert same_number("18", "18.00")
    assert same_number("18", "18.0000001")
    assert not same_number("1000000", "1000001")
    assert not same_number("123456789", "123456790")
    assert not same_number("1000000", "1000000.5")
    assert same_number("10000000/3", "3333333.33")


CAPITALS = ["Paris", "London", "Rome", "A big city"]
LETTERS = [
    ("B", (), "B", "alone"),
    ("(C)", (), "C", "alone"),
    ("b.", (), "B", "alone"),
    ("**D**", (), "D", "alone"),
    ("C) because it is warm", (), "C", "alone"),
    ("B. London", CAPITALS, "B", "alone"),
    ("London", CAPITALS, "B", "alone"),
    ("The answer is (B).", (), "B", "stated"),
    ("The correct answer is **C**, since Rome is warm.", (), "C", "stated"),
    ("The correct option is D) A big city", CAPITALS, "D", "stated"),
    ("Answer: a", (), "A", "stated"),
    ("The answer is A big city.", CAPITALS, "D", "stated"),
    ("the answer is a list of things", (), None, ""),
    ("The answer is option C.", (), "C", "stated"),
    (r"\boxed{B}", (), "B", "boxed"),
    (r"\boxed{\text{(A)}}", (), "A", "boxed"),
    ("It is warm.\n#### C", (), "C", "marked"),
    ("Paris is in France. So:\nA", CAPITALS, "A", "alone"),
    ("A country has many cities.", (), None, ""),
    ("Both (A) and (C) seem right, but (C) is warmer", (), "C", "last"),
    ("F", (), None, ""),
    ("E", CAPITALS, None, ""),
    ("<think>(A)? The answer is (B).</think>\nThe answer is (D).", CAPITALS, "D", "stated"),
    ("I don't know", CAPITALS, None, ""),
    ("#### Conclusion\nSo the answer is (B).", (), "B", "stated"),
    ("#### B is wrong, for it is cold.\nThe answer is C.", (), "C", "stated"),
    ("#### B\nIt is cold there.", (), "B", "marked"),
    ("#### A\nToo big.\n#### B\nThis fits well", (), "B", "last"),
]


@pytest.mark.parametrize(("given", "choices", "value", "how"), LETTERS)
def test_letters(given, choices, value, how):
    assert letter(given, choices) == (value, how)


TEXTS = [
    ("So.\n#### Paris", "Paris", "marked"),
    ("#### Conclusion\nSo the answer is (B).", "(B)", "stated"),
    ("#### Step 1\nIt is in France.\nParis", "Paris", "last"),
]


@pytest.mark.parametrize(("given", "value", "how"), TEXTS)
def test_texts(given, value, how):
    assert text(given) == (value, how)


@pytest.mark.parametrize("answer", ["(A)", "A", "**A**", "a)", "A.", "(A) Paris", "Option A"])
def test_an_option_is_its_letter(answer):
    assert same_text("(A)", answer)
    assert not same_text("(B)", answer)


def test_an_article_is_no_option():
    assert not any(same_text("(A)", answer) for answer in ("the", "a list of things", "A big city", "AA", "", None))
    assert same_text("a list", "The list.")


FORMULAS = [
    (r"Hence \boxed{\frac{1}{2}}.", r"\frac{1}{2}", "boxed"),
    (r"\boxed{\left\{x : \frac{a}{b} = {c}\right\}}", r"\left\{x : \frac{a}{b} = {c}\right\}", "boxed"),
    (r"\fbox{3}, no, \boxed{4}", "4", "boxed"),
    ("The answer is $x^2 + 1$.", "x^2 + 1", "stated"),
    (r"The final answer is \(\sqrt{2}\), as said.", r"\sqrt{2}", "stated"),
    ("Thus $a = 3$ and so $b = 4$", "b = 4", "last"),
    ("so it is 12 in the end", "12", "last"),
    ("No idea.", None, ""),
    ("#### Step 1\nAll of it is $3x$, so the answer is $x$", "x", "stated"),
    ("The cheaper option is 20 dollars less, so that $y = 30$", "y = 30", "last"),
    (r"unfinished \boxed{\frac{1}{2", "2", "last"),
    (r"\frac{12}{7}", r"\frac{12}{7}", "alone"),
    ("$(3, -4)$.", "(3, -4)", "alone"),
    (r"\text{Evelyn}", r"\text{Evelyn}", "alone"),
    ("-17", "-17", "alone"),
    ("$3$ or $4$", "4", "last"),
    ("3 apples\n4", "4", "last"),
    ("", None, ""),
]


@pytest.mark.parametrize(("given", "value", "how"), FORMULAS)
def test_formulas(given, value, how):
    assert formula(given) == (value, how)


SAME = [
    (r"\frac{1}{2}", "0.5"), (r"\frac12", r"\dfrac{1}{2}"), (r"x^2+2x+1", r"(x+1)^2"), (r"\sqrt{8}", r"2\sqrt{2}"),
    (r"90^\circ", "90"), (r"10\text{ cm}", "10"), ("[0,1)", "[0, 1)"), (r"\{1,2\}", r"\{2,1\}"), ("x=4", "4"),
    (r"\text{Monday}", "monday"), ("1{,}000", "1000"),
]  # fmt: skip
DIFFERENT = [(r"\frac{1}{2}", "0.3"), ("x+1", "x-1"), ("[0,1)", "(0,1)"), ("3", "4"), ("(1,2)", "(2,1)"), ("3", "")]


@pytest.mark.parametrize(("gold", "answer"), SAME)
def test_the_same_formula(gold, answer):
    assert same_formula(gold, answer)


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_another_formula(gold, answer):
    assert not same_formula(gold, answer)


def test_many_formulas_and_one_that_never_ends():
    pairs = [*SAME, *DIFFERENT, ("3", "9^{9^{9^{9}}}"), ("7", "7.0")]
    started = time.monotonic()
    found = same_formulas(pairs, seconds=4, workers=2)
    assert time.monotonic() - started < 60
    assert found[: len(SAME)] == [True] * len(SAME)
    assert found[len(SAME) : len(SAME) + len(DIFFERENT)] == [False] * len(DIFFERENT)
    assert not found[-2]
    assert found[-1] is True


FENCED = (
    "Here you are:\n```python\nimport math\n\ndef area(r):\n    return math.pi * r ** 2\n```\nIt squares the radius."
)
PROMPT = 'def add(a, b):\n    """Add."""\n'


def test_programs():
    assert code(FENCED, "area").how == "block"
    assert "return math.pi" in code(FENCED, "area").value
    assert "It squares" not in code(FENCED, "area").value
    several = "```python\ndef helper(x):\n    return x\n```\nand\n```py\ndef f(x):\n    return helper(x)\n```\n"
    several += "Use:\n```\nprint(f(3))\n```"
    found = code(several, "f").value
    assert "def helper" in found
    assert "print" not in found
    assert code("```python\n    return a + b\n```", "add", prompt=PROMPT).value == PROMPT + "    return a + b"
    assert code("```python\nreturn a + b\n```", "add", prompt=PROMPT).value == PROMPT + "    return a + b"
    assert code("    return a + b\n\nThis adds.", "add", prompt=PROMPT).value.rstrip() == PROMPT + "    return a + b"
    assert code("def add(a, b):\n    return a + b\nThat is all.", "add").value == "def add(a, b):\n    return a + b"
    assert code("```python\ndef f():\n    return 1", "f").value == "def f():\n    return 1"
    assert code("", "f").value is None
    assert code("<think>```python\nx\n```</think>", "f").value is None


def rows(path):
    with gzip.open(path) as lines:
        return [json.loads(line) for line in lines]


def test_reference_solutions_of_gsm8k_extract_to_themselves(data_dir):
    found = rows(data_dir / "gsm8k/test.jsonl.gz")
    assert len(found) == 1319
    golds = [row["answer"].split("####")[1].strip().replace(",", "") for row in found]
    started = time.monotonic()
    read = [number(row["answer"]) for row in found]
    assert time.monotonic() - started < 3
    assert all(r.how == "marked" and same_number(r.value, g) for r, g in zip(read, golds, strict=True))


def test_reference_solutions_of_math_extract_to_themselves(data_dir):
    found = rows(data_dir / "math/math_test.jsonl.gz")
    assert len(found) == 5000
    answers = [formula(row["solution"]) for row in found]
    assert {answer.how for answer in answers} == {"boxed"}
    assert all(same_formulas([(answer.value, answer.value) for answer in answers]))
    whole = [answer.value for answer in answers if answer.value.isdigit()]
    assert len(whole) > 2000
    assert all(same_formulas([(value, f"{value}.0") for value in whole])), "equal as numbers, not as text"
