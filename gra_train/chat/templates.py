"""Tokenizers and chat templates: how a conversation becomes the text (and the token ids) that a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gra_train.chat.protocol import Likelihood, Message, is_raw
from gra_train.errors import UserError
from gra_train.locate import model_folder
from gra_train.schema import Model


def load_tokenizer(model: Model) -> Any:
    """The tokenizer of `model.path`. Raises UserError if there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            model_folder(model.path),
            revision=model.revision or "main",
            trust_remote_code=model.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise UserError(f"model {model.name!r}: no usable tokenizer in {model.path!r} ({error})") from None


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
    """The prompt text, ending where the assistant begins to write, or goes on: a last turn of the assistant is open.

    A template that raises on a system role, or silently leaves its text out, gets it merged into the first user turn.
    Raises UserError if there is no template, or it refuses the conversation for another reason.
    """
    from jinja2.exceptions import TemplateError

    if not tokenizer.chat_template:
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no chat template; add chat_template.jinja to the model's "
            "folder (its instruct variant usually has one)."
        )
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
    """Token ids of the rendered prompts: the template writes all special tokens itself. Of a raw text, the text's."""
    if any(map(is_raw, conversations)):
        return [
            _raw_ids(tokenizer, messages[0]["content"]) if is_raw(messages) else prompt_ids(tokenizer, [messages])[0]
            for messages in conversations
        ]
    return token_ids(tokenizer, [render(tokenizer, messages) for messages in conversations])


def prompt_text(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The prompt as text, for a server that tokenises it: without a start token that its tokenizer would add again."""
    text = messages[0]["content"] if is_raw(messages) else render(tokenizer, messages)
    added = tokenizer.bos_token and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    return text.removeprefix(tokenizer.bos_token) if added else text


def likelihood_ids(tokenizer: Any, request: Likelihood) -> tuple[list[int], list[int]]:
    """(prompt, continuation) as token ids; see Likelihood for how they are told apart."""
    if not is_raw(request.messages):
        return prompt_ids(tokenizer, [request.messages])[0], token_ids(tokenizer, [request.continuation])[0]
    text = request.messages[0]["content"]
    if not text:  # something must come first: the token that starts texts, or ends them
        first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        ids = token_ids(tokenizer, [request.continuation])[0]
        return [first], ids[1:] if ids[:1] == [first] else ids
    prompt = _raw_ids(tokenizer, text.rstrip(" ") or text)
    return prompt, _raw_ids(tokenizer, text + request.continuation)[len(prompt) :]


def _raw_ids(tokenizer: Any, text: str) -> list[int]:
    begun = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)
    ids: list[int] = tokenizer(text, add_special_tokens=not begun)["input_ids"]
    return ids


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of the texts as they are: nothing is added in front or behind."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def cut_at(text: str, stop: Sequence[str]) -> str | None:
    """The text before the earliest stop string, or None if there is none."""
    found = [at for at in (text.find(s) for s in stop if s) if at >= 0]
    return text[: min(found)] if found else None


def _apply(tokenizer: Any, messages: Sequence[Message]) -> str:
    begun = messages[-1]["role"] == "assistant"
    return str(
        tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=not begun, continue_final_message=begun
        )
    )
