"""Continuous batching in this process: a call is answered on its own, and its row joins the batch while others decode.

A model in process that behaves like a server: nobody waits for a block. Each request keeps its own seed, expression and
stop strings (decoding.py), so only the last bits of floats depend on who happened to be in the batch; now and then such
a bit decides a token. So answers are kept one by one, under keys of their own, and a rerun finds them in the ledger.

transformers' own `generate_batch` runs here too, but it knows no seed per request, no expressions and no stop strings,
and took five times the processor time on the miniature (docs/log.md).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch

from gra_train.chat.constrain import Constraints
from gra_train.chat.decoding import Row, left_padded
from gra_train.chat.local import LocalModel, Prepared
from gra_train.chat.protocol import Completion, Reply, Request
from gra_train.chat.sampling import draw, uniforms
from gra_train.errors import UserError

_SHORT_ROW = 128
"""Tokens of a short row: enough calls are let in to fill a batch of such."""


class ContinuousModel:
    """A LocalModel as the pool sees a server: `answers` from any number of callers at once, computed in a thread.

    Completions join the batch in the order of their arrival, within `batch_tokens`; likelihoods go between the steps.
    """

    def __init__(self, model: LocalModel) -> None:
        self.name, self.settings = model.name, model.settings
        self.fingerprint = f"continuous:{model.fingerprint}"
        self.width = model.batch_tokens / _SHORT_ROW
        self._model = model
        self._arrived: deque[tuple[Request, Future[Any]]] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    async def open(self, ledger: Path) -> None:
        """Weights are read at the first request."""

    def trust(self, request: Request) -> None:
        """Nothing to learn: what is in this process is there."""

    def report(self) -> list[dict[str, Any]]:
        return []

    async def close(self) -> None:
        with self._news:
            self._closed = True
            self._news.notify()
        if self._thread:
            await asyncio.to_thread(self._thread.join)

    async def answers(self, requests: Sequence[Request]) -> tuple[list[Any], float]:
        """Answers in order, and the seconds they took."""
        started = time.monotonic()
        futures: list[Future[Any]] = [Future() for _ in requests]
        with self._news:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()
            self._arrived.extend(zip(requests, futures, strict=True))
            self._news.notify()
        found = await asyncio.gather(*map(asyncio.wrap_future, futures))
        return list(found), time.monotonic() - started

    def _work(self) -> None:
        """The thread: admit, step, deliver, until closed. An error reaches everybody who waits."""
        waiting: deque[tuple[Prepared, Future[Any]]] = deque()
        batch: Batch | None = None
        while True:
            with self._news:
                while not (self._arrived or waiting or (batch and batch.rows) or self._closed):
                    self._news.wait()
                if self._closed:
                    return
                arrived = list(self._arrived)
                self._arrived.clear()
            try:
                prepared = self._model.prepare([request for request, _ in arrived])
                waiting.extend(zip(prepared, [future for _, future in arrived], strict=True))
                batch = batch or Batch(self._model)
                with self._model.threads():
                    self._score(waiting)
                    batch.admit(waiting)
                    batch.step()
            except BaseException as error:
                lost = {future for _, future in [*arrived, *waiting, *(batch.waiting() if batch else [])]}
                for future in lost:
                    if not future.done():
                        future.set_exception(error)
                waiting.clear()
                batch = None

    def _score(self, waiting: deque[tuple[Prepared, Future[Any]]]) -> None:
        """Answer the likelihoods that wait, batch by batch; completions stay."""
        asked = [one for one in waiting if not isinstance(one[0].request, Completion)]
        if not asked:
            return
        completions = [one for one in waiting if isinstance(one[0].request, Completion)]
        rows = [prepared for prepared, _ in asked]
        for part in self._model.plan(rows):
            for i, answer in zip(part, self._model.answer_batch([rows[i] for i in part]), strict=True):
                _deliver(asked[i][1], answer)
        waiting.clear()
        waiting.extend(completions)


class Batch:
    """Rows that are being decoded: a left-padded key-value cache that rows join and leave between steps."""

    def __init__(self, model: LocalModel) -> None:
        self.model, self.decoder = model, model.decoder
        self.rows: list[Row] = []
        self._futures: list[Future[Any]] = []
        self._prompts: list[int] = []  # tokens of each prompt
        self._cache: Any = None
        self._mask = self._position = self._token = self._uniform = torch.empty(0)
        self._constraints: Constraints | None = None

    def waiting(self) -> list[tuple[Row, Future[Any]]]:
        return list(zip(self.rows, self._futures, strict=True))

    @torch.inference_mode()
    def admit(self, waiting: deque[tuple[Prepared, Future[Any]]]) -> None:
        """Take rows from the left of `waiting` while the batch keeps within its tokens; one at least if it is empty."""
        new: list[tuple[Prepared, Future[Any]]] = []
        longest = max((p + r.limit for p, r in zip(self._prompts, self.rows, strict=True)), default=0)
        while waiting:
            prepared, future = waiting[0]
            longest = max(longest, min(prepared.shape[1], self.model.window))
            if (self.rows or new) and longest * (len(self.rows) + len(new) + 1) > self.model.batch_tokens:
                break
            waiting.popleft()
            if len(prepared.prompt) >= self.model.window:  # no room for an answer
                _deliver(future, Reply("", "length", len(prepared.prompt), 0))
            else:
                new.append((prepared, future))
        if new:
            self._join(new)

    @torch.inference_mode()
    def step(self) -> None:
        """One token for every row."""
        if not self.rows:
            return
        self._position = self._position + 1
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self.rows), 1)], dim=1)
        output = self.decoder.forward(self._token[:, None], self._mask, self._position, self._cache)
        self._draw(output.logits[:, -1].float())

    def _join(self, new: Sequence[tuple[Prepared, Future[Any]]]) -> None:
        """Read the prompts and draw their first tokens, as a batch of their own; then put the two batches together."""
        device = self.model.network.device
        other = Batch(self.model)
        other._futures = [future for _, future in new]
        other._prompts = [len(prepared.prompt) for prepared, _ in new]
        other.rows = [self.decoder.row(i, p.prompt, p.request) for i, (p, _) in enumerate(new)]  # type: ignore[arg-type]
        other._constraints = self.model.constraints([row.request for row in other.rows])
        numbers = [torch.from_numpy(uniforms(row.request, row.limit)).float() for row in other.rows]
        other._uniform = torch.nn.utils.rnn.pad_sequence(numbers, batch_first=True).clamp(max=1 - 2**-24).to(device)
        ids, other._mask = left_padded([prepared.prompt for prepared, _ in new], device)
        position = (other._mask.cumsum(-1) - 1).clamp(min=0)
        output = self.decoder.forward(ids, other._mask, position, None)
        other._cache, other._position = output.past_key_values, position[:, -1:]
        other._draw(output.logits[:, -1].float())
        if not self.rows:
            self.__dict__.update(other.__dict__)
        elif other.rows:
            self._append(other)

    def _draw(self, logits: torch.Tensor) -> None:
        """Draw each row's next token; answers that end with it are delivered and their rows leave."""
        if self._constraints:
            self._constraints.mask(logits)
        settings = [row.request.sampling for row in self.rows]
        steps = torch.tensor([[len(row.tokens)] for row in self.rows], device=logits.device)
        self._token = draw(
            logits,
            temperature=torch.tensor([s.temperature for s in settings], device=logits.device),
            top_p=torch.tensor([s.top_p for s in settings], device=logits.device),
            uniform=self._uniform.gather(1, steps).squeeze(1),
        )
        alive = []
        for k, (row, value) in enumerate(zip(self.rows, self._token.tolist(), strict=True)):
            row.tokens.append(value)
            ended = self.decoder.finished(
                row, value, self._constraints.accept(k, value) if self._constraints else False
            )
            if ended is None:
                alive.append(k)
            else:
                _deliver(self._futures[k], Reply(*ended, self._prompts[k], len(row.tokens)))
        if len(alive) < len(self.rows):
            self._keep(alive)

    def _keep(self, alive: Sequence[int]) -> None:
        """Go on with these rows, and without the columns in which all of them are padded."""
        self.rows = [self.rows[k] for k in alive]
        self._futures = [self._futures[k] for k in alive]
        self._prompts = [self._prompts[k] for k in alive]
        if not alive:
            self._cache = self._constraints = None
            return
        kept = torch.tensor(alive, device=self._token.device)
        self._mask, self._position = self._mask[kept], self._position[kept]
        self._token, self._uniform = self._token[kept], self._uniform[kept]
        if self._constraints:
            self._constraints.keep(alive)
        empty = int(self._mask.any(0).int().argmax())
        self._mask = self._mask[:, empty:]
        for layer in _layers(self._cache, self.model):
            layer.keys, layer.values = layer.keys[kept][:, :, empty:], layer.values[kept][:, :, empty:]

    def _append(self, other: Batch) -> None:
        """The rows of both batches, padded on the left to one width."""
        width = max(self._mask.shape[1], other._mask.shape[1])

        def both(a: torch.Tensor, b: torch.Tensor, dim: int) -> torch.Tensor:
            return torch.cat([_padded(a, width, dim), _padded(b, width, dim)])

        for mine, new in zip(_layers(self._cache, self.model), _layers(other._cache, self.model), strict=True):
            mine.keys, mine.values = both(mine.keys, new.keys, 2), both(mine.values, new.values, 2)
        self._mask = both(self._mask, other._mask, 1)
        steps = max(self._uniform.shape[1], other._uniform.shape[1])
        padded = [torch.nn.functional.pad(u, (0, steps - u.shape[1])) for u in (self._uniform, other._uniform)]
        self._uniform = torch.cat(padded)
        self._position = torch.cat([self._position, other._position])
        self._token = torch.cat([self._token, other._token])
        if self._constraints or other._constraints:
            self._constraints = self._constrained()
            self._constraints.join(other._constrained())
        self.rows += other.rows
        self._futures += other._futures
        self._prompts += other._prompts

    def _constrained(self) -> Constraints:
        free = self._constraints or self.model.constraints([row.request for row in self.rows], always=True)
        assert free is not None
        return free


def _padded(tensor: torch.Tensor, width: int, dim: int) -> torch.Tensor:
    """Zeros on the left of dimension `dim` up to `width`."""
    short = width - tensor.shape[dim]
    return torch.nn.functional.pad(tensor, (0, 0) * (tensor.dim() - 1 - dim) + (short, 0)) if short else tensor


def _layers(cache: Any, model: LocalModel) -> list[Any]:
    """The cache's layers. Raises UserError for kinds of cache whose rows cannot be put together so."""
    from transformers.cache_utils import DynamicLayer

    layers = list(getattr(cache, "layers", []))
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        raise UserError(
            f"model {model.name!r}: pool.continuous_batching needs a plain key-value cache, and this model has another "
            "kind (a sliding window or a state); set pool.continuous_batching=false, or serve it with vLLM."
        )
    return layers


def _deliver(future: Future[Any], answer: Any) -> None:
    if future.set_running_or_notify_cancel():
        future.set_result(answer)
