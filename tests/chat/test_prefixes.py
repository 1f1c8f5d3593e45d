"""Shared prefixes: what is found to be shared, and that computing it once changes nothing but the rounding."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from gra_train.chat import prefixes
from gra_train.chat.local import LocalModel
from gra_train.chat.prefixes import Group, groups, plan
from gra_train.chat.protocol import Likelihood
from gra_train.schema import Model


def made(rng: random.Random, tokens: int) -> list[int]:
    return [rng.randrange(5, 60) for _ in range(tokens)]


def prompts_of(tasks: int, candidates: int, seed: int = 0) -> list[list[int]]:
    """Prompts of `tasks` instructions of 80 to 120 tokens under one role of 70, each with rationales of 5 to 40."""
    rng = random.Random(seed)
    role, found = made(rng, 70), []
    for _ in range(tasks):
        instruction = made(rng, rng.randint(80, 120))
        found += [role + instruction + made(rng, rng.randint(5, 40)) for _ in range(candidates)]
    return found


def test_candidates_of_a_task_are_grouped_by_their_instruction_not_by_the_role_of_all():
    prompts = prompts_of(3, 4)
    found = groups(prompts)
    assert sorted(sorted(group.rows) for group in found) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    for group in found:
        assert group.shared >= 150
        assert len({tuple(prompts[i][: group.shared]) for i in group.rows}) == 1


def test_single_prompts_share_the_role_if_it_is_long_enough():
    prompts = prompts_of(4, 1)
    [group] = groups(prompts)
    assert (sorted(group.rows), group.shared) == ([0, 1, 2, 3], 70)
    assert {g.shared for g in groups(prompts, shortest=71)} == {0}


def test_a_whole_prompt_is_never_shared():
    prompt = made(random.Random(0), 100)
    assert groups([prompt, prompt, [*prompt, 7]]) == [Group((0, 1, 2), 99)]


def test_plans_are_a_function_of_the_requests_and_keep_to_the_budget():
    prompts = [*prompts_of(5, 4), made(random.Random(9), 30)]
    answers = [[1, 2, 3]] * len(prompts)
    batches, others = plan(prompts, answers, budget=1500, window=10**6)
    assert others == [20]
    assert sorted(i for batch in batches for i in batch) == list(range(20))
    for batch in batches:
        assert len(batch) * max(len(prompts[i]) + 3 for i in batch) <= 1500
        assert plan([prompts[i] for i in batch], [answers[i] for i in batch], budget=1500, window=10**6)[1] == []
    assert plan(prompts, answers, budget=1500, window=100) == ([], list(range(21)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers (grouped-query attention) with a word tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "<|user|>", "<|assistant|>", "<|end|>", *(f"w{i}" for i in range(60))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = "{% for m in messages %}<|user|> {{ m['content'] }} {% endfor %}<|assistant|> "
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="<|end|>", chat_template=template
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=96, max_position_embeddings=512, eos_token_id=4, initializer_range=0.2,
    )  # fmt: skip
    out = tmp_path_factory.mktemp("prefixes")
    LlamaForCausalLM(config).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def requests_of(prompts: list[list[int]]) -> list[Likelihood]:
    rng = random.Random(1)
    return [
        Likelihood(
            ({"role": "user", "content": " ".join(f"w{t}" for t in prompt)},),
            " ".join(f"w{rng.randrange(60)}" for _ in range(rng.randint(1, 6))),
        )
        for prompt in prompts
    ]


def test_likelihoods_are_those_of_each_request_alone(folder, monkeypatch):
    model = LocalModel(Model(name="tiny", path=str(folder)), device="cpu")
    requests = [*requests_of(prompts_of(3, 4)), *requests_of(prompts_of(4, 1, seed=7)), *requests_of([[5, 6]])]
    used = []
    real = prefixes.score
    monkeypatch.setattr(prefixes, "score", lambda *given: used.append(len(given[1])) or real(*given))
    together = model.log_likelihood_batch(requests)
    assert sum(used) == 16, "the pair of tokens alone shares nothing"
    assert together == model.log_likelihood_batch(requests)  # bit for bit
    monkeypatch.setattr(prefixes, "groups", lambda prompts: [Group((i,), 0) for i in range(len(prompts))])
    for one, request in zip(together, requests, strict=True):
        [alone] = model.log_likelihood_batch([request])
        assert one.tokens == alone.tokens
        assert one.logprobs == pytest.approx(alone.logprobs, abs=2e-5)


def test_a_mixed_batch_and_a_window_that_is_too_small(folder):
    model = LocalModel(Model(name="tiny", path=str(folder)), device="cpu")
    rows = model.prepare([*requests_of(prompts_of(1, 3)), *requests_of([[9, 8, 7, 6], [5]])])
    mixed = model.answer_batch(rows)
    assert [one.logprobs for one in mixed] == [
        pytest.approx(model.answer_batch([row])[0].logprobs, abs=2e-5) for row in rows
    ]
    long = requests_of([[5] * 500 + [i] * 40 for i in (6, 7)])
    assert all(one.logprobs[0] == float("-inf") for one in model.log_likelihood_batch(long))
