"""The synthesis stages: seeds (annotate D(0)), synthesize (GRA, or without review), refine (the seeds' responses anew),
shard (a part of a round's calls), distill (one model answers).

Baselines are the same functions under other settings: *unreviewed* is `synthesis.review.mode=none`; *solo* is that with
a pool of one large model and `synthesis.roles=single`. Interrupted stages start again: every completed call is in the
ledger, so nothing is asked twice, and results are the same to the byte.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from gra_train import progress
from gra_train.data.load import load
from gra_train.errors import UserError
from gra_train.records import Sample, read_samples, write_jsonl, write_samples
from gra_train.reporting.cards import write_card
from gra_train.runs import Reached, reset_metrics
from gra_train.schema import Pool
from gra_train.stages import DistillStage, RefineStage, SeedsStage, ShardStage, SynthesizeStage
from gra_train.synthesis import funnel
from gra_train.synthesis.adaptive import Experience, depends_on_previous_wave
from gra_train.synthesis.annotate import annotate, completed
from gra_train.synthesis.calls import Attempt, Call, ask_all
from gra_train.synthesis.checker import checker
from gra_train.synthesis.decontaminate import Benchmarks
from gra_train.synthesis.draw import Corpus, check_names, check_pool, number
from gra_train.synthesis.embed import encoder
from gra_train.synthesis.prompts import family
from gra_train.synthesis.recording import Recording, curated
from gra_train.synthesis.refine import refine_seeds
from gra_train.synthesis.rounds import Loop, Watch, run_rounds
from gra_train.synthesis.shards import make_shard, parse_shard

if TYPE_CHECKING:
    from gra_train.chat.pool import OpenPool

log = logging.getLogger(__name__)


def seeds(config: SeedsStage, inputs: Mapping[str, Path], out: Path) -> None:
    """Annotate the seeds -> data.jsonl (each with domain, keywords and summary), annotation.json, usage.json."""
    names = [m.name for m in config.pool.models]
    check_names(names, pool=config.pool.name)
    rows = load(config.seeds, seed=config.seed)
    tell = partial(
        annotate, seed=config.seed, models=names, family=family(config.synthesis.prompts), synthesis=config.synthesis
    )
    with (
        _pool(config.pool, config.ledger, out) as models,
        progress.task("annotation", total=len(rows), unit="seeds") as bar,
    ):
        bar.also = models.health
        stories = [partial(tell, sample=row, place=i) for i, row in enumerate(rows)]
        annotated = models.run(stories, block=config.synthesis.block, on_done=bar.advance)
    samples = [sample for sample, _ in annotated]
    report = _annotation(samples, [a for _, trace in annotated for a in trace])
    if lacking := sum(report["missing"].values()):
        log.warning(
            "%d of %d annotations could not be read from any model and are made from the seed's own text",
            lacking,
            3 * len(samples),
        )
    write_samples(out, completed(samples))
    _write_json(out / "annotation.json", report)


def synthesize(config: SynthesizeStage, inputs: Mapping[str, Path], out: Path) -> None:
    """The GRA loop over inputs["seeds"].

    -> data.jsonl (kept rows, by round and index), candidates.parquet (all, with fate), funnel.json, usage.json;
    of several rounds data-round-<k>.jsonl (the kept rows of the first k); with adaptive roles weights.jsonl (what each
    wave was drawn and weighed by).
    Raises UserError, before any work is spent, for a pool that is too small for its roles.
    """
    synthesis, annotated = config.synthesis, _annotated(config, inputs)
    Corpus.of(annotated)
    with _loop(config, out) as loop, _recording(config, out, rounds=synthesis.rounds) as (record, bar):
        bar.also = loop.health

        def on_wave(round: int, candidates: int, kept: int) -> None:
            before = sum(done.candidates for done in record.rounds)
            bar.total = _expected(before + candidates, kept, synthesis.target, synthesis.max_candidates)
            bar.note = f"round {round + 1} of {synthesis.rounds}, {kept} of {synthesis.target} rows"
            _log_metrics(
                out, {"synthesis/round": round, "synthesis/round_candidates": candidates, "synthesis/kept": kept}
            )

        watch = Watch(record.candidates, record.round, on_wave, bar.advance)
        kept = run_rounds(loop, annotated, watch, stop_after=synthesis.stop_after)
        if len(record.rounds) == synthesis.stop_after != synthesis.rounds:
            raise Reached(f"{len(record.rounds)} of {synthesis.rounds} rounds are curated (synthesis.stop_after)")
    if in_vain := sum(done.in_vain for done in record.rounds):
        log.info("%d candidates were started beyond the end of a round (synthesis.lookahead)", in_vain)
    if loop.experience:
        write_jsonl(out / "weights.jsonl", loop.experience.frozen)
    _report(config, record, out)
    if kept < synthesis.target:
        log.warning(
            "%d of %d rows were kept; funnel.json says what became of the other candidates", kept, synthesis.target
        )


def refine(config: RefineStage, inputs: Mapping[str, Path], out: Path) -> None:
    """GRA-Refine over inputs["seeds"] -> data.jsonl (seeds with new responses), candidates.parquet, funnel.json."""
    annotated = _annotated(config, inputs)
    with _loop(config, out) as loop, _recording(config, out, rounds=1) as (record, bar):
        bar.total, bar.also = len(annotated), loop.health

        def on_wave(_: int, candidates: int, kept: int) -> None:
            bar.note = f"{kept} of {candidates} seeds refined"
            _log_metrics(out, {"synthesis/round_candidates": candidates, "synthesis/kept": kept})

        refine_seeds(loop, annotated, Watch(record.candidates, on_wave=on_wave, on_done=bar.advance))
    _report(config, record, out)


def shard(config: ShardStage, inputs: Mapping[str, Path], out: Path) -> None:
    """A shard of the candidates of a round, into the ledger -> shard.json (what was made), usage.json.

    Raises UserError if the rounds before it are not curated (any more).
    """
    annotated = _annotated(config, inputs)
    rounds, rows = curated(Path(config.of))
    if len(rounds) != config.round:
        raise UserError(
            f"this is a shard of round {config.round + 1}, and {len(rounds)} rounds are curated in {config.of}: "
            "run the same command again, for the round that is due now."
        )
    number, of = parse_shard(config.shard, config.synthesis)
    with (
        _loop(config, out) as loop,
        progress.task(f"shard {number} of {of}", total=None, unit="candidates") as bar,
    ):
        bar.also = loop.health
        made = make_shard(loop, annotated, rows, rounds, shard=number, of=of, on_done=bar.advance)
    _write_json(out / "shard.json", made)


def _annotated(config: SynthesizeStage | RefineStage | ShardStage, inputs: Mapping[str, Path]) -> list[Sample]:
    """D(0), when it is clear that the pool can play all roles."""
    check_pool([m.name for m in config.pool.models], config.synthesis, pool=config.pool.name)
    return read_samples(inputs["seeds"])


@contextmanager
def _loop(config: SynthesizeStage | RefineStage | ShardStage, out: Path) -> Iterator[Loop]:
    """What all of them are made with, and the open pool behind it."""
    import pyarrow.parquet as pq

    synthesis, names = config.synthesis, [m.name for m in config.pool.models]
    curates = isinstance(config, SynthesizeStage)
    encode = encoder(synthesis.dedup.encoder) if curates else _no_encoder
    check = checker(synthesis.checker)
    adaptive = curates and depends_on_previous_wave(synthesis)
    experience = Experience(names, T_mean=synthesis.T_mean) if adaptive else None
    apart = None if isinstance(config, ShardStage) else Benchmarks.of(synthesis.decontaminate, config.benchmarks)
    with _pool(config.pool, config.ledger, out) as models:
        loop = Loop(
            config.seed, synthesis, names, family(synthesis.prompts), partial(models.stream, hold=curates), encode,
            check, models.key_of, experience, models.lockstep, models.settle, models.health, out, apart,
        )  # fmt: skip
        yield loop
        if apart and not isinstance(config, ShardStage):
            dropped = pq.read_table(out / "candidates.parquet", columns=["benchmark"])["benchmark"]
            _write_json(out / "contamination.json", apart.report(config.benchmarks, Counter(dropped.to_pylist())))


def _no_encoder(texts: Sequence[str]) -> Any:
    raise AssertionError("only curation encodes")


@contextmanager
def _recording(
    config: SynthesizeStage | RefineStage, out: Path, *, rounds: int
) -> Iterator[tuple[Recording, progress.Bar]]:
    reset_metrics(out)  # everything is told again, from the ledger: earlier lines would be there twice
    with (
        Recording(out, T_mean=config.synthesis.T_mean, rounds=rounds) as record,
        progress.task("synthesis", total=None, unit="candidates") as bar,
    ):
        yield record, bar


def _report(config: SynthesizeStage | RefineStage, record: Recording, out: Path) -> None:
    """funnel.json and its figures as metrics; the card."""
    synthesis = config.synthesis
    scoring = "none" if synthesis.review.mode == "none" else synthesis.review.scoring
    rounds = [{"round": r.number, "candidates": r.candidates, "waves": r.waves, "share": r.share, "kept": r.kept,
               "ended_by": r.ended_by} for r in record.rounds]  # fmt: skip
    names, is_checked = [m.name for m in config.pool.models], synthesis.checker != "none"
    report = funnel.render(record.counts, models=names, rounds=rounds, scoring=scoring, checked=is_checked)
    _write_json(out / "funnel.json", report)
    _log_metrics(out, {f"synthesis/{step}/{name}": value for step, row in report["steps"].items()
                       for name, value in row.items() if value is not None})  # fmt: skip
    if (out.parent / "config.yaml").is_file():  # as in every run
        write_card(out)


def _expected(candidates: int, kept: int, target: int, most: int) -> int | None:
    """Candidates that the whole synthesis will take if it goes on as it went; None before anything is kept."""
    return min(most, max(candidates, round(candidates * target / kept))) if kept else None


def distill(config: DistillStage, inputs: Mapping[str, Path], out: Path) -> None:
    """One model answers given instructions, or the seeds' own -> data.jsonl, distill.json, usage.json.

    Instructions that a seed has are left out (unless they *are* the seeds'); so are answers that cannot be read.
    """
    own = read_samples(inputs["seeds"])
    questions = own
    if config.instructions.path:
        known = {s.instruction for s in own}
        given = load(config.instructions, seed=config.seed, rows=config.rows + len(own), need_response=False)
        questions = [q for q in given if q.instruction not in known]
    questions = questions[: config.rows]
    if not questions:
        raise UserError(
            f"instructions.path={config.instructions.path!r}: every instruction is already a seed; "
            "nothing is left to answer."
        )
    prompts = family(config.synthesis.prompts)

    async def answer(ask: Any, question: Sample) -> tuple[str | None, list[Attempt]]:
        trace: list[Attempt] = []
        call = Call(
            "teacher",
            config.pool.models[0].name,
            prompts.response(question.instruction),
            partial(number, config.seed, question.id),
        )
        (text,) = await ask_all(ask, [call], synthesis=config.synthesis, trace=trace)
        return text, trace

    with (
        _pool(config.pool, config.ledger, out) as models,
        progress.task("answers", total=len(questions), unit="answers") as bar,
    ):
        bar.also = models.health
        stories = [partial(answer, question=q) for q in questions]
        answers = models.run(stories, block=config.synthesis.block, on_done=bar.advance)
    rows = [
        replace(question, response=text, source=config.pool.models[0].name)
        for question, (text, _) in zip(questions, answers, strict=True)
        if text is not None
    ]
    if len(rows) < len(questions):
        log.warning("%d of %d answers could not be read and are left out", len(questions) - len(rows), len(questions))
    write_samples(out, rows)
    counts = {"asked": len(questions), "rows": len(rows), **_outcomes([a for _, trace in answers for a in trace])}
    _write_json(out / "distill.json", counts)


@contextmanager
def _pool(settings: Pool, ledger: str, out: Path) -> Iterator[OpenPool]:
    """The open pool, servers of ours started; on a clean exit writes usage.json: what the data cost, whenever paid."""
    from gra_train.chat.pool import open_pool
    from gra_train.chat.servers import serving

    folder = Path(ledger) if ledger else out.parent / "ledger"
    with (
        serving(settings.models, out.parent) as placed,
        open_pool(
            placed, ledger=folder, batch_tokens=settings.batch_tokens, continuous=settings.continuous_batching
        ) as pool,
    ):
        yield pool
        usage = pool.usage()
        _write_json(out / "usage.json", _without(usage, {"from_ledger", "computed"}))
        pool.write_usage(out.parent / "usage.json")  # with what this attempt computed anew: differs after a resume


def _without(value: Any, names: set[str]) -> Any:
    return {k: _without(v, names) for k, v in value.items() if k not in names} if isinstance(value, dict) else value


def _outcomes(attempts: Sequence[Attempt]) -> dict[str, Any]:
    reasons: dict[str, int] = {}
    for attempt in attempts:
        if attempt.failed:
            reasons[f"{attempt.prompt}: {attempt.outcome}"] = reasons.get(f"{attempt.prompt}: {attempt.outcome}", 0) + 1
    return {
        "answers": len(attempts),
        "unparseable": sum(a.failed for a in attempts),
        "truncated": sum(a.truncated for a in attempts),
        "reasons": dict(sorted(reasons.items())),
    }


def _annotation(samples: Sequence[Sample], attempts: Sequence[Attempt]) -> dict[str, Any]:
    domains: dict[str, int] = {}
    for sample in samples:
        domains[sample.domain or "(none)"] = domains.get(sample.domain or "(none)", 0) + 1
    missing = {name: sum(not getattr(s, name) for s in samples) for name in ("domain", "keywords", "summary")}
    return {"seeds": len(samples), "domains": dict(sorted(domains.items())), "missing": missing, **_outcomes(attempts)}


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    temporary.replace(path)


def _log_metrics(out: Path, values: dict[str, float]) -> None:
    from gra_train.runs import log_metrics

    log_metrics(out, values)
