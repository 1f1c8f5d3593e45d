"""Asking a model until its answer can be read: retries after parse failures, and a record of every attempt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gra_train.chat.protocol import Ask, Completion, Reply, Request, Sampling
from gra_train.records import Record
from gra_train.schema import Synthesis
from gra_train.synthesis.prompts import Prompt
from gra_train.synthesis.repair import ParseError

T = TypeVar("T")
OK, REPAIRED, TRUNCATED, SCORED = "ok", "repaired", "cut at max_tokens", "scored"
UNANSWERED = "the server did not answer it"
KeyOf = Callable[[str, Request], bytes]
"""The ledger's key of a request to a model (by its name in the pool)."""


def no_key(model: str, request: Request) -> bytes:
    """Where there is no ledger."""
    return b""


@dataclass(frozen=True, slots=True)
class Attempt(Record):
    """One call to one model, and what became of its answer.

    outcome: "ok", "repaired", why it could not be read (a ParseError's reason), or "scored" (a likelihood).
    seed: sampling seed (None: nothing was sampled). key: the request's key in the ledger.
    """

    prompt: str
    role: str
    model: str
    outcome: str
    seed: int | None = None
    key: bytes = b""

    @property
    def failed(self) -> bool:
        return self.outcome not in (OK, REPAIRED, SCORED)

    @property
    def truncated(self) -> bool:
        return self.outcome == TRUNCATED


@dataclass(frozen=True, slots=True)
class Call:
    """A prompt for one model. seed_of: the sampling seed of each attempt (0 is the first)."""

    role: str
    model: str
    prompt: Prompt[Any]
    seed_of: Callable[[int], int]


def sampling_of(synthesis: Synthesis, prompt: Prompt[Any]) -> Sampling:
    """Decoding of a prompt: one temperature for every role (GRA, section 4.1); responses may have their own."""
    own = synthesis.response_temperature if prompt.kind == "response" else None
    return Sampling(
        temperature=synthesis.temperature if own is None else own,
        top_p=synthesis.top_p,
        max_tokens=synthesis.max_tokens,
        stop=prompt.stop,
    )


async def ask_all(
    ask: Ask, calls: Sequence[Call], *, synthesis: Synthesis, trace: list[Attempt], key_of: KeyOf = no_key
) -> list[Any]:
    """The parsed answers to `calls`, which go out together; None where no attempt could be read.

    An answer that cannot be read is asked for again, with another seed, at most `parse_retries` times; greedy decoding
    (temperature 0) would only repeat itself and is not retried. An answer cut at max_tokens is never read: what it
    lacks cannot be known. Every attempt is appended to `trace`.
    """
    values: list[Any] = [None] * len(calls)
    waiting = list(range(len(calls)))
    for attempt in range(synthesis.parse_retries + 1):
        if attempt:
            waiting = [i for i in waiting if sampling_of(synthesis, calls[i].prompt).temperature > 0]
        if not waiting:
            break
        requests = [_completion(calls[i], synthesis, attempt) for i in waiting]
        replies = await ask(*((calls[i].model, request) for i, request in zip(waiting, requests, strict=True)))
        failed = []
        for i, request, reply in zip(waiting, requests, replies, strict=True):
            call = calls[i]
            try:
                value, outcome = _read(call.prompt, reply)
                values[i] = value
            except ParseError as error:
                outcome = error.reason
                failed.append(i)
            key = reply.key or key_of(call.model, request)
            trace.append(Attempt(call.prompt.kind, call.role, call.model, outcome, request.seed, key))
        waiting = failed
    return values


def _completion(call: Call, synthesis: Synthesis, attempt: int) -> Completion:
    return Completion(
        messages=call.prompt.messages,
        sampling=sampling_of(synthesis, call.prompt),
        seed=call.seed_of(attempt),
        regex=call.prompt.regex,
        schema=call.prompt.schema,
        attempt=attempt,
        purpose=f"{call.role}/{call.prompt.kind}",
    )


def _read(prompt: Prompt[T], reply: Reply) -> tuple[T, str]:
    if reply.finish == "length":
        raise ParseError(TRUNCATED)
    if reply.finish == "failed":
        raise ParseError(UNANSWERED)
    parsed = prompt.parse(reply.text)
    return parsed.value, REPAIRED if parsed.repaired else OK
