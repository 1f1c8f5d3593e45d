"""Tokenizers and chat templates: how a conversation becomes the text (and the token ids) that a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gra_train.chat.protocol import Message
from gra_train.errors import UserError
from gra_train.locate import model_folder
from gra_train.schema import Model


def load_tokenizer(model: Model) -> Any:
    """The tokenizer of `model.path`. Raises UserError if there is none or it has no chat template."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            model_folder(model.path),
            revision=model.revision or "main",
            trust_remote_code=model.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise UserError(f"model {model.name!r}: no usable tokenizer in {model.path!r} ({error})") from None
    if not tokenizer.chat_template:
        raise UserError(
            f"model {model.name!r}: the tokenizer of {model.path!r} has no chat template; add chat_template.jinja to "
            "the folder (its instruct variant usually has one)."
        )
    return tokenizer


def merge_system(messages: Sequence[Message]) -> list[Message]:
    """The conversation with its system texts in front of the first user turn, for templates that refuse them."""
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    rest = [dict(m) for m in messages if m["role"] != "system"]
    if not system:
        return rest
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system}, *rest]
    rest[0]["content"] = f"{system}\n\n{rest[0]['content']}"
    return rest


def render(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The prompt text, ending where the assistant begins to write.

    A template that raises on a system role, or silently leaves its text out, gets it merged into the first user turn.
    Raises UserError if the template refuses the conversation for another reason.
    """
    from jinja2.exceptions import TemplateError

    system = [m["content"].strip() for m in messages if m["role"] == "system"]
    try:
        text = _apply(tokenizer, messages)
        if all(content in text for content in system):
            return text
    except TemplateError as error:
        if not system:
            raise UserError(f"the chat template refuses this conversation: {error}") from None
    try:
        return _apply(tokenizer, merge_system(messages))
    except TemplateError as error:
        raise UserError(f"the chat template refuses this conversation: {error}") from None


def prompt_ids(tokenizer: Any, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Token ids of the rendered prompts. The template writes all special tokens itself."""
    return token_ids(tokenizer, [render(tokenizer, messages) for messages in conversations])


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of the texts as they are: nothing is added in front or behind."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def cut_at(text: str, stop: Sequence[str]) -> str | None:
    """The text before the earliest stop string, or None if there is none."""
    found = [at for at in (text.find(s) for s in stop if s) if at >= 0]
    return text[: min(found)] if found else None


def _apply(tokenizer: Any, messages: Sequence[Message]) -> str:
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))
