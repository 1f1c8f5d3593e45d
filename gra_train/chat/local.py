"""A transformers model in this process: batched decoding and batched likelihoods.

What an answer is depends on the weights, the request and (in the last bits of its floats) on the batch it was computed
in. `plan` cuts requests into batches as a function of the requests alone, so the same requests give the same bits.

torch is imported where something is computed: a run that finds all its answers in the ledger starts without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gra_train.chat.protocol import Completion, Likelihood, Reply, Request, TokenLogProbs, is_raw
from gra_train.chat.templates import likelihood_ids, load_tokenizer, prompt_ids, token_ids
from gra_train.errors import UserError
from gra_train.locate import adapter_base, fingerprint, model_folder
from gra_train.schema import Model
from gra_train.weights import load_weights

if TYPE_CHECKING:
    from gra_train.chat.constrain import Compiler, Constraints
    from gra_train.chat.decoding import Decoder
    from gra_train.chat.scoring import Scorer

_SMALL = 20_000_000


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as token ids."""

    request: Request
    prompt: list[int]
    continuation: list[int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(kind, tokens at the end, tokens at the start): what batches are sorted by."""
        written = self.request.sampling.max_tokens if isinstance(self.request, Completion) else len(self.continuation)
        return int(isinstance(self.request, Likelihood)), len(self.prompt) + written, len(self.prompt)


class LocalModel:
    """One model folder (or Hub name, or mini:NAME). Weights and tokenizer are loaded at first use.

    batch_tokens: most tokens of one batch, padding and answers still to be written included.
    device: "auto" (a GPU where there is one), "cpu" or "cuda".
    """

    def __init__(self, model: Model, *, batch_tokens: int = 16384, device: str = "auto") -> None:
        model_folder(model.path)
        self.name = model.name
        self.settings = model
        self.batch_tokens = batch_tokens
        self._device = device
        base = adapter_base(model.path)  # an adapter folder is also identified by the base that it names
        weights = fingerprint(model.path) + ("+" + fingerprint(base) if base else "")
        self.fingerprint = f"local:{weights}:{model.dtype}:{model.revision}"

    @cached_property
    def device(self) -> str:
        """Where the weights go: "cpu" or "cuda"."""
        import torch

        return ("cuda" if torch.cuda.is_available() else "cpu") if self._device == "auto" else self._device

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.settings)

    @cached_property
    def network(self) -> Any:
        """The weights, in evaluation mode on the device."""
        return _load(self.settings).to(self.device).eval()

    @cached_property
    def window(self) -> int:
        """Positions that the model was made for."""
        return int(getattr(self.network.config.get_text_config(), "max_position_embeddings", None) or 2**30)

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """Ids that end an answer: the generation config's and the tokenizer's."""
        config = getattr(self.network, "generation_config", None)
        own = getattr(config, "eos_token_id", None) or []
        ids = {*(own if isinstance(own, list) else [own]), self.tokenizer.eos_token_id}
        return tuple(sorted(i for i in ids if i is not None))

    @cached_property
    def vocabulary(self) -> int:
        return int(self.network.get_output_embeddings().weight.shape[0])

    @cached_property
    def _compiler(self) -> Compiler:
        from gra_train.chat.constrain import Compiler

        return Compiler(self.tokenizer, self.vocabulary, self.end_ids)

    @cached_property
    def decoder(self) -> Decoder:
        from gra_train.chat.decoding import Decoder

        return Decoder(self.network, self.tokenizer, end_ids=self.end_ids, window=self.window)

    @cached_property
    def scorer(self) -> Scorer:
        from gra_train.chat.scoring import Scorer

        return Scorer(self.network, self.tokenizer, end_ids=self.end_ids, window=self.window)

    def constraints(self, requests: Sequence[Completion], *, always: bool = False) -> Constraints | None:
        """The constraints of a batch, None if no request has one (unless `always`)."""
        if not always and all(r.regex is None and r.schema is None for r in requests):
            return None
        from gra_train.chat.constrain import Constraints

        return Constraints(self._compiler, requests, self.vocabulary, self.end_ids)

    def prepare(self, requests: Sequence[Request]) -> list[Prepared]:
        """The requests with their token ids; a continuation is tokenised apart from its prompt."""
        if any(isinstance(r, Likelihood) and is_raw(r.messages) for r in requests):
            return [self._prepare_one(request) for request in requests]
        prompts = prompt_ids(self.tokenizer, [r.messages for r in requests])
        texts = [r.continuation if isinstance(r, Likelihood) else "" for r in requests]
        continuations = token_ids(self.tokenizer, texts) if any(texts) else [[] for _ in texts]
        return [Prepared(*row) for row in zip(requests, prompts, continuations, strict=True)]

    def _prepare_one(self, request: Request) -> Prepared:
        if isinstance(request, Completion):
            return Prepared(request, prompt_ids(self.tokenizer, [request.messages])[0], [])
        return Prepared(request, *likelihood_ids(self.tokenizer, request))

    def plan(self, prepared: Sequence[Prepared]) -> list[list[int]]:
        """Batches of indices: by kind, then by length, within the token budget. A batch planned again is itself.

        Likelihoods whose prompts share long prefixes come last, in batches of their own (prefixes.py).
        """
        asked = [i for i, one in enumerate(prepared) if one.shape[0]]
        sharing: list[list[int]] = []
        if asked and self.scorer.shares:
            from gra_train.chat import prefixes

            rows = [prepared[i] for i in asked]
            found, _ = prefixes.plan(
                [r.prompt for r in rows], [r.continuation for r in rows], budget=self.batch_tokens, window=self.window
            )
            sharing = [[asked[k] for k in batch] for batch in found]
        apart = set(range(len(prepared))) - {i for batch in sharing for i in batch}
        order = sorted(apart, key=lambda i: (*prepared[i].shape, i))
        batches: list[list[int]] = []
        for i in order:  # ascending, so the newcomer is the longest of its batch
            kind, length = prepared[i].shape[0], min(prepared[i].shape[1], self.window)
            last = batches[-1] if batches else []
            if last and prepared[last[0]].shape[0] == kind and (len(last) + 1) * length <= self.batch_tokens:
                last.append(i)
            else:
                batches.append([i])
        return batches + sharing

    def answer_batch(self, prepared: Sequence[Prepared]) -> list[Any]:
        """Answers to one planned batch (all of one kind), in order."""
        with self.threads():
            if isinstance(prepared[0].request, Completion):
                return self._complete(prepared)
            return self.scorer.run([p.prompt for p in prepared], [p.continuation for p in prepared])

    def complete_batch(self, requests: Sequence[Completion]) -> list[Reply]:
        """Replies in the order of the requests, which are cut into batches first."""
        return self._planned(requests)

    def log_likelihood_batch(self, requests: Sequence[Likelihood]) -> list[TokenLogProbs]:
        """Token log-probabilities in the order of the requests, which are cut into batches first."""
        return self._planned(requests)

    async def complete(self, request: Completion) -> Reply:
        return self.complete_batch([request])[0]

    async def log_likelihood(self, prompt_ids: list[int], continuation_ids: list[int]) -> TokenLogProbs:
        return self.scorer.run([prompt_ids], [continuation_ids])[0]

    def _planned(self, requests: Sequence[Request]) -> list[Any]:
        prepared = self.prepare(requests)
        answers: list[Any] = [None] * len(requests)
        for batch in self.plan(prepared):
            for i, answer in zip(batch, self.answer_batch([prepared[i] for i in batch]), strict=True):
                answers[i] = answer
        return answers

    @contextmanager
    def threads(self) -> Iterator[None]:
        """One thread for small models on a CPU: faster, and the same bits whatever the number of cores."""
        import torch

        before = torch.get_num_threads()
        small = self.device == "cpu" and sum(p.numel() for p in self.network.parameters()) < _SMALL
        if not small or before == 1:
            yield
            return
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _complete(self, prepared: Sequence[Prepared]) -> list[Reply]:
        requests = [p.request for p in prepared if isinstance(p.request, Completion)]
        return self.decoder.run([p.prompt for p in prepared], requests, self.constraints(requests))


def _load(model: Model) -> Any:
    import torch

    options = {"dtype": getattr(torch, model.dtype), "trust_remote_code": model.trust_remote_code}
    try:
        return load_weights(model.path, revision=model.revision, **options)
    except (OSError, ValueError) as error:
        raise UserError(f"model {model.name!r}: {model.path!r} cannot be loaded ({error})") from None
