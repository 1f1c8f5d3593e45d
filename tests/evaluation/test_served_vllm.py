"""vLLM (its CPU build) with a small model of our own that knows every byte: an evaluation, and a round of GRA in JSON.

The miniature's tokenizer has no bytes, so that vLLM cannot hold it to JSON (see docs/log.md). This one was shown, for
some seconds, what answers look like; what it writes makes no sense, and JSON it is because the server sees to it.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gra_train.chat.dialects import follows
from gra_train.chat.keys import decode, read
from gra_train.chat.ledger import Ledger
from gra_train.chat.protocol import Reply
from gra_train.chat.serve import resolve
from gra_train.chat.servers import serving
from gra_train.evaluation.served import served
from gra_train.records import DOMAINS, Fate, Sample, read_samples
from gra_train.schema import DataFile, Dedup, Model, Pool, Review, Serve, Synthesis
from gra_train.stages import EvaluateStage, SeedsStage, SynthesizeStage
from gra_train.synthesis.demand import rendered
from gra_train.synthesis.prompts.json_forms import FORMS
from gra_train.synthesis.stages import seeds, synthesize
from tests.chat.conftest import make_tokenizer
from tests.evaluation.test_served_rows import evaluate, written

pytestmark = pytest.mark.xdist_group("served_vllm")  # they share a server
WINDOW = 4096
CANDIDATES = 48
SYNTHESIS = Synthesis(
    prompts="json", target=40, rounds=1, max_candidates=CANDIDATES, wave=CANDIDATES, block=CANDIDATES, max_tokens=160,
    temperature=0.8, review=Review(scoring="text"), dedup=Dedup(encoder="hashing"),
)  # fmt: skip
WORDS = ("apples", "pears", "Bob", "Ann", "buys", "gives", "more", "left", "count", "rivers", "two", "seven", "rain")


def answer(kind: str, draw: random.Random) -> str:
    """What a model that keeps to the form might write."""

    def words(least: int, most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(least, most)))

    write, domain = FORMS[kind].write, draw.choice(DOMAINS)
    match kind:
        case "domain":
            return str(write(domain))
        case "keywords":
            return str(write(draw.sample(WORDS, 3)))
        case "new_keywords":
            return str(write(draw.sample(WORDS, 3), domain=domain))
        case "instruction_review":
            return str(write([int(draw.random() < 0.9) for _ in range(3)]))
        case "response_review" | "adjudication":
            return str(write(([draw.randint(7, 10) for _ in range(6)], words(3, 8))))
    return str(write(words(6, 16)))


def teach(folder: Path) -> Path:
    """A model of 0.2M parameters that has seen some answers to each prompt."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    draw = random.Random(0)
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = WINDOW
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=WINDOW, eos_token_id=0, pad_token_id=1, bos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    sample = Sample("s", "Name a river.", "The Rhine.", "QA", ("river", "name", "water"), "It asks for a river.")
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    prompts = [prompt for _, prompt in rendered([sample], SYNTHESIS)]
    for _ in range(25):
        for prompt in prompts:
            text = tokenizer.apply_chat_template(list(prompt.messages), tokenize=False, add_generation_prompt=True)
            before = tokenizer(text[-600:])["input_ids"]
            after = tokenizer(answer(prompt.kind, draw) + tokenizer.eos_token)["input_ids"]
            ids = torch.tensor([before + after])
            labels = torch.tensor([[-100] * len(before) + after])
            loss = model(input_ids=ids, labels=labels).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def student(vllm_serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The model behind a vLLM of ours."""
    folder = tmp_path_factory.mktemp("vllm")
    model = Model(name="student", path=str(teach(folder / "model")))
    with serving(resolve(Pool(models=[model], serve=vllm_serve)).models, folder) as [placed]:
        yield placed


@pytest.mark.vllm
@pytest.mark.timeout(1800)
def test_gsm8k_and_humaneval_behind_vllm(student: Model, tmp_path: Path) -> None:
    """Every row follows from its answer; asked again, nothing is asked."""
    config = EvaluateStage(0, student, written(tmp_path), "tags", "cpu", str(tmp_path / "ledger"))
    rows, scores = evaluate(config, tmp_path / "a")
    assert (scores["gsm8k"]["n"], scores["humaneval"]["n"]) == (5, 3)
    for row in rows.values():
        assert row["prompt"].endswith("<|assistant|>")
        assert 0 < row["tokens"] <= 64
        assert (row["truncated"], row["failed"]) == (
            row["tokens"] == 64 and not row["answer"].endswith("<|end|>"),
            False,
        )
        assert row["unparseable"] == (row["extracted"] is None)
    again, _ = evaluate(config, tmp_path / "b")
    assert again == rows
    assert json.loads((tmp_path / "b/usage.json").read_text())["total"]["computed"] == 0


@pytest.mark.vllm
@pytest.mark.timeout(1800)
def test_choices_behind_vllm_are_as_likely_as_in_process(student: Model, tmp_path: Path) -> None:
    from lm_eval.api.instance import Instance

    pairs = [
        ("Bob has 3 apples. ", "Ann has 12."),
        ("Bob", " gives 7"),
        ("<|user|>x<|end|><|assistant|>", "{"),
        ("", "Bob"),
    ]
    asked = [
        Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i, metadata=("own", i, 1))
        for i, pair in enumerate(pairs)
    ]
    found = []
    for i, model in enumerate((student, Model(name="student", path=student.path))):
        with served(model, ledger=tmp_path / f"ledger{i}", folder=tmp_path, block=8, device="cpu") as lm:
            found.append([total for total, _ in lm.loglikelihood(asked)])
            assert lm.max_length == WINDOW
    assert found[0] == pytest.approx(found[1], abs=1e-2)
    assert len({round(x, 3) for x in found[0]}) == len(pairs)


@pytest.mark.vllm
@pytest.mark.timeout(1800)
def test_a_round_of_gra_in_json(student: Model, tmp_path: Path) -> None:
    """response_format json_schema holds the model to its forms: what is not cut can be read, and every fate has its
    reason."""
    models = [Model(**{**vars(student), "name": name}) for name in ("one", "two", "three", "four", "five")]
    pool = Pool(name="json", models=models)
    ledger = str(tmp_path / "ledger")
    (annotated := tmp_path / "seeds" / "work-1").mkdir(parents=True)
    seeds(SeedsStage(0, DataFile(path="mini:seeds", limit=12), pool, SYNTHESIS, ledger), {}, annotated)
    (out := tmp_path / "gra" / "work-1").mkdir(parents=True)
    synthesize(SynthesizeStage(0, pool, SYNTHESIS, ledger), {"seeds": annotated}, out)

    report = json.loads((out / "funnel.json").read_text())
    rows = pq.read_table(out / "candidates.parquet").to_pylist()
    fates = Counter(row["fate"] for row in rows)
    assert {k: n for k, n in report["fates"].items() if n} == fates
    assert fates.total() == report["candidates"] == CANDIDATES
    assert fates["kept"] == len(read_samples(out))
    assert fates.keys() <= {fate.value for fate in Fate}
    assert sum(report["failed_at"].get("unparseable", {}).values()) == fates["unparseable"]
    attempts: list[dict[str, Any]] = [a for row in rows for a in row["attempts"]]
    assert {a["prompt"] for a in attempts} >= {"new_keywords", "instruction", "instruction_review", "response"}
    with Ledger(Path(ledger)) as answers:
        held = Counter(keeps(a, answers) for a in attempts)
    assert held[False] == 0, "the server did not keep to the form"
    assert held[True] > len(attempts) / 2, "most answers are not cut"
    assert any(a["outcome"] == "ok" for a in attempts)
    for row in rows:
        assert why(row), f"{row['fate']} without a reason: {row}"


def keeps(attempt: dict[str, Any], answers: Ledger) -> bool | None:
    """Is the recorded answer a JSON object of the schema that went out? None: it was cut."""
    key, _ = read(attempt["key"])
    reply = decode(answers.get(key))
    if not isinstance(reply, Reply) or reply.finish != "stop":
        return None
    try:
        return follows(json.loads(FORMS[attempt["prompt"]].schema), json.loads(reply.text))
    except ValueError:
        return False


def why(row: dict[str, Any]) -> bool:
    """Does the row hold the reason of its fate?"""
    match Fate(row["fate"]):
        case Fate.UNPARSEABLE:
            return any(a["prompt"] == row["failed_at"] and a["outcome"] != "ok" for a in row["attempts"])
        case Fate.REJECTED_INSTRUCTION:
            return any(0 in review["flags"] for review in row["instruction_reviews"])
        case Fate.REJECTED_SCORE:
            return bool(row["mu"] < SYNTHESIS.T_mean)
        case Fate.REJECTED_ADJUDICATOR:
            return bool(row["sigma"] > SYNTHESIS.T_std and row["adjudication"])
        case Fate.DUPLICATE:
            return bool(row["twin"])
    return bool(row["response"])
