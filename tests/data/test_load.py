"""Reading data sets: formats, kinds of files, and wrong input of every kind."""

import gzip
import json
import os
from pathlib import Path

import pytest

from gra_train.compose import compose, groups
from gra_train.data.load import load, read
from gra_train.errors import UserError
from gra_train.mini.language import is_correct
from gra_train.records import Sample, write_samples
from gra_train.schema import DataFile
from gra_train.settings import change

ROWS = [{"instruction": "Add 2 and 3.", "response": "5"}, {"instruction": "Name a colour.", "response": "red"}]


@pytest.fixture
def file(tmp_path):
    def write(text, name="seeds.jsonl"):
        path = tmp_path / name
        content = text if isinstance(text, str | bytes) else "\n".join(json.dumps(row) for row in text) + "\n"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def pairs(samples):
    return [(s.instruction, s.response) for s in samples]


def test_our_own_format_with_annotations(file):
    rows = [
        {**ROWS[0], "domain": "Math", "keywords": ["sum", "two"], "summary": "Add.", "id": "x1", "other": 3},
        ROWS[1],
    ]
    one, two = load(DataFile(path=file(rows)))
    assert one == Sample("x1", "Add 2 and 3.", "5", "Math", ("sum", "two"), "Add.", "seeds")
    assert two == Sample("seeds-1", "Name a colour.", "red", source="seeds")


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz", "a.json", "a.json.gz", "a.parquet"])
def test_kinds_of_files(tmp_path, name):
    path = tmp_path / name
    text = json.dumps(ROWS) if ".json" in name and "jsonl" not in name else "\n".join(map(json.dumps, ROWS))
    if name.endswith("parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif name.endswith("gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    assert pairs(load(DataFile(path=str(path)))) == [("Add 2 and 3.", "5"), ("Name a colour.", "red")]


def test_a_json_file_with_lines_or_with_a_list_inside(file):
    assert len(load(DataFile(path=file(ROWS, "lines.json")))) == 2
    assert len(load(DataFile(path=file(json.dumps({"version": 1, "data": ROWS}), "nested.json")))) == 2


FORMATS = {
    "alpaca": ({"instruction": "Sum up.", "input": "Much.", "output": "Short."}, ("Sum up.\n\nMuch.", "Short.")),
    "gsm8k": ({"question": "2 + 3?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5"}, ("2 + 3?", "2 + 3 = 5\n#### 5")),
    "self_instruct": (
        {"id": "t1", "instruction": "Translate.",
         "instances": [{"input": "un", "output": "one"}, {"input": "deux", "output": "two"}]},
        ("Translate.\n\nun", "one"),
    ),
    "chat": (
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi?"},
                      {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "More?"}]},
        ("Hi?", "Hello."),
    ),
    "condor": ({"prompt": "Plan a trip.", "prediction": "Go by train."}, ("Plan a trip.", "Go by train.")),
    "dolly": (
        {"instruction": "Who won?", "context": "Ann beat Bob.", "response": "Ann.", "category": "closed_qa"},
        ("Who won?\n\nAnn beat Bob.", "Ann."),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("detected", [True, False])
def test_formats(file, name, detected):
    row, expected = FORMATS[name]
    assert pairs(load(DataFile(path=file([row]), format="auto" if detected else name))) == [expected]


@pytest.mark.parametrize("name", ["auto", "sharegpt", "wizardlm"])
def test_conversations(file, name):
    turns = [("gpt", "(cut)"), ("human", "Hi?"), ("gpt", "Hello."), ("human", "More?")]
    row = {"id": "c7", "conversations": [{"from": who, "value": text} for who, text in turns]}
    (one,) = load(DataFile(path=file([row]), format=name))
    assert (one.id, one.instruction, one.response) == ("c7", "Hi?", "Hello.")


def test_wizardlm_with_the_columns_of_alpaca(file):
    path = file([{"instruction": "Evolve.", "output": "Done."}])
    assert pairs(load(DataFile(path=path, format="wizardlm"))) == [("Evolve.", "Done.")]


def test_a_prompt_in_the_template_of_alpaca_is_taken_out(file):
    template = "Below is an instruction that describes a task. Answer.\n\n### Instruction:\n{}\n\n### Response:\n"
    rows = [{"prompt": template.format("What is it?\n\n### Input:\nA cat."), "response": "A cat."},
            {"prompt": "What else?", "response": "A dog."}]  # fmt: skip
    expected = [("What is it?\n\n### Input:\nA cat.", "A cat."), ("What else?", "A dog.")]
    assert pairs(load(DataFile(path=file(rows)))) == expected


@pytest.mark.parametrize("name", sorted(set(groups()["seeds"]) - {"mini", "own"}))
def test_every_preset_reads_its_format(file, name):
    """conf/seeds/<name> with a file in place of its Hub name."""
    preset = compose([f"seeds={name}"]).seeds
    rows = {"sharegpt": {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            "wizardlm": {"instruction": "a", "output": "b"}}  # fmt: skip
    given, (question, _) = (rows[name], ("a", "b")) if name in rows else FORMATS[name]
    loaded = read(change(preset, path=file([given, {"strange": 1}]), on_bad_row="skip"))
    assert [s.instruction for s in loaded.samples] == [question]
    assert "line 2: no column" in loaded.skipped[0]


def test_own_fields(file):
    path = file([{"q": "Hi?", "a": 42, "topic": "QA", "tags": "greeting, short"}])
    fields = {"instruction": "q", "response": "a", "domain": "topic", "keywords": "tags"}
    (row,) = load(DataFile(path=path, format="fields", fields=fields))
    assert (row.instruction, row.response, row.domain, row.keywords) == ("Hi?", "42", "QA", ("greeting", "short"))


def test_a_run_folder(tmp_path):
    (tmp_path / "result").mkdir()
    write_samples(tmp_path / "result", [Sample("a", "do", "done", "QA")])
    for folder in (tmp_path, tmp_path / "result"):
        assert pairs(load(DataFile(path=str(folder)))) == [("do", "done")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no data set"):
        load(DataFile(path=str(tmp_path / "empty")))


def test_limit_and_lines_without_content(file):
    path = file("\n" + json.dumps(ROWS[0]) + "\n\n  \n" + json.dumps(ROWS[1]) + "\nnot json, but beyond the limit\n")
    assert len(load(DataFile(path=path, limit=2))) == 2


WRONG = {
    "empty": ("", {}, "has no rows"),
    "blank lines": ("\n\n", {}, "has no rows"),
    "not json": ('{"instruction": "a", "response": "b"}\n{"instruction": \n', {}, r"line 2: not JSON"),
    "a list": ("[1, 2]\n", {}, "line 1: a JSON list; expected an object"),
    "binary": (b"\x89PNG\r\n\x1a\n\x00\x00", {}, "line 1: not|not a text file"),
    "null bytes": (b'{"instruction": "a", "response": "b"}\n\x00\x00\n', {}, "line 2: not a text file"),
    "latin-1": ('{"instruction": "caf\u00e9", "response": "b"}\n'.encode("latin-1"), {}, "line 1: not UTF-8 text"),
    "unknown columns": ('{"a": 1, "b": 2}\n', {}, "no known format has the columns a, b"),
    "missing column": ('{"question": "a", "answer": "b"}\n{"question": "c"}\n', {}, "line 2: no column 'answer'"),
    "empty instruction": ('{"instruction": " ", "response": "b"}\n', {}, "line 1: its instruction is empty"),
    "empty response": ('{"instruction": "a", "response": ""}\n', {}, "line 1: its response is empty"),
    "not a text": ('{"instruction": {"x": 1}, "response": "b"}\n', {}, "its instruction is a dict, not text"),
    "null": ('{"instruction": null, "response": "b"}\n', {}, "its instruction is empty"),
    "no instances": ('{"instruction": "a", "instances": []}\n', {}, "instances are not a list"),
    "no user": ('{"messages": [{"role": "system", "content": "x"}]}\n', {}, "no turn of a user; roles: system"),
    "wrong format": ('{"instruction": "a", "output": "b"}\n', {"format": "gsm8k"},
                     "no column 'question'; there are: instruction, output"),
    "wrong field": ('{"q": "a"}\n', {"format": "fields", "fields": {"instruktion": "q"}}, "Did you mean 'instruction'"),
    "no fields": ('{"q": "a"}\n', {"format": "fields"}, "needs fields.instruction"),
    "field without column": ('{"q": "a"}\n', {"format": "fields", "fields": {"instruction": "x"}},
                             "no column 'x'; there are: q"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_rows(file, case):
    text, settings, message = WRONG[case]
    with pytest.raises(UserError, match=message) as error:
        load(DataFile(path=file(text), **settings))
    assert "seeds.jsonl" in str(error.value) or "fields" in settings.get("format", "")


def test_wrong_files(tmp_path, file):
    with pytest.raises(UserError, match="does not exist"):
        load(DataFile(path=str(tmp_path / "nothing.jsonl")))
    with pytest.raises(UserError, match=r"unknown kind of file '\.csv'"):
        load(DataFile(path=file("a,b\n", "a.csv")))
    with pytest.raises(UserError, match="not a whole gzip file"):
        load(DataFile(path=file("plain text", "a.jsonl.gz")))
    with pytest.raises(UserError, match="not a whole gzip file"):
        load(DataFile(path=file(gzip.compress(b'{"instruction": "a"}' * 99)[:-9], "b.jsonl.gz")))
    with pytest.raises(UserError, match="not a parquet file"):
        load(DataFile(path=file("PAR0", "a.parquet")))
    with pytest.raises(UserError, match="not JSON"):
        load(DataFile(path=file("[{]", "a.json")))
    with pytest.raises(UserError, match="has no path"):
        load(DataFile())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(file):
    path = Path(file(ROWS))
    path.chmod(0)
    with pytest.raises(UserError, match="permission denied"):
        load(DataFile(path=str(path)))


def test_bad_rows_can_be_skipped_and_are_counted(file, caplog):
    good, empty, other = (json.dumps({"instruction": text, "response": "b"}) + "\n" for text in ("a", "", "c"))
    path = file(good + "not json\n" + empty + other)
    loaded = read(DataFile(path=path, on_bad_row="skip"))
    assert [s.id for s in loaded.samples] == ["seeds-0", "seeds-3"]
    assert ["line 2" in loaded.skipped[0], "line 3" in loaded.skipped[1]] == [True, True]
    load(DataFile(path=path, on_bad_row="skip"))
    assert "skipped 2 rows" in caplog.text
    with pytest.raises(UserError, match=r"None of 1 fits; the first: .*line 1"):
        load(DataFile(path=file("nope\n"), on_bad_row="skip"))


def test_a_hub_name_that_cannot_be_reached(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="as a Hub data set"):
        load(DataFile(path="nobody/nothing-of-the-kind"))


def test_the_miniature(caplog):
    seeds = load(DataFile(path="mini:seeds", limit=20), seed=1)
    assert len(seeds) == 20
    assert all(is_correct(s.instruction, s.response) and not s.domain for s in seeds)
    assert load(DataFile(path="mini:seeds", limit=10), seed=1) == seeds[:10]
    assert load(DataFile(path="mini:seeds", limit=20), seed=2) != seeds
    gold, questions = (
        load(DataFile(path=f"mini:{w}"), seed=1, rows=30, need_response=False) for w in ("gold", "instructions")
    )
    assert [g.instruction for g in gold] == [q.instruction for q in questions]
    assert all(is_correct(g.instruction, g.response) and g.domain for g in gold)
    assert not any(q.response for q in questions)
    assert len({s.instruction for s in seeds} & {g.instruction for g in gold}) == 0
    with pytest.raises(UserError, match=r"Did you mean 'gold'"):
        load(DataFile(path="mini:golt"))


def test_the_seed_tasks_of_self_instruct(data_dir):
    rows = load(DataFile(path=f"{data_dir}/self_instruct/seed_tasks.jsonl.gz"))
    assert len(rows) == 175
    assert rows[0].id == "seed_task_0"
    assert all(r.instruction and r.response for r in rows)


def test_gsm8k(data_dir):
    rows = load(DataFile(path=f"{data_dir}/gsm8k/train.jsonl.gz", format="gsm8k"))
    assert len(rows) == 7473
    assert not any("<<" in r.response for r in rows)
    assert all("####" in r.response for r in rows)


SETS = {
    "dolly_hhrlhf/train_1000": 1000, "gpteacher/codegen_instruct": 4535, "gpteacher/roleplay_instruct": 1923,
    "gpteacher/toolformer_sim0.6": 2396, "cot/aqua_train": 2728, "cot/strategyqa_train": 2061,
    "self_instruct/user_oriented_instructions": 252,
}  # fmt: skip


def test_other_real_sets_load_and_say_which_rows_do_not_fit(data_dir):
    for name, rows in SETS.items():
        loaded = read(DataFile(path=f"{data_dir}/{name}.jsonl.gz", on_bad_row="skip"))
        assert len(loaded.samples) + len(loaded.skipped) == rows, name
        assert len(loaded.samples) > 0.97 * rows, loaded.skipped[:3]
        assert all(", line " in complaint for complaint in loaded.skipped)
        assert not any("### Instruction" in s.instruction for s in loaded.samples), name
