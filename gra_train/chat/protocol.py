"""The protocol of a language model: two verbs, complete and log_likelihood, and the records they exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from gra_train.records import Record

Message = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}"""
RAW = "raw"


def raw(text: str) -> tuple[Message, ...]:
    """The conversation that is one text, read as it is: no chat template, only the start token that the tokenizer puts
    in front of any text (unless it is there already). Behind a server it goes to raw completion."""
    return ({"role": RAW, "content": text},)


def is_raw(messages: Sequence[Message]) -> bool:
    return len(messages) == 1 and messages[0]["role"] == RAW


@dataclass(frozen=True, slots=True)
class Sampling(Record):
    """How tokens are drawn. temperature 0 is greedy (seed and top_p are then ignored)."""

    temperature: float = 0.2
    top_p: float = 0.9
    max_tokens: int = 4096
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A request for one answer. Everything here but `purpose` determines the answer and is part of the ledger's key.

    `schema`, `logprobs` and `sample` enter the key only when they are set, so that ledgers written before they existed
    still answer.

    messages: the conversation; the model renders it with its own chat template (a template that refuses a system
        role gets it merged into the first user turn). If the last turn is the assistant's, the answer goes on from it
        (in process, and where prompts are rendered here: api=completions).
    seed: of this request alone; rows of a batch never share a generator.
    regex: the answer must match it as a whole (constrained decoding), or None.
    schema: JSON schema that the answer follows, as canonical JSON text, or None.
    attempt: 0 for the first try; a retry after a parse failure is another request.
    sample: which of several answers to one prompt (see `several`); servers that can are asked for all in one call.
    logprobs: also return the log-probability of each token of the answer (behind a server only).
    purpose: "role/prompt" label for accounting, e.g. "reviewer/response_review".
    """

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    seed: int = 0
    regex: str | None = None
    schema: str | None = None
    attempt: int = 0
    sample: int = 0
    logprobs: bool = False
    purpose: str = field(default="", compare=False)


def several(request: Completion, n: int) -> tuple[Completion, ...]:
    """`n` requests for different answers to one prompt: asked together, one call where the server knows `n`."""
    return tuple(replace(request, sample=i) for i in range(n))


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A request for the log-probability of each token of `continuation` given the rendered `messages`.

    The continuation is tokenised apart from the prompt, so that the boundary is exact; after a `raw` text together with
    it, as lm-eval does (spaces at the end of the text then count to the continuation).
    may_fail: who asks can do without the answer (TokenLogProbs.failed) where the server does not give this one.
    """

    messages: tuple[Message, ...]
    continuation: str
    purpose: str = field(default="", compare=False)
    may_fail: bool = field(default=False, compare=False)


Request = Completion | Likelihood


@dataclass(frozen=True, slots=True)
class Reply(Record):
    """One answer. finish: "stop" (end token or stop string), "length" (cut at max_tokens or at the model's window), or
    "failed" (the server refused this request, or failed at it every time, while it answered others: no text)."""

    text: str
    finish: Literal["stop", "length", "failed"] = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    logprobs: TokenLogProbs | None = None
    key: bytes = field(default=b"", compare=False)

    @property
    def failed(self) -> bool:
        return self.finish == "failed"


@dataclass(frozen=True, slots=True)
class TokenLogProbs(Record):
    """Natural-log probabilities, one per continuation token, with the tokens' texts (same length).

    prompt_tokens: read in front of them, where that is paid for (behind a server). failed: as a Reply's finish; there
    are no log-probabilities then.
    """

    logprobs: tuple[float, ...]
    tokens: tuple[str, ...] = ()
    key: bytes = field(default=b"", compare=False)
    prompt_tokens: int = field(default=0, compare=False)
    failed: bool = False

    @property
    def total(self) -> float:
        """Raises ModelError where there are none: no answer must not pass for certainty."""
        if self.failed:
            raise ModelError(
                "a likelihood is on record as not answered by its server, and cannot be done without here: `gra-train "
                "ledger vacuum --failed` lets it be asked again."
            )
        return float(sum(self.logprobs))


Answer = Reply | TokenLogProbs


class ChatModel(Protocol):
    """A language model, in process or behind a server."""

    name: str
    fingerprint: str
    """Identity of the weights: content hash of a folder, a server's revision, or a probe. Part of every ledger key."""

    async def complete(self, request: Completion) -> Reply: ...

    async def log_likelihood(self, prompt_ids: list[int], continuation_ids: list[int]) -> TokenLogProbs: ...


class Ask(Protocol):
    """How a story talks to the pool: all requests go out together, answers come back in their order.

    Each request names a pool member. Answers come from the ledger where it has them; a failed call raises ModelError.
    """

    async def __call__(self, *requests: tuple[str, Request]) -> list[Any]: ...


class ModelError(RuntimeError):
    """A model or server could not answer (after retries); the message names the endpoint and the cause, never a key."""
