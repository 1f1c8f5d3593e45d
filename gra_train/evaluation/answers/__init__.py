"""Reading answers: a number, a letter, a formula, a short text or a program out of what a model wrote."""

from gra_train.evaluation.answers.code import code
from gra_train.evaluation.answers.found import Found
from gra_train.evaluation.answers.letters import letter
from gra_train.evaluation.answers.maths import formula, same_formula
from gra_train.evaluation.answers.numbers import number, same_number
from gra_train.evaluation.answers.texts import same_text, text

__all__ = ["Found", "code", "formula", "letter", "number", "same_formula", "same_number", "same_text", "text"]
