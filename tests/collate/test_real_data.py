"""Loaders of the papers' data: their columns as they are, and real files under GRA_DATA_DIR."""

import json
import os
from pathlib import Path

import pytest

from gra_train.collate.data import tasks
from gra_train.collate.sources import clean
from gra_train.data.benchmarks import benchmarks
from gra_train.errors import UserError
from gra_train.schema import DataFile, Decontaminate, Evaluation
from gra_train.settings import change

real = pytest.mark.skipif(not os.environ.get("GRA_DATA_DIR"), reason="GRA_DATA_DIR names no folder of data sets")


def read(tmp_path, rows, name="auto", **options):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tasks(DataFile(path=str(tmp_path / "rows.jsonl"), format=name), seed=0, **options)


HUB = {
    "cot_collection": ({"source": "Q", "target": "A", "rationale": "R", "task": "t"}, "Q", "A"),
    "piqa": (
        {"goal": "Open it", "sol1": "push", "sol2": "pull", "label": 1},
        "Open it\nA. push\nB. pull",
        "B",
    ),
    "winogrande": (
        {"sentence": "_ won.", "option1": "Ann", "option2": "Bob", "answer": "1"},
        'Which choice fills the blank "_"?\n_ won.\nA. Ann\nB. Bob',
        "A",
    ),
    "commonsense_qa": (
        {"id": "x", "question": "Where?", "question_concept": "place", "answerKey": "C",
         "choices": {"label": ["A", "B", "C"], "text": ["here", "there", "nowhere"]}},
        "Where?\nA. here\nB. there\nC. nowhere",
        "C",
    ),
    "hellaswag": (
        {"ind": 1, "activity_label": "x", "ctx": "He sits.", "endings": ["Up.", "Down."], "label": "1"},
        "Which ending continues this text best?\nHe sits.\nA. Up.\nB. Down.",
        "B",
    ),
    "esnli": (
        {"premise": "P", "hypothesis": "H", "label": 2, "explanation_1": "because"},
        "Premise: P\nHypothesis: H\nIs it entailment, neutral or contradiction?",
        "contradiction",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HUB)
@pytest.mark.parametrize("said", [True, False], ids=["named", "detected"])
def test_rows_as_the_hub_has_them(name, said, tmp_path):
    row, instruction, answer = HUB[name]
    [task] = read(tmp_path, [row], name if said else "auto")
    assert (task.instruction, task.answer) == (instruction, answer)
    assert task.rationale == {"cot_collection": "R", "esnli": "because"}.get(name, "")


def test_a_row_of_something_else_is_named(tmp_path):
    with pytest.raises(UserError, match=r"line 1: no row of piqa; its columns are q, a"):
        read(tmp_path, [{"q": "x", "a": "y"}], "piqa")


def test_open_assistants_messages_become_questions_with_their_best_answers(tmp_path):
    def message(name, parent, text, role="assistant", **more):
        return {"message_id": name, "parent_id": parent, "text": text, "role": role, "deleted": False, **more}

    rows = [
        message("q1", None, "Why?", "prompter"),
        message("a1", "q1", "unranked"),
        message("a2", "q1", "second", rank=1.0),
        message("a3", "q1", "best", rank=0.0),
        message("q2", "a3", "And then?", "prompter"),
        message("a4", "q2", "later", rank=0.0),
        message("q3", None, "Nobody answers", "prompter"),
        message("q4", None, "gone", "prompter", deleted=True),
    ]
    found = read(tmp_path, rows, "oasst")
    assert [(t.instruction, t.answer) for t in found] == [("Why?", "best")]


@real
@pytest.mark.parametrize(
    ("file", "name", "rows", "rationale"),
    [
        ("cot/aqua_train", "auto", 2728, True),
        ("cot/creak_train", "auto", 6915, True),
        ("cot/ecqa_train", "auto", 6318, True),
        ("cot/gsm8k_train", "auto", 7473, True),
        ("cot/qasc_train", "auto", 1084, True),
        ("cot/sensemaking_train", "auto", 6070, True),
        ("cot/strategyqa_train", "auto", 2061, True),
        ("esnli/dev", "auto", 9842, True),
        ("gsm8k/train", "auto", 7473, True),
        ("dolly_hhrlhf/train_1000", "auto", 1000, False),
        ("piqa/dev", "piqa", 1838, False),
        ("winogrande/dev", "auto", 1267, False),
        ("commonsense_qa/dev_4choice", "commonsense_qa", 1221, False),
        ("hellaswag/val_1000", "auto", 1000, False),
    ],
)
def test_real_files_load(file, name, rows, rationale):
    path = str(Path(os.environ["GRA_DATA_DIR"]) / f"{file}.jsonl.gz")
    found = tasks(DataFile(path=path, format=name, on_bad_row="skip"), seed=0, need_rationale=rationale)
    assert rows * 0.99 <= len(found) <= rows
    assert all(t.instruction and t.answer for t in found)
    assert not rationale or all(t.rationale for t in found)
    if name != "auto" or file.startswith(("winogrande", "hellaswag")):
        assert {t.answer for t in found} <= set("ABCD")


@real
def test_rationales_of_test_questions_trip_the_check(config, tmp_path):
    """794 questions of CommonsenseQA's dev set, with rationales: what is long enough to be compared is left out."""
    apart = Decontaminate(against=["commonsense_qa"])
    given = change(
        config,
        collate=change(config.collate, decontaminate=apart),
        benchmarks=benchmarks(apart, Evaluation(tasks=["commonsense_qa"])),
    )

    def dropped(name: str) -> tuple[int, int]:
        path = str(Path(os.environ["GRA_DATA_DIR"]) / "cot" / f"{name}.jsonl.gz")
        rows = tasks(DataFile(path=path), seed=0, need_rationale=True)
        (folder := tmp_path / name).mkdir()
        kept = clean(given, rows, folder)
        report = json.loads((folder / "contamination.json").read_text())["benchmarks"]["commonsense_qa"]
        assert len(rows) - len(kept) == report["dropped"]
        return len(rows), report["dropped"]

    held_out, found = dropped("ecqa_in_csqa_dev")
    trained, false = dropped("ecqa_train")
    print(f"of {held_out} rows of the dev set {found} are found, of {trained} training rows {false}")
    assert found > 0.4 * held_out
    assert false < 0.01 * trained
