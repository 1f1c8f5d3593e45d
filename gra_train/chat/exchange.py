"""The JSON of a completion: the request that is sent and the replies that come back."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import orjson

from gra_train.chat import dialects
from gra_train.chat.protocol import Completion, Reply, TokenLogProbs
from gra_train.chat.templates import cut_at


def body_of(
    request: Completion, *, model: str, prompt: dict[str, Any], server: str, n: int, limit: int | None
) -> dict[str, Any]:
    """prompt: the field that holds it. limit: tokens to write at most; None: as many as the window holds."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        **prompt,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        # another try or sample is another draw; servers want a non-negative 32-bit number
        "seed": (request.seed + 1_000_003 * request.attempt + 15_485_863 * request.sample) % 2**31,
    }
    if limit is not None:
        body["max_tokens"] = limit
    if sampling.stop:
        body["stop"] = sampling.stop
    if n > 1:
        body["n"] = n
    if request.logprobs:
        body["logprobs"] = 1 if "prompt" in prompt else True
    if request.regex is not None or request.schema is not None:
        body |= dialects.constraint(server, request.regex, None if request.schema is None else _schema(request.schema))
    return body


def replies_of(request: Completion, data: Any) -> list[Reply]:
    """The answers in a response, of chat or of raw completion. Raises ValueError, KeyError, ... where it is none."""
    choices = data["choices"]
    if not choices:
        raise ValueError("an answer without choices")
    usage = data.get("usage") or {}
    read, written = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    replies = []
    for i, choice in enumerate(choices):
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        if not isinstance(text, str | None):
            raise ValueError("an answer that is no text")
        text = _clean(text or "")
        cut = cut_at(text, request.sampling.stop)  # where the server left the stop strings to us
        truncated = choice.get("finish_reason") == "length" and cut is None
        scores = dialects.answer_logprobs(choice) if request.logprobs else None
        replies.append(
            Reply(
                text if cut is None else cut,
                "length" if truncated else "stop",
                # the prompt was read once; of what was written the server gives only the sum
                0 if i else read,
                (written + len(choices) - 1 - i) // len(choices),
                None if scores is None else TokenLogProbs(*scores),
            )
        )
    return replies


def constraint_of(request: Completion) -> str:
    """In words; "" where there is none."""
    return (
        "a JSON schema" if request.schema is not None else "a regular expression" if request.regex is not None else ""
    )


def keeps(request: Completion, reply: Reply) -> bool:
    """Does the answer keep to the request's constraint? One that was cut short cannot."""
    if reply.finish == "length" or not constraint_of(request):
        return True
    try:
        if request.schema is not None:
            return dialects.follows(_schema(request.schema), orjson.loads(reply.text))
        return re.fullmatch(str(request.regex), reply.text) is not None
    except orjson.JSONDecodeError:
        return False
    except re.error:  # the server's dialect, not Python's
        return True


@lru_cache(64)
def _schema(text: str) -> Any:
    return orjson.loads(text)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 < value < 2**31 else 0


def _clean(text: str) -> str:
    """Text that can be written as UTF-8: a lone surrogate (from a broken escape) becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
