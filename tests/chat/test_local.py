"""The in-process model: decoding, seeds, stops, constraints, likelihoods, against forwards of the same model."""

from __future__ import annotations

import asyncio
import re

import pytest
import torch

from gra_train.chat.local import LocalModel
from gra_train.chat.protocol import Completion, Likelihood, Sampling
from gra_train.schema import Model


def ask(text: str, **options) -> Completion:
    sampling = {k: options.pop(k) for k in ("temperature", "top_p", "max_tokens", "stop") if k in options}
    sampling = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 12, **sampling}
    return Completion(messages=({"role": "user", "content": text},), sampling=Sampling(**sampling), **options)


QUESTIONS = [
    "How many?",
    "Ann has 3 apples and buys 12 more pears. How many fruits?",
    "Bob",
    "gives 7 of them to Jon",
    "",
]


def naive(local, request: Completion) -> list[int]:
    """Greedy decoding without a cache or a batch."""
    ids = local.prepare([request])[0].prompt
    new: list[int] = []
    while len(new) < request.sampling.max_tokens:
        with torch.inference_mode():
            token = int(local.network(input_ids=torch.tensor([ids + new])).logits[0, -1].argmax())
        if token in local.end_ids:
            break
        new.append(token)
    return new


def test_greedy_batch_equals_one_by_one_without_cache(local):
    requests = [ask(q, temperature=0, max_tokens=20) for q in QUESTIONS]
    replies = local.complete_batch(requests)
    for request, reply in zip(requests, replies, strict=True):
        tokens = naive(local, request)
        assert reply.text == local.tokenizer.decode(tokens, skip_special_tokens=True)
        assert reply.finish == ("length" if len(tokens) == 20 else "stop")
        assert reply.prompt_tokens == len(local.prepare([request])[0].prompt)


def test_draws_depend_on_the_seed_alone_not_on_the_batch(local):
    requests = [ask(q, seed=i) for i, q in enumerate(QUESTIONS * 4)]
    together = local.complete_batch(requests)
    assert together == local.complete_batch(requests)  # bit for bit
    alone = [local.complete_batch([r])[0] for r in requests]
    assert sum(a.text == b.text for a, b in zip(together, alone, strict=True)) >= len(requests) - 1  # up to rounding
    assert len({r.text for r in local.complete_batch([ask("same", seed=s) for s in range(8)])}) > 4
    assert len({r.text for r in local.complete_batch([ask("same", seed=5)] * 8)}) == 1
    one, other = local.complete_batch([ask("same", seed=5), ask("same", seed=5, attempt=1)])
    assert one.text != other.text


def test_draws_follow_the_distribution(local):
    """1,500 first tokens against the model's own nucleus probabilities."""
    n = 1500
    for top_p in (1.0, 0.6):
        base = ask("Bob buys", max_tokens=1, top_p=top_p)
        ids = local.prepare([base])[0].prompt
        with torch.inference_mode():
            p = local.network(input_ids=torch.tensor([ids])).logits[0, -1].float().softmax(-1)
        order = p.argsort(descending=True)
        mass = p[order].cumsum(-1)
        inside = order[: int((mass < top_p).sum()) + 1]
        expected = torch.zeros_like(p)
        expected[inside] = p[inside] / p[inside].sum()
        prepared = local.prepare([ask("Bob buys", max_tokens=1, top_p=top_p, seed=s) for s in range(n)])
        decoder_input = [q.prompt for q in prepared]
        from gra_train.chat.sampling import draw, uniforms

        u = torch.tensor([float(uniforms(q.request, 1)[0]) for q in prepared])
        logits = local.network(input_ids=torch.tensor(decoder_input[:1])).logits[:, -1].float().detach().expand(n, -1)
        drawn = draw(logits, temperature=torch.ones(n), top_p=torch.full((n,), top_p), uniform=u)
        counts = torch.bincount(drawn, minlength=len(p)) / n
        assert float((counts - expected).abs().sum()) / 2 < 0.2  # total variation
        assert set(drawn.tolist()) <= set(inside.tolist())


def test_stop_strings_end_the_answer_before_them(local):
    free = local.complete_batch([ask(q, temperature=0, max_tokens=24) for q in QUESTIONS])
    for question, reply in zip(QUESTIONS, free, strict=True):
        middle = reply.text[len(reply.text) // 2 :][:2]
        if not middle.strip() or not middle.isprintable() or "�" in middle:
            continue
        stopped = local.complete_batch([ask(question, temperature=0, max_tokens=24, stop=("###", middle))])[0]
        assert stopped.text == reply.text[: reply.text.index(middle)]
        assert stopped.finish == "stop"
        assert stopped.completion_tokens <= reply.completion_tokens


def test_a_special_token_may_be_a_stop_string(local):
    reply = local.complete_batch([ask("x", seed=s, max_tokens=60, stop=("<|pad|>",)) for s in range(20)])
    assert all("<|pad|>" not in r.text for r in reply)


def test_length_and_the_window(local):
    short, full = local.complete_batch([ask("Bob", temperature=0, max_tokens=2), ask("word " * 400, max_tokens=5)])
    assert (short.finish, short.completion_tokens) == ("length", 2)
    assert (full.text, full.finish, full.completion_tokens) == ("", "length", 0)


def test_regular_expressions_bind_each_row_for_itself(local):
    patterns = ["(10|[1-9])( (10|[1-9])){5}", None, "yes|no", "[a-c]{3}"]
    requests = [ask(f"q{i}", seed=i, regex=patterns[i % 4], max_tokens=40) for i in range(16)]
    for request, reply in zip(requests, local.complete_batch(requests), strict=True):
        if request.regex:
            assert re.fullmatch(request.regex, reply.text), (request.regex, reply)
            assert reply.finish == "stop"


def test_a_wrong_expression_is_the_users_error(local):
    from gra_train.errors import UserError

    with pytest.raises(UserError, match="regular expression"):
        local.complete_batch([ask("q", regex="(unclosed")])


def test_likelihood_equals_a_plain_forward(local):
    requests = [
        Likelihood(({"role": "user", "content": q},), continuation=c)
        for q, c in zip(QUESTIONS, ["15 apples", "3", "", "Jon buys 12 more pears", "x"], strict=True)
    ]
    for request, answer in zip(requests, local.log_likelihood_batch(requests), strict=True):
        row = local.prepare([request])[0]
        with torch.inference_mode():
            logits = local.network(input_ids=torch.tensor([row.prompt + row.continuation])).logits[0].float()
        wanted = logits.log_softmax(-1)
        values = [float(wanted[len(row.prompt) - 1 + k, t]) for k, t in enumerate(row.continuation)]
        assert answer.logprobs == pytest.approx(values, abs=1e-4)
        assert "".join(answer.tokens) == request.continuation
        one = asyncio.run(local.log_likelihood(row.prompt, row.continuation))
        assert one.logprobs == pytest.approx(values, abs=1e-4)


def test_tokens_beyond_the_window_have_no_probability(local):
    answer = local.log_likelihood_batch([Likelihood(({"role": "user", "content": "q"},), continuation="Bob " * 300)])[0]
    assert answer.logprobs[0] > float("-inf")
    assert answer.logprobs[-1] == float("-inf")


def test_plans_are_within_budget_complete_and_stable(model_dir):
    local = LocalModel(Model(name="tiny", path=str(model_dir)), device="cpu", batch_tokens=100)
    requests = [ask("word " * (i * 7 % 13), max_tokens=5 + i % 3) for i in range(40)]
    requests += [Likelihood(r.messages, continuation="Bob") for r in requests[:20]]
    prepared = local.prepare(requests)
    plan = local.plan(prepared)
    assert sorted(i for batch in plan for i in batch) == list(range(60))
    for batch in plan:
        assert len({type(requests[i]) for i in batch}) == 1
        assert len(batch) == 1 or len(batch) * max(prepared[i].shape[1] for i in batch) <= 100
        assert local.plan([prepared[i] for i in batch]) == [list(range(len(batch)))]


def test_other_architectures_with_learned_positions(tmp_path):
    """GPT-2 has learned positions: left padding is only right if position ids are."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from .conftest import make_tokenizer

    tokenizer = make_tokenizer()
    torch.manual_seed(3)
    GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=128,
            n_embd=32,
            n_layer=2,
            n_head=2,
            initializer_range=0.3,
            eos_token_id=0,
            bos_token_id=0,
        )
    ).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    gpt = LocalModel(Model(name="gpt", path=str(tmp_path)), device="cpu")
    requests = [ask(q, temperature=0) for q in QUESTIONS]
    for request, reply in zip(requests, gpt.complete_batch(requests), strict=True):
        assert reply.text == gpt.tokenizer.decode(naive(gpt, request), skip_special_tokens=True)


@pytest.mark.gpu
def test_a_gpu_agrees_with_the_cpu(local, model_dir):
    gpu = LocalModel(Model(name="tiny", path=str(model_dir)), device="cuda")
    requests = [ask(q, temperature=0, regex=r) for q in QUESTIONS for r in (None, "[0-9]{2}")]
    same = [a == b for a, b in zip(gpu.complete_batch(requests), local.complete_batch(requests), strict=True)]
    assert sum(same) >= len(requests) - 1
    sampled = [ask(q, seed=i) for i, q in enumerate(QUESTIONS * 4)]
    assert gpu.complete_batch(sampled) == gpu.complete_batch(sampled)


def test_the_number_of_threads_changes_no_bit_and_is_left_as_it_was(local):
    requests = [ask(q, seed=i) for i, q in enumerate(QUESTIONS * 12)]
    requests += [Likelihood(r.messages, "Bob gives 7") for r in requests]  # type: ignore[misc]
    before = torch.get_num_threads()
    answers = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            answers.append(local.complete_batch(requests))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert answers[0] == answers[1]


def test_expressions_bind_a_tokenizer_of_whole_words_with_marked_spaces(tmp_path):
    """The miniature's: its pieces are '▁word', which xgrammar would take literally."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from gra_train.mini.tokenizer import build_tokenizer

    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = LocalModel(Model(name="m", path=str(tmp_path)), device="cpu")
    pattern = "(10|[1-9])( (10|[1-9])){5}"
    replies = model.complete_batch([ask("Rate", seed=i, regex=pattern, max_tokens=40) for i in range(20)])
    assert all(re.fullmatch(pattern, r.text) for r in replies)
    assert any("10" in r.text.split() for r in replies)
    assert min(r.completion_tokens for r in replies) <= 8  # whole words, not characters


def test_an_adapter_is_merged_into_its_base_and_has_a_fingerprint_of_its_own(local, model_dir, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model_dir),
        LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    adapted.save_pretrained(tmp_path)
    local.tokenizer.save_pretrained(tmp_path)
    model = LocalModel(Model(name="adapter", path=str(tmp_path)), device="cpu")
    request = Likelihood(ask("q").messages, "Bob gives 7")
    row = model.prepare([request])[0]
    with torch.inference_mode():
        logits = adapted(input_ids=torch.tensor([row.prompt + row.continuation])).logits[0].log_softmax(-1)
    values = [float(logits[len(row.prompt) - 1 + k, t]) for k, t in enumerate(row.continuation)]
    found = model.log_likelihood_batch([request])[0].logprobs
    assert found == pytest.approx(values, abs=1e-3)
    assert found != pytest.approx(local.log_likelihood_batch([request])[0].logprobs, abs=1e-3)
    assert model.fingerprint != local.fingerprint
    assert model.fingerprint.count("+") == 1
