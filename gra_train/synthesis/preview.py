"""`gra-train preview [options] [name=value ...]`: a few candidates, told in full.

  n=5             candidates
  annotate=200    seeds that are annotated at most; with fewer than all, a run draws other examples
  --html FILE     also as a page

Every prompt as it is sent and every answer as it is read, by the real models through the ledger. The candidates are
the run's own first ones wherever that is affordable (see `corpus`), so a later run does not ask for them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gra_train.chat.protocol import Ask, Reply, Request, TokenLogProbs
from gra_train.errors import UserError
from gra_train.experiment import Node, synthesis_only
from gra_train.records import Sample, read_samples
from gra_train.schema import Config
from gra_train.synthesis.annotate import annotate, completed
from gra_train.synthesis.calls import Attempt
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.draw import Corpus, draw
from gra_train.synthesis.prompts import family
from gra_train.synthesis.story import synthesise


@dataclass(frozen=True)
class Exchange:
    """One call: what was asked of whom, the answer, and how it was read."""

    model: str
    request: Request
    answer: Reply | TokenLogProbs
    attempt: Attempt


@dataclass(frozen=True)
class Preview:
    """seed: the first annotation made here, with its calls (None: nothing was annotated).

    notes: what a reader must know. usage: see chat.usage.
    """

    seed: tuple[Sample, list[Exchange]] | None
    candidates: list[tuple[Candidate, list[Exchange]]]
    notes: list[str]
    usage: dict[str, Any]


def preview(config: Config, *, count: int, annotate_at_most: int) -> Preview:
    """Tell the first `count` candidates of round 0. Raises UserError as a run would, before a model is asked."""
    from gra_train.chat.pool import open_pool
    from gra_train.chat.servers import serving

    seeds_node, synthesis_node = synthesis_only(config)[-2:]
    stage = synthesis_node.config
    synthesis, names = stage.synthesis, [m.name for m in stage.pool.models]
    continuous = stage.pool.continuous_batching
    local = any(not m.url and not m.serve for m in stage.pool.models)
    notes: list[str] = []
    if local:
        from transformers.utils import logging

        logging.disable_progress_bar()
    with (
        serving(stage.pool.models, Path(config.runs_dir) / "preview") as placed,
        open_pool(
            placed, ledger=Path(stage.ledger), batch_tokens=stage.pool.batch_tokens, continuous=continuous
        ) as models,
    ):
        samples, first = corpus(seeds_node, Path(config.runs_dir), models, annotate_at_most, notes)
        grown = Corpus.of(samples)
        told = count
        if models.lockstep:  # in process the ledger's unit is a batch of a block: a whole block is what a run can reuse
            told = min(synthesis.wave, -(-count // synthesis.block) * synthesis.block)
            notes.append(
                f"models in process answer in blocks: {told} candidates were told (synthesis.block={synthesis.block}), "
                f"{min(count, told)} are shown"
            )
        draws = [draw(stage.seed, 0, i, models=names, corpus=grown, synthesis=synthesis) for i in range(told)]
        stories = [partial(_candidate, one=d, synthesis=synthesis) for d in draws]
        candidates = models.run(stories, block=synthesis.block)[:count]
        return Preview(first, candidates, notes, models.usage())


def corpus(
    node: Node, runs_dir: Path, models: Any, at_most: int, notes: list[str]
) -> tuple[list[Sample], tuple[Sample, list[Exchange]] | None]:
    """(annotated seeds to draw examples from, the first annotation that was made here).

    A finished annotation is read. Else the first `at_most` seeds are annotated here, by the run's own calls. Where that
    is all of them, the candidates are the run's own; else the run will draw other examples, and `notes` says so.
    """
    from gra_train.data.load import load

    if node.run(runs_dir).is_done():
        return read_samples(node.run(runs_dir).result), None
    config = node.config
    rows = load(config.seeds, seed=config.seed)
    chosen = rows[:at_most]
    names = [m.name for m in config.pool.models]
    tell = partial(
        _annotation, seed=config.seed, models=names, family=family(config.synthesis.prompts), synthesis=config.synthesis
    )
    stories = [partial(tell, sample=row, place=i) for i, row in enumerate(chosen)]
    annotated = models.run(stories, block=config.synthesis.block)
    if len(chosen) < len(rows):
        notes.append(
            f"examples are drawn from the first {len(chosen)} of {len(rows)} seeds: a run asks nothing of these "
            "annotations again, but draws other candidates (annotate=N raises the number)"
        )
    samples = completed([sample for sample, _ in annotated])
    asked = next((calls for _, calls in annotated if calls), None)
    return samples, None if asked is None else (samples[0], asked)


def _listening(ask: Ask, heard: list[tuple[str, Request, Any]]) -> Ask:
    async def listen(*requests: tuple[str, Request]) -> list[Any]:
        answers = await ask(*requests)
        heard.extend((model, request, answer) for (model, request), answer in zip(requests, answers, strict=True))
        return answers

    return listen


async def _candidate(ask: Ask, *, one: Any, synthesis: Any) -> tuple[Candidate, list[Exchange]]:
    heard: list[tuple[str, Request, Any]] = []
    made = await synthesise(_listening(ask, heard), one, family=family(synthesis.prompts), synthesis=synthesis)
    return made, _exchanges(heard, made.attempts)


async def _annotation(ask: Ask, **arguments: Any) -> tuple[Sample, list[Exchange]]:
    heard: list[tuple[str, Request, Any]] = []
    sample, attempts = await annotate(_listening(ask, heard), **arguments)
    return sample, _exchanges(heard, attempts)


def _exchanges(heard: Sequence[tuple[str, Request, Any]], attempts: Sequence[Attempt]) -> list[Exchange]:
    """Attempts are written in the order of the answers."""
    return [Exchange(*one, attempt) for one, attempt in zip(heard, attempts, strict=True)]


def main(words: Sequence[str]) -> int:
    """The command. Returns an exit code; raises UserError."""
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    from gra_train.compose import compose
    from gra_train.synthesis.preview_view import show

    options, rest = {"n": "5", "annotate": "200", "html": ""}, []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, _, value = word.partition("=")
        if word == "--html":
            value = queue.pop(0) if queue else ""
        if name.removeprefix("--") in options:
            options[name.removeprefix("--")] = value
        else:
            rest.append(word)
    if "--html" in words and not options["html"]:
        raise UserError("--html needs the name of a file, e.g. --html preview.html")
    counts = {name: options[name] for name in ("n", "annotate")}
    for name, value in counts.items():
        if not value.isdigit() or not int(value):
            raise UserError(f"preview {name}={value}: expected a number from 1")
    config = compose(rest)
    made = preview(config, count=int(options["n"]), annotate_at_most=int(options["annotate"]))
    show(made, Path(options["html"]) if options["html"] else None)
    return 0
