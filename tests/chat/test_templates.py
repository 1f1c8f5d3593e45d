"""Chat templates: system roles that are taken, refused or dropped; tokenizers without a template."""

from __future__ import annotations

import pytest

from gra_train.chat.templates import load_tokenizer, merge_system, prompt_ids, render, token_ids
from gra_train.errors import UserError
from gra_train.schema import Model

from .conftest import NO_SYSTEM, TEMPLATE, make_tokenizer

TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
DROPS_SYSTEM = TEMPLATE.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")


def test_a_template_with_a_system_role_is_used_as_it_is():
    assert render(make_tokenizer(), TALK) == "<|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>"


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM], ids=["refuses", "drops"])
def test_a_system_text_is_never_lost(template):
    assert render(make_tokenizer(template), TALK) == "<|user|>Be brief.\n\nHi<|end|><|assistant|>"


def test_the_miniature_template_gets_it_merged():
    from gra_train.mini.tokenizer import build_tokenizer

    text = render(build_tokenizer(), TALK)
    assert text.count("<|user|>") == 1
    assert "Be brief." in text


def test_an_open_turn_of_the_assistant_goes_on():
    from gra_train.mini.tokenizer import build_tokenizer

    begun = [*TALK[1:], {"role": "assistant", "content": "Hello. I"}]
    assert render(make_tokenizer(), begun).endswith("<|user|>Hi<|end|><|assistant|>Hello. I")
    assert render(build_tokenizer(), begun).endswith("<|user|>Hi<|assistant|>Hello. I")


def test_merging_keeps_every_turn():
    assert merge_system([{"role": "system", "content": "A"}]) == [{"role": "user", "content": "A"}]
    turns = [{"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]
    assert merge_system(turns) == turns
    assert merge_system([*turns, TALK[0]])[0] == {"role": "user", "content": "Be brief."}
    assert TALK[1]["content"] == "Hi"  # the caller's messages are left alone


def test_a_conversation_that_the_template_refuses_is_an_error():
    template = "{{ raise_exception('roles must alternate') }}"
    for talk in (TALK, TALK[1:]):
        with pytest.raises(UserError, match="roles must alternate"):
            render(make_tokenizer(template), talk)


def test_nothing_is_added_to_ids():
    tokenizer = make_tokenizer()
    ids = prompt_ids(tokenizer, [TALK])[0]
    assert tokenizer.decode(ids) == render(tokenizer, TALK)
    assert token_ids(tokenizer, ["Bob", ""])[1] == []
    assert token_ids(tokenizer, []) == []


def test_no_template_or_no_tokenizer_is_said(tmp_path):
    make_tokenizer(None).save_pretrained(tmp_path / "bare")
    (tmp_path / "bare" / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match=r"no chat template.*instruct"):
        render(load_tokenizer(Model(name="m", path=str(tmp_path / "bare"))), TALK)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match="no usable tokenizer"):
        load_tokenizer(Model(name="m", path=str(tmp_path / "empty")))
