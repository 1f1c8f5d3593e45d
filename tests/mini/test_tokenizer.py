"""The tokenizer: whole words, exact round trips, and no text that it cannot take."""

import random
from pathlib import Path

import pytest

from gra_train.mini import base_texts, roles
from gra_train.mini.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """As a user gets it: saved, and loaded by AutoTokenizer."""
    from transformers import AutoTokenizer

    folder: Path = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer().save_pretrained(folder)
    assert (folder / "chat_template.jinja").is_file()
    return AutoTokenizer.from_pretrained(folder)


def test_round_trip_of_everything_that_models_read_and_write(tokenizer) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(7)
    for _ in range(1500):
        for text in (*roles.example(rng, roles.Profile()), *base_texts.base_example(rng)):
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.decode(ids) == text
            assert tokenizer.unk_token_id not in ids
            assert all(
                len(t.lstrip("▁")) > 1 or not t.isalpha() or t.startswith("▁")
                for t in tokenizer.convert_ids_to_tokens(ids)
            )


def test_numbers_are_one_token(tokenizer) -> None:  # type: ignore[no-untyped-def]
    assert all(len(tokenizer(str(n))["input_ids"]) == 1 for n in range(100))


@pytest.mark.parametrize("text", ["She paid $12,345.67!\n  Twice.", "<b>&amp;</b> {x: [1]}", "snow"])
def test_any_ascii_text_survives(tokenizer, text: str) -> None:  # type: ignore[no-untyped-def]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("text", ["", "naïve — 東京 🙂", "\x00\x07"])
def test_other_text_does_not_crash(tokenizer, text: str) -> None:  # type: ignore[no-untyped-def]
    assert isinstance(tokenizer.decode(tokenizer(text)["input_ids"]), str)


def test_chat_template(tokenizer) -> None:  # type: ignore[no-untyped-def]
    user, assistant = {"role": "user", "content": "Solve: 1"}, {"role": "assistant", "content": "2"}
    assert (
        tokenizer.apply_chat_template([user], add_generation_prompt=True, tokenize=False)
        == "<s><|user|>Solve: 1<|assistant|>"
    )
    whole = tokenizer.apply_chat_template([user, assistant], tokenize=False)
    assert whole == "<s><|user|>Solve: 1<|assistant|>2</s>"
    with pytest.raises(Exception, match="only user and assistant turns"):
        tokenizer.apply_chat_template([{"role": "system", "content": "x"}, user], tokenize=False)
