"""The stages of COLLATE that train (arXiv 2506.02519); what each reads is in `gra_train.stages.CollateStage`.

Those that only write and score rationales are in guided.py.
"""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from gra_train.collate import modes, work
from gra_train.collate.data import Task, number, parts, split, tasks
from gra_train.collate.losses import losses_by_mode
from gra_train.collate.providers import member, task_sampling, told, write_rationales
from gra_train.collate.sources import clean, named, rationale_rows
from gra_train.collate.work import SCORER, Inputs
from gra_train.errors import UserError
from gra_train.records import PreferencePair, read_jsonl, write_jsonl
from gra_train.runs import log_metrics, read_json, write_json
from gra_train.schema import Preference, Train
from gra_train.stages import CollateStage
from gra_train.training.rows import example, pair

log = logging.getLogger(__name__)
SOURCES = ("rationales", "answers")
"""What stage 1 learns from."""


def ift(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Stage 1, multi-mode SFT -> model/ (M_IFT), splits.json, modes.json (examples of each mode), losses.json.

    Rows with a rationale train I -> R, [I;R] -> A and (an option) I -> A; rows without one train I -> A alone.
    Validation rows, kept to pick a provider by, train nothing; losses.json has each mode's loss on them.
    """
    method = config.collate
    given = rationale_rows(config, inputs)
    plain = tasks(method.answer_data, seed=config.seed) if method.answer_data.path else []
    given, plain = _clean(config, given, plain, out)
    train, validation = split(given, method.validation_rows, config.seed)
    family = method.prompts
    rationales = [example(modes.rationale(family, t.instruction), t.rationale) for t in train]
    informed = [example(modes.answer_with_rationale(family, t.instruction, t.rationale), t.answer) for t in train]
    bare = [*(train if method.answers_from_rationale_rows else []), *plain]
    direct = [example(modes.answer(family, t.instruction), t.answer) for t in bare]
    if work.first_rank():
        write_json(out / "splits.json", {"train": [t.id for t in train], "validation": [t.id for t in validation]})
        write_json(out / "modes.json", {"I->R": len(rationales), "[I;R]->A": len(informed), "I->A": len(direct)})
    _sft(config, method.ift, inputs, out, [*rationales, *informed, *direct], named(config, inputs, *SOURCES))
    if work.first_rank():
        start = inputs["model"] / "model" if "model" in inputs else config.model.path
        found = losses_by_mode(
            {"before": str(start), SCORER: str(out / "model")},
            validation,
            config.model,
            calls=work.calls(config, out, served=False),
        )
        write_json(out / "losses.json", found)
        known = {mode: loss for mode, loss in found["loss"][SCORER].items() if loss is not None}
        log_metrics(out, {f"validation_loss/{mode}": loss for mode, loss in known.items()})


def distinct(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Stage 2 for provider s -> model/ (RP_s(0)), pairs.jsonl, statistics.json.

    A clone of M_IFT writes its own rationale for each instruction of its own part of the rationale data; DPO with
    chosen = gold rationale, rejected = its own, reference = M_IFT. Distinctness comes from the parts alone.
    """
    method = config.collate
    if work.first_rank() and not (out / "pairs.jsonl").exists():
        given = rationale_rows(config, inputs)
        names = set(read_json(inputs["ift"] / "splits.json")["train"])
        learned = [t for t in given if t.id in names]
        mine = parts(learned, method.providers, config.seed, by=method.split)[config.provider]
        if not mine:
            raise UserError(
                f"collate.providers={method.providers}, but {len(learned)} rows of the rationale data are there to "
                f"learn from, {len(given) - len(learned)} are for validation: provider {config.provider} has none. "
                "Lower collate.providers or collate.validation_rows, or give more data."
            )
        [replies] = write_rationales(
            [member(SCORER, inputs["ift"], config.model)],
            mine,
            calls=work.calls(config, out),
            sampling=task_sampling(method, temperature=method.stage2_temperature),
            seeds=[number(config.seed, "own", config.provider)],
            label="own rationales",
        )
        prompts = [modes.rationale(method.prompts, t.instruction) for t in mine]
        own = [told(reply) for reply in replies]
        found = [
            PreferencePair(task.id, prompt, task.rationale, text)
            for task, prompt, text in zip(mine, prompts, own, strict=True)
            if text is not None and text != task.rationale
        ]
        equal = sum(text == task.rationale for task, text in zip(mine, own, strict=True))
        cut = fmean(reply.finish == "length" for reply in replies)
        counts = {"rows": len(mine), "pairs": len(found), "equal": equal, "truncated_share": cut}
        if failed := own.count(None):
            log.warning("provider %d: %d of %d rationales failed: no pairs of them", config.provider, failed, len(own))
            counts["failed"] = failed
        write_json(out / "statistics.json", counts)
        log_metrics(out, {f"pairs/{name}": value for name, value in counts.items()})
        write_jsonl(out / "pairs.jsonl", found)
    _tune(config, method.stage2, inputs["ift"], out, out / "pairs.jsonl", f"pairs of `{out.parent.name}`")


def tune(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Stage 3, second half: provider s learns from the pairs of its part; reference = RP_s(i-1) -> model/ (RP_s(i))."""
    file = inputs["merit"] / f"pairs_{config.provider}.jsonl"
    _tune(config, config.collate.stage3, inputs["provider"], out, file, f"pairs of `{inputs['merit'].parent.name}`")


def answerer(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Evaluation protocol 1: SFT of the base M on instruction + the picked provider's rationale -> answer -> model/."""
    method = config.collate
    rows = [Task.from_dict(row) for row in read_jsonl(inputs["rationales"] / "train.jsonl")]
    examples = [
        example(modes.answer_with_rationale(method.prompts, t.instruction, t.rationale), t.answer) for t in rows
    ]
    _sft(config, method.answerer, inputs, out, examples, f"rationales of `{inputs['rationales'].parent.name}`")


def _clean(config: CollateStage, given: list[Task], plain: list[Task], out: Path) -> tuple[list[Task], list[Task]]:
    """Rationale and answer data without what overlaps with a benchmark."""
    other = [replace(t, id=f"answers-{t.id}") for t in plain]  # ids of two files, in one report
    kept = clean(config, [*given, *other], out if work.first_rank() else None)
    names = {t.id for t in kept}
    return [t for t in given if t.id in names], [t for t in other if t.id in names]


def _sft(
    config: CollateStage, train: Train, inputs: Inputs, out: Path, examples: list[dict[str, Any]], data: str
) -> None:
    """Fine-tune the arm's student (inputs: model) or the base. data: how the card calls the examples."""
    from gra_train.training.sft import train_sft

    start = str(inputs["model"] / "model") if "model" in inputs else config.model.path
    base = inputs["model"].parent.name if "model" in inputs else config.model.name or config.model.path
    train_sft(start, examples, train, out=out, seed=config.seed, place=work.place(config), base=base, data=data,
              trust_remote_code=config.model.trust_remote_code, revision=config.model.revision)  # fmt: skip


def _tune(config: CollateStage, train: Preference, start: Path, out: Path, file: Path, data: str) -> None:
    """DPO from the model of `start`, which is also the reference. Without a pair the model stays as it is.

    data: how the card calls the pairs."""
    from gra_train.training.dpo import train_dpo

    while not file.exists():  # the other ranks wait for the first one's pairs; no collective, so no time limit
        time.sleep(0.5)
    found = [PreferencePair.from_dict(row) for row in read_jsonl(file)]
    if not found:
        log.warning("provider %d has no preference pairs: its model is passed on unchanged", config.provider)
        if work.first_rank():
            shutil.copytree(start / "model", out / "model", dirs_exist_ok=True)
            write_json(out / "training.json", {"examples": 0, "overlong": 0, "steps": 0})
        return
    train_dpo(
        str(start / "model"),
        [pair(p.prompt, p.chosen, p.rejected) for p in found],
        train,
        out=out,
        seed=number(config.seed, config.provider, config.iteration),
        place=work.place(config),
        beta=config.collate.beta,
        loss=config.collate.loss,
        base=start.parent.name,
        data=data,
        trust_remote_code=config.model.trust_remote_code,
    )
