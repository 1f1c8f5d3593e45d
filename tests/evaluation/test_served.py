"""The chat layer as lm-eval's LM: in this process and behind servers it says what lm-eval's own HFLM says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gra_train.errors import UserError
from gra_train.evaluation import harness, served
from gra_train.evaluation.lm_tasks import load_tasks
from gra_train.evaluation.questions import questions
from gra_train.records import write_jsonl
from gra_train.schema import Model
from tests.evaluation.conftest import CAP, EVALUATION, behaviour


@pytest.fixture(scope="module")
def hflm(taught: Path) -> Any:
    """lm-eval's own way to the same weights."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(taught / "model")
    return harness.local(model, AutoTokenizer.from_pretrained(taught / "model"), 5)


@contextmanager
def opened(result: Path, folder: Path, **settings: Any) -> Iterator[served.ChatLM]:
    model = Model(name="student", path=str(result / "model"), **settings)
    (run := folder / "run").mkdir(parents=True, exist_ok=True)
    with served.served(model, ledger=folder / "ledger", folder=run, block=5, device="cpu") as lm:
        yield lm


def tasks_of(folder: Path, **more: Any) -> dict[str, Any]:
    """One task of lm-eval's format over four questions of the miniature; `more` changes it."""
    import yaml
    from lm_eval.tasks import TaskManager

    folder.mkdir(parents=True, exist_ok=True)
    asked = [row for row in questions(EVALUATION) if row["task"] == "mini_math"]
    write_jsonl(folder / "rows.jsonl", [{"q": row["instruction"], "right": 0, "gold": row["gold"]} for row in asked])
    task = {
        "task": "own", "dataset_path": "json", "test_split": "test", "doc_to_text": "q", "target_delimiter": "",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}, "cache_dir": str(folder / "cache")},
    }  # fmt: skip
    (folder / "own.yaml").write_text(yaml.safe_dump(task | more))
    return load_tasks(TaskManager(include_path=str(folder), include_defaults=False), {"own": "own"})


CHOICES = {
    "output_type": "multiple_choice", "doc_to_target": "right", "metric_list": [{"metric": "acc"}],
    "doc_to_choice": [behaviour(0, "7"), behaviour(1, ""), "is it is."],
}  # fmt: skip
WRITE = {
    "output_type": "generate_until", "doc_to_target": "gold", "metric_list": [{"metric": "exact_match"}],
    "generation_kwargs": {"do_sample": False, "until": ["\n\n"], "max_gen_toks": CAP},
}  # fmt: skip


def answers(lm: Any, tasks: dict[str, Any]) -> list[Any]:
    return [(s["arguments"], s["resps"]) for s in harness._evaluate(lm, tasks, None, None)["own"]]


def test_in_process_it_writes_what_hflm_writes(taught: Path, hflm: Any, tmp_path: Path) -> None:
    theirs = answers(hflm, tasks_of(tmp_path / "a", **WRITE))
    with opened(taught, tmp_path) as lm:
        assert answers(lm, tasks_of(tmp_path / "b", **WRITE)) == theirs
        assert lm.written.keys() == hflm.written.keys()
        for prompt, (tokens, truncated, failed) in lm.written.items():
            assert (truncated, failed) == (hflm.written[prompt].truncated, False)
            assert tokens == hflm.written[prompt].tokens + (not truncated), "the end token counts"
    with opened(taught, tmp_path) as lm:
        lm.pool.models["student"].__dict__["network"] = None  # type: ignore[union-attr]
        assert answers(lm, tasks_of(tmp_path / "c", **WRITE)) == theirs
        assert lm.pool.usage()["total"]["computed"] == 0


def test_choices_are_as_likely_as_hflm_finds_them(taught: Path, hflm: Any, tmp_path: Path) -> None:
    theirs = answers(hflm, tasks_of(tmp_path / "a", **CHOICES))
    with opened(taught, tmp_path) as lm:
        ours = answers(lm, tasks_of(tmp_path / "b", **CHOICES))
    for (arguments, resps), (their_arguments, their_resps) in zip(ours, theirs, strict=True):
        assert arguments == their_arguments
        assert [r[0][0] for r in resps] == pytest.approx([r[0][0] for r in their_resps], abs=1e-4)
    assert len(ours) == 4


@pytest.mark.parametrize("without", ["chat_template", ""])
def test_texts_without_a_template(taught: Path, hflm: Any, tmp_path: Path, without: str) -> None:
    """A base model's task is a plain text; with a template, one that begins the answer is rendered here."""
    more = {} if without else {"gen_prefix": "is."}
    if without:
        hflm = without_template(hflm)
    theirs = answers(hflm, tasks_of(tmp_path / "a", **WRITE, **more))
    with opened(taught, tmp_path) as lm:
        if without:
            lm.tokenizer.chat_template = None
            assert not harness.has_chat_template(lm)
        assert answers(lm, tasks_of(tmp_path / "b", **WRITE, **more)) == theirs


def without_template(lm: Any) -> Any:
    import copy

    bare = copy.copy(lm)
    bare.tokenizer = copy.deepcopy(lm.tokenizer)
    bare.tokenizer.chat_template = None
    return bare


def test_whole_texts(taught: Path, hflm: Any, tmp_path: Path) -> None:
    rolling = {
        "output_type": "loglikelihood_rolling", "doc_to_target": "q", "doc_to_text": "",
        "metric_list": [{"metric": "word_perplexity"}],
    }  # fmt: skip
    theirs = answers(without_template(hflm), tasks_of(tmp_path / "a", **rolling))
    with opened(taught, tmp_path) as lm:
        lm.tokenizer.chat_template = None
        ours = answers(lm, tasks_of(tmp_path / "b", **rolling))
        assert [r[0][0] for _, r in ours] == pytest.approx([r[0][0] for _, r in theirs], abs=1e-3)
        rolling["doc_to_text"], rolling["doc_to_target"] = "", "{{q * 20}}"
        with pytest.raises(UserError, match=r"4 of 4 texts are longer than the window of 'student' \(160 tokens\)"):
            answers(lm, tasks_of(tmp_path / "c", **rolling))


def test_samples_of_one_question_differ_and_unknown_options_are_refused(taught: Path, tmp_path: Path) -> None:
    sampled = WRITE | {"repeats": 6}
    sampled["generation_kwargs"] = {"do_sample": True, "temperature": 3.0, "until": [], "max_gen_toks": 8}
    with opened(taught, tmp_path) as lm:
        first = harness._evaluate(lm, tasks_of(tmp_path / "a", **sampled), None, None)["own"][0]["resps"][0]
        assert len(first) == 6
        assert len(set(first)) > 1
        sampled["generation_kwargs"] = {"top_k": 3, "until": []}
        with pytest.raises(UserError, match="generation_kwargs have top_k"):
            answers(lm, tasks_of(tmp_path / "b", **sampled))


def test_tasks_that_need_more_than_servers_say_are_refused(taught: Path, tmp_path: Path) -> None:
    exact = CHOICES | {"metric_list": [{"metric": "exact_match"}]}
    for more in ({"output_type": "loglikelihood", "doc_to_target": "gold"}, exact):
        with pytest.raises(UserError, match=r"own: these tasks ask whether greedy.*engine=hf"):
            served.ChatLM.check(tasks_of(tmp_path / "a", **more))
    served.ChatLM.check(tasks_of(tmp_path / "b", **CHOICES))
