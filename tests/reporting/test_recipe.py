"""table.yaml: what is wrong in it is said by name, with the file and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from gra_train.errors import UserError
from gra_train.reporting.recipe import read_recipe

GOOD = """
title: a
source: b
miniature:
  rows: {gra: gra, seed: seed}
  baseline: seed
  claims: [{text: it helps, ours: gra, theirs: seed}]
"""


def test_a_recipe_with_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "table.yaml").write_text(GOOD)
    recipe = read_recipe(tmp_path)
    assert recipe.miniature.claims[0].measure == "accuracy"
    assert recipe.figure.kind == "bars"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rows:", "row:", "No setting 'miniature.row'. Did you mean 'miniature.rows'"),
        ("title: a", "titel: a", "No setting 'titel'. Did you mean 'title'"),
        ("baseline: seed", "baseline: solo", "baseline='solo' is not among its rows: gra, seed"),
        ("theirs: seed", "theirs: solo", "'solo' is not among miniature.rows"),
        ("theirs: seed", "theirs: seed, measure: accurcy", "measure='accurcy', expected one of accuracy, data, funnel"),
        ("theirs: seed", "theirs: seed, times: 9", "times=9 is for measures"),
        ("theirs: seed", "their: seed", "No setting 'miniature.claims.0.their'"),
        ("source: b", "source: [b]", "source=.* expected str"),
        ("  rows: {gra: gra, seed: seed}\n  baseline: seed\n  claims: [{text: it helps, ours: gra, theirs: seed}]", "  rows: {}",  # noqa: E501
         "say why in miniature.absent"),
        ("  baseline: seed", "  baseline: seed\n  measures: [{name: rationale_word, title: w}]",
         "no measure 'rationale_word'. Did you mean 'rationale_words'"),
        ("title: a", "title: [a", "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in GOOD
    (tmp_path / "table.yaml").write_text(GOOD.replace(old, new))
    with pytest.raises(UserError, match=words) as found:
        read_recipe(tmp_path)
    assert "table.yaml: " in str(found.value)
