"""The stages of the baselines: what each reads is in `gra_train.stages.CollateStage`, recipes in docs/baselines.md."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gra_train import progress
from gra_train.chat.protocol import Ask, Reply
from gra_train.collate import modes, work
from gra_train.collate.baselines import answering, rewarding, self_play, star
from gra_train.collate.baselines.answering import make_thinker, start_model
from gra_train.collate.data import Task, number
from gra_train.collate.sources import named, task_rows
from gra_train.collate.work import Inputs
from gra_train.locate import model_folder
from gra_train.records import PreferencePair, read_jsonl, write_jsonl
from gra_train.runs import log_metrics, write_json
from gra_train.schema import Preference
from gra_train.stages import CollateStage
from gra_train.training.rows import example, pair

log = logging.getLogger(__name__)


def direct(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """The questions, answered without a rationale (I -> A): how SFT and SPIN on answers are scored."""
    answering.answer_questions(config, inputs, out, answering.direct)


def cot(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Chain of thought: a greedy rationale, then the answer."""
    answering.answer_questions(config, inputs, out, answering.chain)


def self_consistency(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """The majority of many sampled thoughts."""
    answering.answer_questions(config, inputs, out, answering.consistent)


def tot(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Tree of thoughts, breadth-first."""
    answering.answer_questions(config, inputs, out, answering.tree)


def eot(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Exchange of thought between two instances."""
    answering.answer_questions(config, inputs, out, answering.exchanged)


def answers(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """SFT: inputs: model? (else config.model) -> model/, trained on the task data, instruction -> answer."""
    method = config.collate
    given = _tasks(config, inputs, out)
    examples = [example(modes.answer(method.prompts, t.instruction), t.answer) for t in given]
    _sft(config, inputs, out, examples, named(config, inputs, "tasks"))


def star_round(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """STaR, iteration i: inputs: model? (the start), writer? (the last iteration's result, else the start).

    -> kept.jsonl, statistics.json, model/: the start, trained on I -> R and [I;R] -> A of the rationales whose answers
    came out right.
    """
    method, own = config.collate, config.collate.baselines
    kept, given = out / "kept.jsonl", _tasks(config, inputs, out)
    if work.first_rank() and not kept.exists():
        thinker = make_thinker(config, inputs)

        def story(task: Task) -> Callable[[Ask], Awaitable[star.Tried]]:
            seed = number(config.seed, "star", config.iteration, task.id)
            return lambda ask: star.attempt(
                ask, thinker, task, seed=seed, temperature=own.temperature, hints=own.star_hints, roles=own.roles
            )

        writer = {"model": inputs["writer"]} if "writer" in inputs else inputs
        tried = _run(config, writer, out, [story(task) for task in given], "thoughts")
        _report(out, star.statistics(given, tried))
        write_jsonl(kept, [one for one in tried if one.fate != star.FAILED])
    _wait(kept)
    by_id = {task.id: task for task in given}
    examples = []
    for row in read_jsonl(kept):
        task, text = by_id[row["task_id"]], row["rationale"]
        examples.append(example(modes.rationale(method.prompts, task.instruction), text))
        examples.append(example(modes.answer_with_rationale(method.prompts, task.instruction, text), task.answer))
    _sft(config, inputs, out, examples, f"rationales of `{out.parent.name}`")


def spin(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """SPIN, iteration i: inputs: ift (whose data are played for), model (the last iteration, or M_IFT).

    -> pairs.jsonl, statistics.json, model/: DPO, chosen = gold, rejected = the model's own, reference = the model.
    """
    method = config.collate
    if work.first_rank() and not (out / "pairs.jsonl").exists():
        played = self_play.targets(config, inputs)
        thinker = make_thinker(config, inputs, few_shot=False)

        def story(task: Task, prompt: str) -> Callable[[Ask], Awaitable[Reply]]:
            async def tell(ask: Ask) -> Reply:
                seed = number(config.seed, "spin", config.iteration, task.id)
                [reply] = await thinker.write(
                    ask, [prompt], seed=seed, temperature=method.baselines.temperature, purpose="own"
                )
                return reply

            return tell

        replies = _run(config, inputs, out, [story(task, prompt) for task, prompt, _ in played], "own outputs")
        found, counts = self_play.pairs(played, replies)
        _report(out, counts)
        write_jsonl(out / "pairs.jsonl", found)
    _dpo(config, method.stage2, inputs["model"], out)


def self_rewarding(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Self-Rewarding, iteration i: inputs: model (the last iteration, or M_IFT).

    -> judged.jsonl, pairs.jsonl, statistics.json, model/: DPO of the best against the worst of its own rationales, by
    its own judgement; reference = the model.
    """
    method, own = config.collate, config.collate.baselines
    if work.first_rank() and not (out / "pairs.jsonl").exists():
        given = _tasks(config, inputs, out)
        thinker = make_thinker(config, inputs, few_shot=False)

        def story(task: Task) -> Callable[[Ask], Awaitable[rewarding.Judged]]:
            seed = number(config.seed, "self-rewarding", config.iteration, task.id)
            return lambda ask: rewarding.compete(
                ask, thinker, task, seed=seed, candidates=own.candidates, temperature=own.temperature, roles=own.roles
            )

        judged = _run(config, inputs, out, [story(task) for task in given], "judgements")
        prompts = [modes.rationale(method.prompts, task.instruction) for task in given]
        found, counts = rewarding.pairs(judged, prompts)
        _report(out, counts)
        write_jsonl(out / "judged.jsonl", judged)
        write_jsonl(out / "pairs.jsonl", found)
    _dpo(config, method.stage3, inputs["model"], out)


def _tasks(config: CollateStage, inputs: Inputs, out: Path) -> list[Task]:
    """The task data; what was left out of them is written by the first rank."""
    return task_rows(config, inputs, out if work.first_rank() else None)


def _run(config: CollateStage, inputs: Inputs, out: Path, stories: Sequence[Any], unit: str) -> list[Any]:
    """The stories' results, told by inputs["model"] (else config.model)."""
    with (
        work.calls(config, out).open([start_model(config, inputs)]) as pool,
        progress.task(unit, total=len(stories), unit="tasks") as bar,
    ):
        return pool.run(stories, block=config.collate.block, on_done=bar.advance)


def _report(out: Path, counts: Mapping[str, Any]) -> None:
    write_json(out / "statistics.json", counts)
    log_metrics(out, {f"baseline/{name}": value for name, value in counts.items() if isinstance(value, int | float)})


def _sft(config: CollateStage, inputs: Inputs, out: Path, examples: list[dict[str, Any]], data: str) -> None:
    """Fine-tune inputs["model"] (else config.model) with collate.answerer; without an example it is passed on.

    data: how the card calls the examples."""
    from gra_train.training.sft import train_sft

    if not examples:
        _pass_on(config, model_folder(_path(config, inputs)), out, "examples")
        return
    base = inputs["model"].parent.name if "model" in inputs else config.model.name or config.model.path
    train_sft(_path(config, inputs), examples, config.collate.answerer, out=out, seed=config.seed,
              place=work.place(config), base=base, data=data, trust_remote_code=config.model.trust_remote_code,
              revision=config.model.revision)  # fmt: skip


def _dpo(config: CollateStage, train: Preference, start: Path, out: Path) -> None:
    """DPO on out/pairs.jsonl from the model of `start`, which is also the reference; without a pair it is passed on."""
    from gra_train.training.dpo import train_dpo

    _wait(out / "pairs.jsonl")
    found = [PreferencePair.from_dict(row) for row in read_jsonl(out / "pairs.jsonl")]
    if not found:
        _pass_on(config, str(start / "model"), out, "preference pairs")
        return
    examples = [pair(one.prompt, one.chosen, one.rejected) for one in found]
    train_dpo(
        str(start / "model"), examples, train, out=out, seed=number(config.seed, config.iteration),
        place=work.place(config), beta=config.collate.beta, loss=config.collate.loss, base=start.parent.name,
        data=f"pairs of `{out.parent.name}`", trust_remote_code=config.model.trust_remote_code,
    )  # fmt: skip


def _pass_on(config: CollateStage, folder: str, out: Path, what: str) -> None:
    log.warning("iteration %d has no %s: the model is passed on unchanged", config.iteration, what)
    if work.first_rank():
        shutil.copytree(folder, out / "model", dirs_exist_ok=True)
        write_json(out / "training.json", {"examples": 0, "overlong": 0, "steps": 0})


def _path(config: CollateStage, inputs: Inputs) -> str:
    return str(inputs["model"] / "model") if "model" in inputs else config.model.path


def _wait(file: Path) -> None:
    """The other ranks wait for what the first one writes; no collective, so no time limit."""
    while not file.exists():
        time.sleep(0.5)
