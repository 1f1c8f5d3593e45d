"""A pool of models and its ledger: where stories are run.

with open_pool(pool.models, ledger=folder, batch_tokens=pool.batch_tokens) as models:
    results = models.run(stories, block=64, on_done=bar.advance)
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from gra_train import memory
from gra_train.chat import dispatch
from gra_train.chat.asking import Asking, Remote, known
from gra_train.chat.keys import batch_key, decode, encode, key_in_batch, request_key
from gra_train.chat.ledger import Ledger
from gra_train.chat.protocol import Completion, ModelError, Request
from gra_train.chat.usage import Usage
from gra_train.errors import UserError
from gra_train.schema import Model

if TYPE_CHECKING:
    from gra_train.chat.continuous import ContinuousModel
    from gra_train.chat.http import HttpModel
    from gra_train.chat.local import LocalModel

T = TypeVar("T")
log = logging.getLogger(__name__)


def open_pool(
    models: Sequence[Model], *, ledger: Path, batch_tokens: int = 16384, device: str = "auto", continuous: bool = False
) -> OpenPool:
    """Check every member (folders exist, servers answer) and open the ledger. Weights are loaded at first use.

    continuous: models in process answer calls as they come, as servers do, instead of in lockstep blocks.

    Raises UserError for an empty pool, a name given twice, a member that is neither in process nor behind a server,
    a server that is not there, or a ledger folder that cannot be used.
    """
    names = [m.name for m in models]
    if not models:
        raise UserError("the pool has no models; name at least one")
    twice = sorted({n for n in names if names.count(n) > 1 or not n})
    if twice:
        raise UserError(
            f"every model of a pool needs a name of its own; given: {', '.join(n or '(none)' for n in names)}"
        )
    for model in models:
        if not model.url and not model.path:
            raise UserError(f"model {model.name!r} needs path= (in process) or url= (behind a server)")
    return OpenPool(models, ledger=ledger, batch_tokens=batch_tokens, device=device, continuous=continuous)


class OpenPool:
    """Models by name, with the ledger between them and the stories. Use as a context manager."""

    def __init__(
        self, models: Sequence[Model], *, ledger: Path, batch_tokens: int, device: str, continuous: bool
    ) -> None:
        lockstep = any(not m.url for m in models) and not continuous
        self._threaded = None if lockstep else dispatch.LoopThread()
        self._runner = self._threaded or asyncio.Runner()
        self.models: dict[str, LocalModel | Remote] = {}
        self._usage = Usage()
        self._held: object = None
        self._settled = 0
        self._batched: Callable[[int], None] | None = None
        self._in_block = 0  # calls of the block at hand that were answered
        try:
            self.ledger = Ledger(ledger)
            self._local = _local_models([m for m in models if not m.url], batch_tokens, device)
            self._remote: dict[str, Remote] = {**_remote_models([m for m in models if m.url])}
            if continuous:
                self._remote |= _continuous(self._local)
                self._local = {}
            self._asking = Asking(self._remote, self.ledger, self._usage)
            for model in self._remote.values():
                self._runner.run(model.open(Path(ledger)))
        except BaseException:
            self.close()
            raise
        if not lockstep and not continuous:
            memory.give_back()  # a client, for hours
        members: dict[str, LocalModel | Remote] = {**self._local, **self._remote}
        self.models = {m.name: members[m.name] for m in models}

    @property
    def names(self) -> list[str]:
        return list(self.models)

    def __enter__(self) -> OpenPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close connections and the ledger. Idempotent."""
        for model in getattr(self, "_remote", {}).values():
            self._runner.run(model.close())
        self._runner.close()
        if hasattr(self, "ledger"):
            self.ledger.close()
        memory.keep()

    def usage(self) -> dict[str, Any]:
        """Counts since the pool was opened (see usage.Count): calls and tokens per model and purpose, and in total."""
        return self._usage.to_dict()

    def health(self) -> str:
        """Which servers do not answer now, and how far models in process are within a block; "" if there is nothing."""
        if self._in_block:
            return f"{self._in_block} calls of the next block answered"
        out = {name: [e["out"] for e in model.report()] for name, model in self._remote.items()}
        return ", ".join(f"{name}: {sum(o)} of {len(o)} endpoints out" for name, o in out.items() if any(o))

    def write_usage(self, path: Path) -> None:
        """`usage()` as JSON, with costs, latencies and what the endpoints did.

        For the run folder, not for results: a resumed run asks less, and times differ.
        """
        more = {
            "cost": self._usage.cost([model.settings for model in self.models.values()]),
            "in_vain": self._usage.in_vain(),
            "latency_s": self._usage.latencies(),
            "endpoints": {name: model.report() for name, model in self._remote.items()},
        }
        path.write_bytes(orjson.dumps(self.usage() | more, option=orjson.OPT_INDENT_2))

    def key_of(self, name: str, request: Request) -> bytes:
        """The ledger's key of a request to a member (in process: what its batch's key is made of)."""
        return request_key(self.models[known(name, self.models)].fingerprint, request)

    def run(
        self,
        stories: Sequence[dispatch.Story[T]],
        *,
        block: int = 64,
        window: int | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[T]:
        """Run the stories and return their results in order: `stream` for those who need all at once."""
        results = dict(self.stream(stories, block=block, window=window, on_done=on_done))
        return [results[i] for i in range(len(results))]

    @property
    def lockstep(self) -> bool:
        """Whether a model is in process, and stories advance in blocks."""
        return self._threaded is None

    def stream(
        self,
        stories: Iterable[dispatch.Story[T] | None],
        *,
        block: int = 64,
        window: int | None = None,
        on_done: Callable[[int], None] | None = None,
        hold: bool = False,
    ) -> Iterator[tuple[int, T]]:
        """(index, result) of each story as it finishes; index counts what `stories` gave, from 0.

        stories: may be a lazy, even endless, iterator. It is advanced in the caller's thread, while the caller waits
            for the next result, and only as far as there is room: at most twice `window` stories have been drawn whose
            result was not taken yet. So memory does not grow with the number of stories. It may give None: no story
            for now, ask again when there is news (in process: end this block here).
        window: behind servers, stories in flight (None: twice the calls that the pool's servers take at once, so that
            they stay busy). Calls go on, in a thread of their own, while the caller works on a result.
        block: with a model in process, this many consecutive stories advance together (same stories, same bits), and
            results come in order, block after block.
        on_done(n): told of each n stories that finished (a progress bar's `advance`), and of 0 every second without
            one, in process after each batch; it may raise to stop. A block that is stopped within goes on from its
            last batch when it is run again.
        hold: behind servers, more stories may be started than turn out to be needed, and how many depends on timing.
            `usage` then counts a story when `settle(stop)` says that results before `stop` count, or when the stream
            ends by itself; the others are shown as in vain.

        An exception in a story is raised here. When the iteration ends early (by an exception, or `close()` on the
        generator) stories in flight are cancelled; what was answered is in the ledger.
        """
        if self._threaded is None:
            return self._blocks(stories, block, on_done)
        wide = (lambda: window) if window else self._width
        return self._flow(stories, wide, on_done, hold)

    def _flow(
        self,
        stories: Iterable[dispatch.Story[T] | None],
        window: Callable[[], int],
        on_done: Callable[[int], None] | None,
        hold: bool,
    ) -> Iterator[tuple[int, T]]:
        assert self._threaded is not None
        stream = object()
        if hold:
            self._held, self._settled = stream, 0

        async def answer(index: int, calls: Sequence[dispatch.Call]) -> list[Any]:
            return await self._asking.ask(calls, (stream, index) if hold else None)

        whole = False
        try:
            yield from dispatch.free_flow(stories, answer, self._threaded.loop, window=window, on_done=on_done)
            whole = True
        finally:
            self._usage.settle(stream, None if whole else self._settled, end=True)

    def settle(self, stop: int) -> None:
        """Of the stream that holds its usage, the results before index `stop` count."""
        self._settled = stop
        self._usage.settle(self._held, stop)

    def _blocks(
        self, stories: Iterable[dispatch.Story[T] | None], block: int, on_done: Callable[[int], None] | None
    ) -> Iterator[tuple[int, T]]:
        source, index, exhausted = iter(stories), 0, False
        while not exhausted:
            part, exhausted = dispatch.take(source, block)
            if not part:
                continue
            self._batched, self._in_block = on_done, 0
            try:
                results = self._runner.run(dispatch.advance(part, self._step))
            finally:
                self._batched, self._in_block = None, 0
            if on_done:
                on_done(len(part))
            for result in results:
                yield index, result
                index += 1

    def _width(self) -> int:
        """Stories in flight that keep all servers busy, though roles are drawn unevenly."""
        return math.ceil(2 * sum(model.width for model in self._remote.values()))

    async def _step(self, calls: Sequence[dispatch.Call]) -> list[Any]:
        """Answers to all calls of a step: servers concurrently, models in process batch by batch."""
        answers: list[Any] = [None] * len(calls)
        by_model: dict[str, list[int]] = {}
        for i, (name, _) in enumerate(calls):
            by_model.setdefault(known(name, self.models), []).append(i)
        remote = [i for name, group in by_model.items() if name in self._remote for i in group]
        asked = (self._asking.answers(calls[i][0], [calls[i][1]]) for i in remote)
        pending = asyncio.gather(*asked, return_exceptions=True)
        try:
            for name in self._local:
                if group := by_model.get(name, []):
                    requests = [calls[i][1] for i in group]
                    # beside servers in a thread, so that their calls go on meanwhile
                    compute = partial(self._compute, name, requests)
                    found = await asyncio.to_thread(compute) if remote else compute()
                    for i, answer in zip(group, found, strict=True):
                        answers[i] = answer
            for i, one in zip(remote, await pending, strict=True):
                if isinstance(one, BaseException) and not isinstance(one, ModelError):
                    raise one
                answers[i] = one if isinstance(one, ModelError) else one[0]
            return answers
        finally:
            pending.cancel()

    def _compute(self, name: str, requests: Sequence[Request]) -> list[Any]:
        """Answers of a model in process to one step's requests, batch by batch through the ledger.

        Two kinds of records: the plan (how this list of requests is cut) and each batch. A step that was recorded is
        replayed without the tokenizer or the weights.
        """
        model = self._local[name]
        if any(isinstance(r, Completion) and r.logprobs for r in requests):
            raise UserError(f"model {name!r} is in process: for log-probabilities of its answer ask it a Likelihood")
        keys = [request_key(model.fingerprint, r) for r in requests]
        plan_key = batch_key("plan", keys, model.batch_tokens)
        prepared = None
        plan = self.ledger.get(plan_key)
        if plan is None:
            prepared = model.prepare(requests)
            plan = model.plan(prepared)
            self.ledger.put(plan_key, plan, kind="plan", model=name)
        answers: list[Any] = [None] * len(requests)
        for batch in plan:
            key = batch_key("batch", [keys[i] for i in batch])
            record = self.ledger.get(key)
            known = record is not None
            if record is None:
                rows = [prepared[i] for i in batch] if prepared else model.prepare([requests[i] for i in batch])
                record = [encode(a) for a in model.answer_batch(rows)]
                purposes = [requests[i].purpose for i in batch]
                self.ledger.put(
                    key, record, kind="batch", model=name, purpose=purposes[0] if len(set(purposes)) == 1 else purposes
                )
            for row, (i, value) in enumerate(zip(batch, record, strict=True)):
                answers[i] = decode(value, key_in_batch(key, row))
                self._usage.add(name, requests[i].purpose, answers[i], from_ledger=known)
            self._in_block += len(batch)
            if self._batched:
                self._batched(0)
        return answers


def _local_models(models: Sequence[Model], batch_tokens: int, device: str) -> dict[str, LocalModel]:
    """Members in process; those with the same weights share them."""
    if not models:
        return {}
    from gra_train.chat.local import LocalModel

    loaded: dict[tuple[Any, ...], LocalModel] = {}
    result = {}
    for model in models:
        same = (model.path, model.dtype, model.revision, model.trust_remote_code)
        if same not in loaded:
            loaded[same] = LocalModel(model, batch_tokens=batch_tokens, device=device)
        result[model.name] = loaded[same]
    return result


def _remote_models(models: Sequence[Model]) -> dict[str, HttpModel]:
    if not models:
        return {}
    from gra_train.chat.http import HttpModel

    return {model.name: HttpModel(model) for model in models}


def _continuous(local: dict[str, LocalModel]) -> dict[str, ContinuousModel]:
    """Models in process as the pool sees servers; those with the same weights share one batch."""
    from gra_train.chat.continuous import ContinuousModel

    made = {id(model): ContinuousModel(model) for model in local.values()}
    return {name: made[id(model)] for name, model in local.items()}
