"""The benchmarks' data set card says what is there and what cannot be read of it."""

import gzip
import json
import re

import yaml

from gra_train.evaluation.benchmarks import FOLDER, asking, benchmark, names
from gra_train.evaluation.scoring import How, score
from gra_train.schema import Evaluation

TEXT = (FOLDER / "README.md").read_text()
FAILURES = yaml.safe_load(TEXT.split("---")[1])["extraction_failures"]
FORMS = {
    'the gold answer, after "So the answer is"': "Let us see. So the answer is {}.",
    'the gold answer, after "Answer:", on a line of its own': "Some thoughts.\nAnswer: {}",
    "the gold answer alone": "{}",
}
SOLUTIONS = {
    "published": "a reference solution, read by the published protocol",
    "robust": "a reference solution, read by the robust protocol",
}
QUOTED = "a choice quoted in full in place of its letter"
ROW = re.compile(r"^\| (\w+) \| ([\w/]+) \| ([\d,]+) \| (\S+) \|", re.MULTILINE)


def test_every_benchmark_stands_in_it():
    rows = {name: (file, licence) for name, file, _, licence in ROW.findall(TEXT)}
    assert rows.keys() | {"aime", "crow", "gpqa", "hotpotqa"} == set(names())
    for name, (file, licence) in rows.items():
        assert benchmark(name).questions.file == f"{file}.jsonl.gz"
        assert benchmark(name).license == licence


def test_what_cannot_be_read_stands_in_it(data_dir):
    found = {form: {} for form in (*SOLUTIONS.values(), *FORMS, QUOTED)}
    rows = {}
    for name, _, count, _ in ROW.findall(TEXT):
        evaluation = Evaluation(tasks=[name], protocol="robust", data_dir=str(data_dir))
        how, rows[name] = asking.asked(name, evaluation).how, asking.questions(name, evaluation)
        assert len(rows[name]) == int(count.replace(",", ""))
        if how.kind in ("letter", "text", "number", "formula"):
            for form, words in FORMS.items():
                found[form][name] = unread(how, rows[name], [words.format(row["gold"]) for row in rows[name]])
        if how.kind == "letter":
            said = [row["choices"]["ABCDEFGHIJ".index(row["gold"])] for row in rows[name]]
            found[QUOTED][name] = unread(how, rows[name], said)
    for name, file, column in (("gsm8k", "gsm8k/test", "answer"), ("math", "math/math_test", "solution")):
        with gzip.open(data_dir / f"{file}.jsonl.gz") as lines:
            texts = [json.loads(line)[column] for line in lines]
        for protocol, form in SOLUTIONS.items():
            evaluation = Evaluation(tasks=[name], protocol=protocol, data_dir=str(data_dir))
            found[form][name] = unread(asking.asked(name, evaluation).how, rows[name], texts)
    assert {form: {k: n for k, n in counts.items() if n} for form, counts in found.items()} == FAILURES


def unread(how: How, rows: list, answers: list) -> int:
    return sum(not mark.correct for mark in score(how, rows, answers))
