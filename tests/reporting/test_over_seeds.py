"""What a sweep over seeds is shown as: its jobs, and the rows of a paper's table that its experiment has."""

import pytest

from gra_train.reporting.over_seeds import _jobs, _part
from gra_train.reporting.recipe import read_recipe
from gra_train.reporting.tables import table_folder


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        (["experiment=mini", "seed=3,5"], ["3", "5"]),
        (["seed=range(0,3)", "experiment=mini"], ["0", "1", "2"]),
        (["experiment=mini", "sweep=[seeds5,submitit_slurm]"], ["0", "1", "2", "3", "4"]),
        (["experiment=mini", "seed=3"], []),
        (["experiment=mini", "seed=3,5", "sft.lr=1e-3,1e-4"], []),
        (["experiment=mini", "sft.lr=1e-3,1e-4"], []),
    ],
)
def test_only_a_sweep_over_seeds_alone_is_one(words, seeds):
    assert [job[-1] for job in _jobs(words)] == [f"seed={seed}" for seed in seeds]
    assert all("experiment=mini" in job for job in _jobs(words))


def test_of_a_table_the_rows_that_are_there_are_shown_with_what_they_are_set_against():
    mini = read_recipe(table_folder("collate_table1")).miniature
    dss = "gold + COLLATE M_IFT rationales, answerer"
    part = _part(mini, ["gold", dss, "gold + COLLATE answerer", "judge + COLLATE answerer"])
    assert part is not None
    assert list(part.rows) == ["gold", dss, "gold + COLLATE answerer"]
    assert part.baseline == dss
    assert [claim.text for claim in part.claims] == ["COLLATE beats Distilling Step-by-Step"]
    assert _part(mini, ["gold", dss]) is None
