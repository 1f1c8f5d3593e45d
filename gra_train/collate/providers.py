"""Rationale providers at work: each writes rationales for instructions, through the chat layer and its ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gra_train import progress
from gra_train.chat.pool import OpenPool, open_pool
from gra_train.chat.protocol import Ask, Completion, Reply, Sampling
from gra_train.chat.usage import together
from gra_train.collate import modes
from gra_train.collate.data import Task, number
from gra_train.locate import adapter_base
from gra_train.runs import write_json
from gra_train.schema import Collate, Model, Serve
from gra_train.settings import change, plain


@dataclass(frozen=True)
class Calls:
    """How the models of a stage are called: prompt family, stories of one block, ledger folder, device.

    serve: how their servers are started (engine none: they are in process). logs: folder for what servers say, and for
    usage.json, the calls of all pools that this stage has opened.
    """

    prompts: str
    block: int
    ledger: Path
    device: str = "auto"
    serve: Serve = field(default_factory=Serve)
    logs: Path = Path()
    usage: list[dict[str, Any]] = field(default_factory=list, compare=False)

    def scoring(self) -> Calls:
        """The same for likelihoods: of servers of ours only vLLM gives them, so others are left for this process."""
        return self if self.serve.engine == "vllm" else replace(self, serve=Serve())

    @contextmanager
    def open(self, models: Sequence[Model]) -> Iterator[OpenPool]:
        """A pool of these models, servers of ours started."""
        from gra_train.chat.servers import serving

        with (
            serving([_served(model, self.serve) for model in models], self.logs) as placed,
            open_pool(placed, ledger=self.ledger, device=self.device) as pool,
        ):
            try:
                yield pool
            finally:
                self.usage.append(pool.usage())
                if self.logs != Path():
                    write_json(self.logs / "usage.json", together(self.usage))


def member(name: str, folder: Path, base: Model) -> Model:
    """The model in a stage's result folder as a pool member; dtype and trust are those of its base."""
    path = str(folder / "model")
    return Model(name=name, path=path, dtype=base.dtype, trust_remote_code=base.trust_remote_code)


def write_rationales(
    writers: Sequence[Model],
    tasks: Sequence[Task],
    *,
    calls: Calls,
    sampling: Sampling,
    seeds: Sequence[int],
    label: str = "rationales",
    prompt: Callable[[Task], str] | None = None,
) -> list[list[Reply]]:
    """Rationales in mode I -> R: the k-th of writer w for task i is found[w * len(seeds) + k][i].

    finish is "length" where one was cut at max_tokens. The sampling seed of a task depends on (seeds[k], task), not on
    its writer: writers differ by their weights alone. prompt: of a task, in place of mode I -> R.
    """

    def story(writer: Model, task: Task, seed: int) -> Any:
        async def tell(ask: Ask) -> Reply:
            text = prompt(task) if prompt else modes.rationale(calls.prompts, task.instruction)
            request = Completion(
                ({"role": "user", "content": text},),
                sampling,
                number("rationale", seed, task.id),
                purpose=f"provider/{label}",
            )
            [reply] = await ask((writer.name, request))
            return reply

        return tell

    found: list[list[Reply]] = []
    for group in _groups(writers, calls.serve):
        names, total = ", ".join(writer.name for writer in group), len(group) * len(seeds) * len(tasks)
        with calls.open(group) as pool, progress.task(f"{label} by {names}", total=total, unit="rationales") as bar:
            bar.also = pool.health
            stories = [story(writer, task, seed) for writer in group for seed in seeds for task in tasks]
            replies = pool.run(stories, block=calls.block, on_done=bar.advance)
        found += [replies[i : i + len(tasks)] for i in range(0, total, len(tasks))]
    return found


def _groups(writers: Sequence[Model], serve: Serve) -> list[list[Model]]:
    """Writers that are there at once: adapters, which one server answers for; else one after the other, so that one
    model's memory is enough."""
    if serve.engine == "vllm" and all(adapter_base(writer.path) for writer in writers):
        return [list(writers)]
    return [[writer] for writer in writers]


def _served(model: Model, serve: Serve) -> Model:
    return model if serve.engine == "none" else change(model, serve=plain(serve))


def told(reply: Reply) -> str | None:
    """What was written, stripped. None: nothing was, because the call was refused, or failed, or its prompt filled the
    window: no text that a model chose to write, so nothing that another may learn from."""
    text = reply.text.strip()
    return text if text or reply.finish == "stop" else None


def task_sampling(collate: Collate, *, temperature: float | None = None) -> Sampling:
    """How rationales are drawn: collate.temperature unless another is given."""
    return Sampling(
        temperature=collate.temperature if temperature is None else temperature,
        top_p=collate.top_p,
        max_tokens=collate.max_tokens,
    )
