import json

import pytest

from gra_train.collate.data import Task, number, parts, split, tasks
from gra_train.errors import UserError
from gra_train.schema import DataFile


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataFile(path=str(path))


ITEMS = [Task(str(i), f"q{i}", "a", "r") for i in range(11)]


def test_parts_are_equal_random_and_together_everything():
    found = parts(ITEMS, 3, seed=0)
    assert [len(part) for part in found] == [4, 4, 3]
    assert sorted(int(t.id) for part in found for t in part) == list(range(11))
    assert found == parts(ITEMS, 3, seed=0)
    assert found != parts(ITEMS, 3, seed=1)


def test_validation_rows_are_kept_apart():
    rest, validation = split(ITEMS, 4, seed=0)
    assert (len(rest), len(validation)) == (7, 4)
    assert not {t.id for t in rest} & {t.id for t in validation}
    with pytest.raises(UserError, match="validation_rows=11, but the rationale data have only 11 rows"):
        split(ITEMS, 11, seed=0)


def test_forms_of_rationale_data(tmp_path):
    rows = [
        {"instruction": "one", "rationale": "because", "answer": "1"},
        {"instruction": "two", "rationale": "thus", "response": 2},
        {"instruction": "three", "response": "count up #### 3"},
    ]
    found = tasks(write(tmp_path / "own.jsonl", rows), seed=0, need_rationale=True)
    assert [(t.instruction, t.rationale, t.answer) for t in found] == [
        ("one", "because", "1"),
        ("two", "thus", "2"),
        ("three", "count up", "3"),
    ]
    gsm8k = write(tmp_path / "gsm8k.jsonl", [{"question": "q", "answer": "2+2=<<2+2=4>>4\n#### 4"}])
    [task] = tasks(gsm8k, seed=0, need_rationale=True)
    assert task.answer == "4"
    assert task.rationale == "2+2=4"
    cot = write(tmp_path / "cot.jsonl", [{"source": "q", "target": "a", "rationale": "r"}])
    fields = {"instruction": "source", "response": "target", "rationale": "rationale"}
    assert tasks(DataFile(path=cot.path, format="fields", fields=fields), seed=0) == [Task("0", "q", "a", "r")]


def test_a_row_that_does_not_fit_names_its_line(tmp_path):
    file = write(tmp_path / "bad.jsonl", [{"instruction": "x", "answer": "1"}, {"instruction": "y", "answer": ""}])
    with pytest.raises(UserError, match=r"bad.jsonl, line 2: it has no answer"):
        tasks(file, seed=0)
    assert len(tasks(DataFile(path=file.path, on_bad_row="skip"), seed=0)) == 1
    with pytest.raises(UserError, match=r"line 1: it has no rationale"):
        tasks(file, seed=0, need_rationale=True)
    with pytest.raises(UserError, match=r"collate\.task_data\.path"):
        tasks(DataFile(), seed=0)


def test_miniature_tasks_are_not_the_rationale_rows():
    gold = tasks(DataFile(path="mini:rationales", limit=30), seed=0, need_rationale=True)
    given = tasks(DataFile(path="mini:tasks:Math", limit=30), seed=0)
    assert all(t.rationale and t.answer for t in gold)
    assert not any(t.rationale for t in given)
    assert given == tasks(DataFile(path="mini:tasks:Math", limit=40), seed=0)[:30]
    with pytest.raises(UserError, match="Did you mean 'mini:tasks'"):
        tasks(DataFile(path="mini:task"), seed=0)
    with pytest.raises(UserError, match="no domain"):
        tasks(DataFile(path="mini:tasks:Maths"), seed=0)


def test_numbers_depend_on_every_part():
    assert number(1, "a") == number(1, "a") != number(1, "b")
    assert number("1a") != number(1, "a")
    assert 0 <= number("x") < 2**31


def test_domain_splits_keep_domains_whole():
    items = [Task(str(i), "q", "a", domain=d) for i, d in enumerate("AAAAABBBCC")]
    found = parts(items, 2, seed=0, by="domain")
    assert [sorted({t.domain for t in part}) for part in found] == [["A"], ["B", "C"]]
    assert sorted(int(t.id) for part in found for t in part) == list(range(10))
    with pytest.raises(UserError, match=r"the data name 3 domains .*too few for collate.providers=4"):
        parts(items, 4, seed=0, by="domain")


def test_rows_of_ones_own_set_without_a_rationale_are_left_out(tmp_path):
    rows = [{"instruction": "one", "response": "count #### 1"}, {"instruction": "two", "response": "2"}]
    file = write(tmp_path / "data.jsonl", rows)
    found = tasks(DataFile(path=file.path, on_bad_row="skip"), seed=0, need_rationale=True)
    assert [(t.rationale, t.answer) for t in found] == [("count", "1")]
