"""Progress files and stopping where progress is made."""

import json

import pytest

from gra_train import progress
from gra_train.runs import Stopped


@pytest.fixture
def file(tmp_path):
    progress.write_to(tmp_path / "progress.json")
    yield tmp_path / "progress.json"
    progress.write_to(None)


def test_the_last_state_is_written(file):
    with progress.task("rows", total=3, unit="rows") as bar:
        bar.advance()
        bar.advance(2, note="nearly")
    state = json.loads(file.read_text())
    assert (state["done"], state["total"], state["label"], state["note"]) == (3, 3, "rows", "nearly")


def test_a_stop_request_ends_the_stage_where_it_reports(file):
    with progress.task("rows") as bar:
        bar.advance()
        (file.parent / "STOP").touch()
        bar._written = 0.0
        with pytest.raises(Stopped, match="rows"):
            bar.advance()


def test_training_looks_for_itself(file):
    (file.parent / "STOP").touch()
    with progress.task("steps", stoppable=False) as bar:
        bar._written = 0.0
        bar.advance()
    assert bar.done == 1


def test_without_a_run_nothing_is_written(tmp_path):
    with progress.task("rows") as bar:
        bar.advance()
    assert not list(tmp_path.iterdir())
