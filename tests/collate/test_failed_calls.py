"""A call that failed, and an answer beyond the scorer's window, teach nothing: they are left out and counted."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from gra_train.chat.local import LocalModel
from gra_train.chat.protocol import Completion, Reply, TokenLogProbs
from gra_train.collate.baselines import rewarding
from gra_train.collate.data import Task, tasks
from gra_train.collate.graph import READS
from gra_train.collate.guided import comparable
from gra_train.collate.judge import judge
from gra_train.collate.losses import losses_by_mode
from gra_train.collate.merit import Merit, mean_per_token, score
from gra_train.collate.pairs import KEPT, UNSCORED, UNWRITTEN, Rules, agreement, choose
from gra_train.collate.providers import Calls, told
from gra_train.errors import UserError
from gra_train.evaluation.questions import questions
from gra_train.evaluation.stages import evaluate
from gra_train.records import read_jsonl
from gra_train.schema import Model
from gra_train.settings import change, only
from gra_train.stages import STAGES, EvaluateStage

FAILED = Reply("", "failed")
LONG = " ".join(["first"] * 90)
"""With an instruction and an answer more than the tiny model's 96 positions."""


def run(name, config, inputs, folder: Path) -> Path:
    out = folder / "result"
    out.mkdir(parents=True)
    as_planned = change(config, collate=only(config.collate, *READS[name]))
    STAGES[name].load()(as_planned, inputs, out)
    return out


def read(folder: Path, name: str):
    """Strict JSON: no Infinity, no NaN."""

    def refused(text):
        raise AssertionError(f"{name} holds {text}")

    return json.loads((folder / name).read_text(), parse_constant=refused)


@pytest.fixture
def ift(config, tmp_path):
    return run("ift", config, {}, tmp_path / "ift")


@pytest.fixture
def replace_answers(monkeypatch):
    """replace_answers(f): a rationale comes back as f(instruction's prompt, text) says (None: as it is)."""
    real = LocalModel.answer_batch

    def install(instead):
        def answered(self, prepared):
            answers = real(self, prepared)
            for i, one in enumerate(prepared):
                request = one.request
                if isinstance(request, Completion) and (other := instead(request.messages[-1]["content"])):
                    answers[i] = other
            return answers

        monkeypatch.setattr(LocalModel, "answer_batch", answered)

    return install


def of(path: str, count: int) -> list[str]:
    """The first instructions of a file."""
    return [row["instruction"] for row in read_jsonl(Path(path))][:count]


def test_an_empty_text_that_a_model_chose_is_one_and_a_failed_call_is_none():
    assert told(Reply(" a ", "stop")) == "a"
    assert told(Reply("", "stop")) == ""
    assert told(Reply("a", "length")) == "a"
    assert told(Reply("", "length")) is None  # the prompt filled the window
    assert told(FAILED) is None


def test_a_failed_call_is_no_side_of_a_pair():
    scored = Merit("t", 2, -3.0, (None, -1.0, -2.0))
    assert choose([None, "b", "c"], scored) == (KEPT, 1, 2)
    assert choose([None, "b"], Merit("t", 2, -3.0, (None, -1.0)))[0] == UNWRITTEN
    assert choose([None, "b", "c"], scored, points=[None, 1.0, 2.0]) == (KEPT, 2, 1)
    assert choose(["a", "b"], Merit("t", 2, -3.0, (None, -1.0)))[0] == UNSCORED
    assert choose(["a", "b"], Merit("t", 2, None, (-2.0, -1.0)))[0] == UNSCORED
    assert choose(["a", "b"], Merit("t", 2, None, (-2.0, -1.0)), Rules(filter=False)) == (KEPT, 1, 0)
    assert agreement([[None, "a", "a"], [None, None, None]]) == {"equal": 1.0, "words": 1.0}


def test_providers_are_compared_on_rows_where_each_has_a_number():
    rows = [Merit("0", 1, -1.0, (-1.0, -9.0)), Merit("1", 1, -1.0, (None, -0.1)), Merit("2", 1, -1.0, (-2.0, -3.0))]
    kept, left_out = comparable(rows)
    assert ([m.task_id for m in kept], left_out) == (["0", "2"], 1)
    assert [mean_per_token(kept, s) for s in (0, 1)] == [-1.5, -6.0]
    assert mean_per_token(rows, 0) == -1.5
    silent = [replace(row, candidates=(None, -1.0)) for row in rows]
    assert comparable(silent) == (silent, 0)  # a provider without any number is compared with nobody
    assert mean_per_token(silent, 0) is None
    assert comparable([replace(row, candidates=(None, None)) for row in rows]) == ([], 3)


def test_an_answer_unscored_has_no_number(base, tmp_path):
    given = [Task("0", "what is 1 + 2 ?", "3", "first 1 then 2 = 3"), Task("1", "what is 2 + 2 ?", "4", LONG)]
    calls = Calls("mini", 16, tmp_path / "ledger", "cpu")
    model = Model(name="M_IFT", path=base)
    one, other = score(model, given, [["first 1", None], ["first 2", LONG]], calls=calls)
    assert one.candidates[1] is None
    assert other.candidates[1] is None
    assert all(math.isfinite(m.candidates[0]) and math.isfinite(m.baseline) for m in (one, other))
    points = judge(model, given, [["first 1", None], [LONG, "first 2"]], calls=calls, judging="likelihood")
    assert points[0][1] is None
    found = losses_by_mode({"M_IFT": base}, given, model, calls=calls)
    assert found["left_out"]["M_IFT"] == {"I->R": 1, "[I;R]->A": 1, "I->A": 0}
    assert all(math.isfinite(loss) for loss in found["loss"]["M_IFT"].values())
    assert "left_out" not in losses_by_mode({"M_IFT": base}, given[:1], model, calls=calls)


def test_a_likelihood_that_a_server_did_not_give_is_no_number(base, tmp_path, monkeypatch):
    """Of three, the first: the answer without a rationale. Its length is then known from the others."""
    real = LocalModel.answer_batch

    def answered(self, prepared):
        answers = real(self, prepared)
        assert all(one.request.may_fail for one in prepared)
        bare = [i for i, one in enumerate(prepared) if "Because" not in one.request.messages[0]["content"]]
        return [TokenLogProbs((), failed=True) if i in bare else answer for i, answer in enumerate(answers)]

    monkeypatch.setattr(LocalModel, "answer_batch", answered)
    task, calls = Task("0", "what is 1 + 2 ?", "3"), Calls("mini", 16, tmp_path / "ledger", "cpu")
    [found] = score(Model(name="M_IFT", path=base), [task], [["first 1", "first 2"]], calls=calls)
    assert (found.baseline, found.tokens) == (None, 1)
    assert all(value is not None for value in found.candidates)


def test_stage_2_learns_nothing_from_failed_calls(config, ift, tmp_path, replace_answers):
    bad = of(config.collate.rationale_data.path, 24)[::2]
    replace_answers(lambda prompt: FAILED if any(one in prompt for one in bad) else None)
    out = run("distinct", config, {"ift": ift}, tmp_path / "distinct")
    counts = read(out, "statistics.json")
    pairs = list(read_jsonl(out / "pairs.jsonl"))
    assert 0 < counts["failed"] < counts["rows"]
    assert counts["pairs"] == len(pairs) == counts["rows"] - counts["equal"] - counts["failed"]
    assert all(row["rejected"] for row in pairs)


def test_stage_3_learns_nothing_from_failed_calls_nor_from_answers_unscored(config, ift, tmp_path, replace_answers):
    failed, endless, *_ = of(config.collate.task_data.path, 2)
    replace_answers(lambda prompt: FAILED if failed in prompt else Reply(LONG) if endless in prompt else None)
    config = change(config, iteration=1, collate=change(config.collate, providers=1, candidates=2))
    out = run("merit", config, {"ift": ift, "provider_0": ift}, tmp_path / "merit")
    counts = read(out, "statistics.json")
    assert counts["failed"] == 2
    assert counts["unscored"] == 2
    assert (counts["dropped"]["unwritten"], counts["dropped"]["unscored"]) == (1, 1)
    assert all(row["text"] for row in read_jsonl(out / "rationales.jsonl"))
    assert all(row["chosen"] and row["rejected"] for row in read_jsonl(out / "pairs_0.jsonl"))
    assert math.isfinite(counts["mean_log_likelihood_per_token"]["RP_0"])


def test_the_picked_providers_failed_calls_are_no_training_rows(config, ift, tmp_path, replace_answers, caplog):
    """And one validation row whose rationale fills M_IFT's window does not make every mean -inf."""
    kept = read(ift, "splits.json")["validation"]
    [endless] = [t.instruction for t in tasks(config.collate.rationale_data, seed=0) if t.id == kept[0]]
    [failed] = of(config.collate.task_data.path, 1)
    replace_answers(lambda prompt: FAILED if failed in prompt else Reply(LONG) if endless in prompt else None)
    out = run("rationales", config, {"ift": ift, "provider_0": ift, "provider_1": ift}, tmp_path / "rationales")
    picked = read(out, "pick.json")
    assert picked["left_out"] == 1
    assert picked["failed"] == {"train": 1}
    assert all(math.isfinite(mean) for mean in picked["mean_log_likelihood_per_token"].values())
    train = list(read_jsonl(out / "train.jsonl"))
    assert len(train) == 11
    assert failed not in [row["instruction"] for row in train]
    assert "1 of 4 validation rows" in caplog.text


def test_nothing_to_pick_by_and_nothing_to_train_on_are_said(config, ift, tmp_path, replace_answers):
    inputs = {"ift": ift, "provider_0": ift}
    replace_answers(lambda prompt: Reply(LONG))
    with pytest.raises(UserError, match="no provider can be picked"):
        run("rationales", config, inputs, tmp_path / "none")
    plain = of(config.collate.task_data.path, 12)
    replace_answers(lambda prompt: FAILED if any(one in prompt for one in plain) else Reply("first"))
    again = change(config, ledger=str(tmp_path / "other-ledger"))
    with pytest.raises(UserError, match="all 12 rationales of the task data failed"):
        run("rationales", again, inputs, tmp_path / "nothing")


def test_a_question_whose_rationale_failed_is_counted_as_failed(config, ift, tmp_path, replace_answers):
    first = questions(config.evaluation)[0]["instruction"]
    replace_answers(lambda prompt: FAILED if first in prompt else None)
    written = run("rationales", config, {"ift": ift, "provider_0": ift}, tmp_path / "rationales")
    assert [row.get("failed", False) for row in read_jsonl(written / "test.jsonl")] == [True, False, False]
    stage = EvaluateStage(0, config.model, config.evaluation, "mini", "cpu", str(tmp_path / "ledger"))
    out = tmp_path / "evaluated" / "result"
    out.mkdir(parents=True)
    evaluate(stage, {"model": ift, "rationales": written}, out)
    assert read(out, "scores.json")["average"]["failed"] == 1


def test_a_model_that_judges_itself_learns_nothing_from_failed_calls():
    judged = [
        rewarding.Judged("0", (None, "b", "c"), (None, 1.0, 2.0)),
        rewarding.Judged("1", (None, "b"), (None, 1.0)),
        rewarding.Judged("2", ("a", "b"), (-1.0, -math.inf)),  # b led to no answer
    ]
    pairs, counts = rewarding.pairs(judged, ["p", "p", "p"])
    assert [(p.chosen, p.rejected) for p in pairs] == [("c", "b"), ("a", "b")]
    assert (counts["failed"], counts["unparseable_judgements"]) == (2, 0)
    assert json.dumps(counts, allow_nan=False)
