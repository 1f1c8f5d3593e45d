"""Decontamination: overlaps are found with their evidence, in the loop and in existing sets, and nothing else is."""

import gzip
import json
from collections import Counter

import pyarrow.parquet as pq
import pytest

from gra_train.compose import compose
from gra_train.data.benchmarks import Question, benchmarks, lm_eval_questions, questions
from gra_train.data.dataset import dataset
from gra_train.data.load import load
from gra_train.errors import UserError
from gra_train.evaluation.benchmarks import names
from gra_train.experiment import plan, synthesis_only
from gra_train.records import Fate, Sample, read_jsonl, read_samples, write_samples
from gra_train.schema import DataFile, Decontaminate, Evaluation
from gra_train.settings import change
from gra_train.stages import DatasetStage
from gra_train.synthesis.decontaminate import Benchmarks, words

MINI = ["seeds=mini", "pool=mini", "synthesis=mini", "student=mini", "evaluation=mini", "debug=tiny"]
QUESTION = "A farmer has 17 sheep, and all but 9 of them run away; how many sheep does the farmer have left?"


def against(*texts, ngram=13, text="both"):
    return Benchmarks([Question("bench", str(i), t) for i, t in enumerate(texts)], ngram=ngram, text=text)


def test_thirteen_words_in_a_row_are_an_overlap_and_twelve_are_not():
    one, told = against("Something else entirely.", QUESTION), words(QUESTION)
    (match,) = one.matches("Well. " + " ".join(told[3:16]).upper() + " - or not?")
    assert (match.benchmark, match.question_id, match.question) == ("bench", "1", QUESTION)
    assert match.ngram == " ".join(told[3:16])
    assert not list(one.matches("Well. " + " ".join(told[3:15]) + " or not?"))
    assert not list(one.matches(" ".join(told[:10]) + " also " + " ".join(told[10:])))
    assert not list(one.matches(""))
    assert len(list(against(QUESTION, ngram=5).matches(" ".join(told[3:8])))) == 1


def test_each_text_of_a_row_counts_by_itself():
    told = words(QUESTION)
    whole, first, second = " ".join(told), " ".join(told[:10]), " ".join(told[10:])
    assert against(QUESTION).match(first, second) is None  # no n-gram spans instruction and response
    for text, instruction, response in (("instruction", True, False), ("response", False, True), ("both", True, True)):
        one = against(QUESTION, text=text)
        assert (one.match(whole, "no") is not None, one.match("no", whole) is not None) == (instruction, response)


def test_every_question_that_is_shared_is_named_in_order():
    other = "Listen: " + QUESTION
    found = [m.question_id for m in against(QUESTION, "short", other).matches(f"Listen, {QUESTION} {QUESTION}")]
    assert found == ["2", "0"]
    report = against(QUESTION, "short").report({"bench": DataFile(path="x"), "lost": DataFile()}, Counter(bench=4))
    assert report["benchmarks"] == {"bench": {"questions": 2, "too_short": 1, "dropped": 4}}
    assert report["missing"] == ["lost"]


def test_hashes_agree_with_comparing_words():
    """Random texts over few words, where near-misses abound: equal to comparing n-grams as tuples."""
    import random

    draw = random.Random(0)
    texts = [" ".join(draw.choices("abc", k=draw.randint(0, 12))) for _ in range(300)]
    asked, rows = texts[:60], texts[60:]
    grams = [{tuple(words(t)[i : i + 5]) for i in range(len(words(t)) - 4)} for t in texts]
    one = against(*asked, ngram=5)
    for row, mine in zip(rows, grams[60:], strict=True):
        expected = {str(i) for i, theirs in enumerate(grams[:60]) if mine & theirs}
        assert {m.question_id for m in one.matches(row)} == expected


TRAIN = (
    "arc/challenge_train", "arc/easy_train", "cot/aqua_train", "cot/creak_train", "cot/ecqa_train", "cot/gsm8k_train",
    "cot/qasc_train", "cot/sensemaking_train", "cot/strategyqa_train", "dolly_hhrlhf/train_1000",
    "gpteacher/codegen_instruct", "gpteacher/roleplay_instruct", "gpteacher/toolformer_sim0.6", "gsm8k/train",
    "openbookqa/train", "self_instruct/seed_tasks",
)  # fmt: skip
HERE = sorted({*names()} - {"aime", "crow", "gpqa", "hotpotqa"})
"""The benchmarks that the shared data folder has."""
OVERLAPS = {
    "gsm8k": 3, "arc_easy": 17, "arc_challenge": 6, "openbookqa": 6, "mbpp": 2, "humaneval": 1, "ifeval": 1, "math": 2,
    "aqua": 2,
}  # fmt: skip
"""Questions of the test files of the shared data folder that overlap with its train files, as its MANIFEST.md lists."""


def test_the_overlaps_of_the_shared_data_folder_are_found(data_dir):
    settings = Decontaminate(against=HERE, text="instruction", folder=str(data_dir))
    one = Benchmarks.of(settings, benchmarks(settings, Evaluation()))
    found: dict[str, set[str]] = {}
    rows = 0
    for name in TRAIN:
        fields = {"instruction": "question"} if name.startswith(("arc", "openbookqa")) else {}
        form = "fields" if fields else "auto"
        file = DataFile(path=f"{data_dir}/{name}.jsonl.gz", format=form, fields=fields, on_bad_row="skip")
        for row in load(file, need_response=False):
            rows += 1
            for match in one.matches(row.instruction):
                assert match.ngram in " ".join(words(match.question))
                assert match.ngram in " ".join(words(row.instruction))
                found.setdefault(match.benchmark, set()).add(match.question_id)
    assert rows > 58_000
    assert {name: len(ids) for name, ids in found.items()} == OVERLAPS


def test_every_known_benchmark_has_its_questions(data_dir):
    settings = Decontaminate(against=[*HERE, "hendrycks_math"], folder=str(data_dir))
    files = benchmarks(settings, Evaluation())
    counts = {name: len(questions(name, file)) for name, file in files.items()}
    assert counts["mbpp"] == 500  # of 974: the test part
    assert counts["hendrycks_math"] == counts["math"] == 5000
    assert (counts["gsm8k"], counts["humaneval"], counts["mmlu"], counts["hellaswag"]) == (1319, 164, 14042, 1000)


def test_what_the_experiment_evaluates_on(tmp_path, monkeypatch):
    monkeypatch.delenv("GRA_DATA_DIR", raising=False)
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "test.jsonl.gz").write_bytes(gzip.compress(json.dumps({"question": QUESTION}).encode()))
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps({"problem": "Why?"}) + "\n")
    tasks = Evaluation(tasks=["gsm8k_cot", "mini_math"], questions=7, split="validation")
    files = benchmarks(Decontaminate(against=["evaluation", str(own)], folder=str(tmp_path)), tasks)
    asked = {name: questions(name, file) for name, file in files.items()}
    assert [q.text for q in asked["gsm8k_cot"]] == [QUESTION]
    assert len(asked["mini_math"]) == 7
    assert [(q.benchmark, q.text) for q in asked["own.jsonl"]] == [("own.jsonl", "Why?")]
    assert benchmarks(Decontaminate(), tasks) == {}
    own.write_text('{"problem": "Why?"}\n{"solution": "So."}\n')
    with pytest.raises(UserError, match=r"own.jsonl, line 2: no question; expected a text"):
        questions("own.jsonl", files["own.jsonl"])


def test_questions_that_are_not_at_hand(tmp_path, monkeypatch):
    monkeypatch.delenv("GRA_DATA_DIR", raising=False)
    tasks = Evaluation(tasks=["gsm8k", "triviaqa"])
    with pytest.raises(UserError, match=r"'gsm8k' are not at hand: no folder of data sets is named"):
        benchmarks(Decontaminate(against=["evaluation"]), tasks)
    with pytest.raises(UserError, match=r"has no gsm8k/test.jsonl.gz"):
        benchmarks(Decontaminate(against=["gsm8k"], folder=str(tmp_path)), tasks)
    with pytest.raises(UserError, match=r"no such benchmark is known.*Did you mean 'humaneval'"):
        benchmarks(Decontaminate(against=["humanevil"]), tasks)
    with pytest.raises(UserError, match=r"evaluation\.tasks names nothing"):
        benchmarks(Decontaminate(against=["evaluation"]), Evaluation())
    with pytest.raises(UserError, match="there is no file"):
        benchmarks(Decontaminate(against=[str(tmp_path / "no.jsonl")]), tasks)
    left_out = benchmarks(Decontaminate(against=["evaluation"], missing="skip"), tasks)
    assert left_out == {"gsm8k": DataFile(), "triviaqa": DataFile()}
    loaded = benchmarks(Decontaminate(against=["triviaqa"], missing="load"), tasks)
    assert loaded == {"triviaqa": DataFile(path="lm-eval:triviaqa")}


def test_validation_says_which_questions_are_at_hand(tmp_path):
    from gra_train.synthesis.readiness import benchmarks as findings

    bench = tmp_path / "bench.jsonl"
    bench.write_text(json.dumps({"question": QUESTION}) + "\n")
    found = []
    for given in ([f"against=[{bench},triviaqa]", "missing=skip"], ["against=[triviaqa]", "missing=load"]):
        nodes = synthesis_only(compose([*MINI, *(f"synthesis.decontaminate.{word}" for word in given)]))
        found += [(f.state, f.text) for f in findings(nodes, offline=True)]
    assert [state for state, _ in found] == ["ok", "note", "note"]
    assert found[0][1] == "questions to keep rows apart from: bench.jsonl 1"
    assert "left out" in found[1][1]
    assert "lm-eval, not loaded (offline): triviaqa" in found[2][1]
    bench.write_text("oops\n")
    (bad,) = findings(synthesis_only(compose([*MINI, f"synthesis.decontaminate.against=[{bench}]"])), offline=True)
    assert (bad.state, "line 1: not JSON" in bad.text) == ("problem", True)


def test_a_task_that_lm_eval_does_not_have():
    with pytest.raises(UserError, match=r"lm-eval has no task 'triviaqua'.*'triviaqa'"):
        questions("triviaqua", DataFile(path="lm-eval:triviaqua"))


def test_questions_of_a_task_of_lm_eval(tmp_path):
    """A real task, with its data in a file."""
    from lm_eval.tasks import TaskManager

    (tmp_path / "rows.jsonl").write_text(json.dumps({"q": QUESTION, "a": "9"}) + "\n")
    (tmp_path / "task.yaml").write_text(
        f"task: farm\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/rows.jsonl}}, "
        f"cache_dir: {tmp_path}/cache}}\ntest_split: test\noutput_type: generate_until\n"
        'doc_to_text: "Q: {{q}} A:"\ndoc_to_target: "{{a}}"\n'
    )
    tasks = TaskManager(include_path=str(tmp_path), include_defaults=False).load(["farm"])["tasks"].values()
    assert lm_eval_questions("farm", tasks) == [Question("farm", "farm/0", f"Q: {QUESTION} A:")]


def test_an_existing_set_loses_its_contaminated_rows(tmp_path):
    bench = tmp_path / "bench.jsonl"
    bench.write_text(json.dumps({"question": QUESTION}) + "\n")
    for name, rows in (("seeds", [Sample("s0", QUESTION, "9"), Sample("s1", "Add.", "2")]),
                       ("source", [Sample("r0", "Say it.", QUESTION), Sample("r1", "Say so.", "So.")])):  # fmt: skip
        (tmp_path / name).mkdir()
        write_samples(tmp_path / name, rows)
    settings = Decontaminate(against=[str(bench)])
    stage = DatasetStage(0, DataFile(), None, "none", None, settings, benchmarks(settings, Evaluation()))
    out = tmp_path / "out"
    out.mkdir()
    dataset(stage, {name: tmp_path / name for name in ("seeds", "source")}, out)
    assert [s.id for s in read_samples(out)] == ["s1", "r1"]
    dropped = list(read_jsonl(out / "contaminated.jsonl"))
    assert [(d["id"], d["benchmark"], d["question"]) for d in dropped] == [
        ("s0", "bench.jsonl", QUESTION), ("r0", "bench.jsonl", QUESTION),
    ]  # fmt: skip
    assert json.loads((out / "statistics.json").read_text())["removed"] == {
        "seeds": 0, "held_out": 0, "contaminated_seeds": 1, "contaminated": 1,
    }  # fmt: skip
    report = json.loads((out / "contamination.json").read_text())
    assert report["benchmarks"] == {"bench.jsonl": {"questions": 1, "too_short": 0, "dropped": 2}}


def test_a_benchmark_counts_by_its_content(tmp_path):
    names = []
    for folder, text in (("a", QUESTION), ("b", QUESTION), ("c", "Why?")):
        file = tmp_path / folder / "bench.jsonl"
        file.parent.mkdir()
        file.write_text(json.dumps({"question": text}) + "\n")
        config = compose([*MINI, f"synthesis.decontaminate.against=[{file}]"])
        names.append(synthesis_only(config)[-1].run_id)
    assert names[0] == names[1] != names[2]
    nodes = plan(compose(["experiment=mini", "synthesis.decontaminate.against=[evaluation]"]))
    assert all(n.config.benchmarks for n in nodes if n.stage in ("dataset", "synthesize"))


def test_the_loop_drops_what_overlaps_and_keeps_the_evidence(tmp_path):
    """The miniature's models, in process, against questions that share three words with half of what they write."""
    from gra_train.synthesis.stages import seeds, synthesize

    bench = tmp_path / "bench.jsonl"
    bench.write_text(json.dumps({"question": "Take h m k. Reverse it. What is left?"}) + "\n")
    config = compose([*MINI, f"synthesis.decontaminate.against=[{bench}]", "synthesis.decontaminate.ngram=3",
                      "synthesis.decontaminate.text=instruction", "synthesis.rounds=1", "synthesis.max_candidates=32",
                      "seeds.limit=6"])  # fmt: skip
    annotate, loop = synthesis_only(config)
    first, out = tmp_path / "seeds", tmp_path / "out"
    first.mkdir()
    out.mkdir()
    seeds(change(annotate.config, ledger=str(tmp_path / "ledger")), {}, first)
    synthesize(change(loop.config, ledger=str(tmp_path / "ledger")), {"seeds": first}, out)
    rows = pq.read_table(out / "candidates.parquet").to_pylist()
    dropped = [row for row in rows if row["fate"] == Fate.CONTAMINATED and row["benchmark"]]
    assert dropped
    for row in dropped:
        assert row["ngram"] in " ".join(words(row["instruction"]))
        assert row["ngram"] in " ".join(words(row["question"]))
    one = Benchmarks.of(config.synthesis.decontaminate, loop.config.benchmarks)
    assert not any(one.match(s.instruction, s.response) for s in read_samples(out))
    report = json.loads((out / "contamination.json").read_text())
    assert report["benchmarks"]["bench.jsonl"]["dropped"] == len(dropped)
