"""Our benchmarks: loading, prompts, and runs of a real model end to end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gra_train.errors import UserError
from gra_train.evaluation import stages
from gra_train.evaluation.benchmarks import asking, benchmark, names
from gra_train.evaluation.lm_tasks import write_tasks
from gra_train.evaluation.questions import questions
from gra_train.records import read_jsonl, write_jsonl
from gra_train.schema import DataFile, Evaluation, Model
from gra_train.settings import change, only
from gra_train.stages import EvaluateStage
from tests.evaluation.conftest import EVALUATION, behaviour, own_benchmark, teach

SMALL = Evaluation(limit=4, shots=0, max_tokens=16, batch_size=4)
COUNTS = {"aqua": 254, "arc_challenge": 1172, "arc_easy": 2376, "bbh": 6511, "commonsense_qa": 1221, "gsm8k": 1319,
          "hellaswag": 1000, "humaneval": 164, "ifeval": 541, "math": 5000, "mbpp": 500, "mmlu": 14042,
          "openbookqa": 500, "piqa": 1838, "winogrande": 1267}  # fmt: skip
OWN = {
    "gpqa": [
        {"Record ID": f"rec{i}", "High-level domain": "Physics", "Question": f"What is {i} + {i}?",
         "Correct Answer": f"{2 * i} \n", "Incorrect Answer 1": f"{2 * i + 1}", "Incorrect Answer 2": f"{2 * i + 2}",
         "Incorrect Answer 3": f"{2 * i + 3}"} for i in range(8)
    ],
    "aime": [{"ID": "2031-I-1", "Year": 2031, "Question": "Add 2 and 5.", "Answer": "007", "Part": "I"}],
    "crow": [{"instance_id": "i1", "type": "intent", "prompt": "Is ice cold?", "answer": "Yes"}],
    "hotpotqa": [
        {"id": "h1", "type": "bridge", "level": "hard", "question": "Who wrote it?", "answer": "the Brontes",
         "supporting_facts": {"title": ["It"], "sent_id": [0]},
         "context": {"title": ["It", "That"], "sentences": [["A book ", "by the Brontes."], ["Another."]]}}
    ],
}  # fmt: skip
FILES = {"gpqa": "gpqa/gpqa_diamond.jsonl", "aime": "aime/aime.jsonl", "crow": "crow/crow.jsonl",
         "hotpotqa": "hotpotqa/dev_distractor.jsonl"}  # fmt: skip


def evaluate(folder: Path, evaluation: Evaluation, **inputs: Path):
    import pyarrow.parquet as pq

    out = folder / "work-1"
    out.mkdir(parents=True)
    config = EvaluateStage(0, Model(path="mini:wren"), evaluation, "mini", "cpu")
    stages.evaluate(config, inputs, out)
    return pq.read_table(out / "questions.parquet").to_pylist(), json.loads((out / "scores.json").read_text())


@pytest.mark.parametrize("protocol", ["published", "robust"])
@pytest.mark.parametrize("choices", ["generate", "likelihood"])
def test_every_benchmark_is_read_from_its_file_and_asked(data_dir, protocol, choices):
    assert {*COUNTS, *OWN} == set(names())
    for name, count in COUNTS.items():
        evaluation = Evaluation(tasks=[name], protocol=protocol, choices=choices, data_dir=str(data_dir))
        rows, one = asking.questions(name, evaluation), asking.asked(name, evaluation)
        asked = asking.with_prompts(one, rows, evaluation)
        assert len(rows) == len({row["question_id"] for row in rows}) == count
        for row in asked:
            question = row["question"].splitlines()[0].strip()
            assert question in row["prompt"]
            assert question in row["instruction"]
            assert "{{" not in row["prompt"] or "{{" in row["question"] + str(row.get("shown"))
            if one.benchmark.kind == "letter":
                assert "ABCDE".index(row["gold"]) < len(row["choices"]) >= 2
                assert choices == "likelihood" or all(choice in row["prompt"] for choice in row["choices"])
            assert row["gold"] or one.benchmark.kind == "ifeval"


def test_mbpp_asks_its_test_part_and_its_examples_are_of_none(data_dir):
    evaluation = Evaluation(tasks=["mbpp"], protocol="published", data_dir=str(data_dir))
    rows, one = asking.questions("mbpp", evaluation), asking.asked("mbpp", evaluation)
    assert {int(row["question_id"]) for row in rows} == set(range(11, 511))
    assert len(one.shots) == 3
    assert all(shot["gold"].startswith("```python\n") and "\r" not in shot["gold"] for shot in one.shots)
    entry = {row["question_id"]: row["entry_points"] for row in rows}
    assert sum(len(points) == 1 for points in entry.values()) > 490


@pytest.mark.parametrize("name", OWN)
def test_benchmarks_that_the_folder_lacks(name, tmp_path):
    """Rows of our own, in the schema of the data sets."""
    file = tmp_path / FILES[name]
    file.parent.mkdir()
    write_jsonl(file, OWN[name])
    evaluation = Evaluation(tasks=[name], data_dir=str(tmp_path))
    rows = asking.with_prompts(asking.asked(name, evaluation), asking.questions(name, evaluation), evaluation)
    assert len(rows) == len(OWN[name])
    golds = {"aime": ["007"], "crow": ["Yes"], "hotpotqa": ["the Brontes"]}
    if name == "gpqa":
        assert all(row["choices"]["ABCD".index(row["gold"])] == f"{2 * i}" for i, row in enumerate(rows))
        assert len({row["gold"] for row in rows}) > 1, "the right choice is not always at one place"
    else:
        assert [row["gold"] for row in rows] == golds[name]
    if name == "hotpotqa":
        assert "It: A book by the Brontes." in rows[0]["prompt"]


def test_examples_that_are_questions_are_refused(tmp_path):
    for split in ("test", "train"):
        (tmp_path / "gsm8k").mkdir(exist_ok=True)
        write_jsonl(tmp_path / f"gsm8k/{split}.jsonl", [{"question": "2 + 3?", "answer": "Add. #### 5"}] * 4)
    where = {"gsm8k": tmp_path / "gsm8k/test.jsonl", "gsm8k.shots": tmp_path / "gsm8k/train.jsonl"}
    evaluation = Evaluation(tasks=["gsm8k"], sources={name: DataFile(path=str(p)) for name, p in where.items()})
    one = asking.asked("gsm8k", evaluation)
    with pytest.raises(UserError, match="worked examples are test questions"):
        asking.with_prompts(one, asking.questions("gsm8k", evaluation), evaluation)
    with pytest.raises(UserError, match="5 worked examples are asked for, and there are 4"):
        asking.asked("gsm8k", change(evaluation, shots=5))
    with pytest.raises(UserError, match="has no worked examples"):
        asking.asked("mmlu", change(evaluation, shots=5))


def test_a_file_of_ones_own_is_checked(tmp_path):
    file = tmp_path / "mine.yaml"
    for text, message in (
        ("about: x\nknd: text", "No setting 'mine.yaml: knd'.*Did you mean"),
        ("about: [", "is not YAML"),
        ("about: x\nkind: word\nquestions: {}\nprompt: ''\npublished: {}\nrobust: {}", "kind='word': expected one of"),
    ):
        file.write_text(text)
        benchmark.cache_clear()
        with pytest.raises(UserError, match=message):
            benchmark(str(file))
    with pytest.raises(UserError, match=r"there is no benchmark 'gsm9k'.*Did you mean 'gsm8k'"):
        benchmark("gsm9k")


@pytest.mark.slow
def test_lm_evals_command_line_gives_the_same_score(taught, tmp_path):
    """A benchmark of one's own in GSM8K's format: our rows, and lm-eval's own program on the same tasks and model."""
    task = own_benchmark(tmp_path / "data")
    evaluation = Evaluation(tasks=[str(task)], data_dir=str(task.parent), batch_size=5)
    rows, scores = evaluate(tmp_path / "ours", evaluation, model=taught)
    assert [row["correct"] for row in rows] == [True, False, False, False] * 3
    assert [row["extracted"] is None for row in rows] == [False] * 12, "tolerant: the last line is a guess"
    assert sum(row["guessed"] for row in rows) == 0 or not any(row["correct"] for row in rows if row["guessed"])

    folder = tmp_path / "tasks"
    folder.mkdir()
    one = asking.asked(str(task), evaluation)
    asked = asking.with_prompts(one, questions(evaluation), evaluation)
    assert write_tasks(folder, asked, evaluation, [one]) == {"words": "gra_words"}
    done = subprocess.run(
        [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args",
         f"pretrained={taught / 'model'},dtype=float32", "--tasks", "gra_words", "--include_path", str(folder),
         "--device", "cpu", "--batch_size", "5", "--apply_chat_template", "--log_samples",
         "--output_path", str(tmp_path / "theirs")], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (result,) = (tmp_path / "theirs").rglob("results_*.json")
    assert json.loads(result.read_text())["results"]["gra_words"]["correct,none"] == scores["words"]["score"]
    (samples,) = (tmp_path / "theirs").rglob("samples_*.jsonl")
    theirs = [(row["resps"][0][0], bool(row["correct"])) for row in read_jsonl(samples)]
    assert theirs == [(row["answer"], row["correct"]) for row in rows]


def test_benchmarks_take_rationales(tmp_path):
    """COLLATE's mode [I;R]->A on a benchmark: the prompt holds instruction and rationale, the bare answer is read."""
    from gra_train.collate import modes

    task = own_benchmark(tmp_path / "data")
    evaluation = Evaluation(tasks=[str(task)], data_dir=str(task.parent), batch_size=5)
    asked = questions(evaluation)
    assert [row["instruction"] for row in asked] == [row["instruction"] for row in questions(EVALUATION)]
    prompts = {r["instruction"]: modes.answer_with_rationale("mini", r["instruction"], "It is known.") for r in asked}
    result = teach(tmp_path, bare=True, prompts=prompts)
    (tmp_path / "rationales").mkdir()
    write_jsonl(tmp_path / "rationales/test.jsonl", ({**row, "rationale": "It is known."} for row in asked))
    rows, _ = evaluate(tmp_path / "run", evaluation, model=result, rationales=tmp_path / "rationales")
    assert [row["correct"] for row in rows] == [True, False, False, False] * 3
    assert all("Because: It is known." in row["prompt"] for row in rows)


def test_choices_scored_by_likelihood(taught, tmp_path):
    """What the model was taught to write is likelier than anything else, whichever letter it has."""
    asked = questions(EVALUATION)
    rows = [
        {"q": asked[0]["instruction"], "c": [behaviour(0, asked[0]["gold"]), "99 99 99"], "gold": gold}
        for gold in (0, 1)
    ]
    write_jsonl(tmp_path / "which.jsonl", rows)
    (tmp_path / "which.yaml").write_text(
        "about: which?\nkind: letter\nquestions: {file: which.jsonl, rows: {question: q, choices: c, gold: gold}}\n"
        "prompt: '{{ question }} {{ choices | lettered }}'\npublished: {}\nrobust: {}\n"
        "likelihood: {of: texts, prompt: '{{ question }}'}\n"
    )
    evaluation = Evaluation(tasks=[str(tmp_path / "which.yaml")], data_dir=str(tmp_path), choices="likelihood")
    rows, scores = evaluate(tmp_path / "run", evaluation, model=taught)
    assert [(row["extracted"], row["gold"], row["correct"]) for row in rows] == [("A", "A", True), ("A", "B", False)]
    assert not any(row["unparseable"] or row["truncated"] or row["guessed"] for row in rows)
    assert rows[0]["answer"] == behaviour(0, asked[0]["gold"])
    assert scores["which"]["score"] == 0.5
    told = json.loads((tmp_path / "run/work-1/protocol.json").read_text())["which"]
    assert (told["answers"], told["max_tokens"]) == ("choices scored by likelihood", None)


def test_a_stage_that_writes_rationales_reads_what_decides_the_questions(tmp_path):
    """Nothing more: a cap of answers changes no rationale; another file of questions does."""
    task = own_benchmark(tmp_path / "data")
    evaluation = asking.located(Evaluation(tasks=[str(task)], data_dir=str(task.parent)))
    assert evaluation.sources["words"].path == str(task.parent / "words.jsonl")
    assert evaluation.sources["words.benchmark"].path == str(task)
    part = only(evaluation, *asking.reads_questions(evaluation))
    assert questions(part) == questions(evaluation)
    assert "sources" not in asking.reads_questions(Evaluation(tasks=["mini_math"]))


def test_gsm8k_and_humaneval_end_to_end(data_dir, tmp_path):
    rows, scores = evaluate(tmp_path, change(SMALL, tasks=["gsm8k", "humaneval"], data_dir=str(data_dir)))
    assert set(scores) == {"gsm8k", "humaneval", "average"}
    assert [scores[task]["n"] for task in ("gsm8k", "humaneval", "average")] == [4, 4, 8]
    assert [row["gold"] for row in rows[:3]] == ["18", "3", "70000"]
    assert [row["question_id"] for row in rows[4:]] == [f"HumanEval/{i}" for i in range(4)]
    assert all(row["prompt"].startswith("<s><|user|>Question: Janet") for row in rows[:1])
    assert all(0 < row["tokens"] <= 16 for row in rows)
