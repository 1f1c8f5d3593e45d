"""The stages of COLLATE (arXiv 2506.02519): what each reads is in `gra_train.stages.CollateStage`."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from gra_train.collate import modes
from gra_train.collate.data import Task, number, parts, split, tasks
from gra_train.collate.merit import mean_per_token, score
from gra_train.collate.pairs import leaks, make_pairs, statistics
from gra_train.collate.providers import Calls, member, task_sampling, write_rationales
from gra_train.errors import UserError
from gra_train.records import PreferencePair, Rationale, read_jsonl, write_jsonl
from gra_train.runs import log_metrics, read_json, write_json
from gra_train.schema import Preference, Train
from gra_train.stages import CollateStage
from gra_train.training.arguments import Place
from gra_train.training.rows import example, pair

log = logging.getLogger(__name__)
Inputs = Mapping[str, Path]
SCORER = "M_IFT"


def ift(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Stage 1, multi-mode SFT -> model/ (M_IFT), splits.json, modes.json (examples of each mode).

    Rows with a rationale train I -> R, [I;R] -> A and (an option) I -> A; rows without one train I -> A alone.
    Validation rows, kept to pick a provider by, train nothing.
    """
    method = config.collate
    given = tasks(method.rationale_data, seed=config.seed, need_rationale=True)
    train, validation = split(given, method.validation_rows, config.seed)
    plain = tasks(method.answer_data, seed=config.seed) if method.answer_data.path else []
    family = method.prompts
    rationales = [example(modes.rationale(family, t.instruction), t.rationale) for t in train]
    informed = [example(modes.answer_with_rationale(family, t.instruction, t.rationale), t.answer) for t in train]
    bare = [*(train if method.answers_from_rationale_rows else []), *plain]
    direct = [example(modes.answer(family, t.instruction), t.answer) for t in bare]
    if _first_rank():
        write_json(out / "splits.json", {"train": [t.id for t in train], "validation": [t.id for t in validation]})
        write_json(out / "modes.json", {"I->R": len(rationales), "[I;R]->A": len(informed), "I->A": len(direct)})
    _sft(config, method.ift, inputs, out, [*rationales, *informed, *direct])


def distinct(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Stage 2 for provider s -> model/ (RP_s(0)), pairs.jsonl, statistics.json.

    A clone of M_IFT writes its own rationale for each instruction of its own part of the rationale data; DPO with
    chosen = gold rationale, rejected = its own, reference = M_IFT. Distinctness comes from the parts alone.
    """
    method = config.collate
    if _first_rank() and not (out / "pairs.jsonl").exists():
        given = tasks(method.rationale_data, seed=config.seed, need_rationale=True)
        names = set(read_json(inputs["ift"] / "splits.json")["train"])
        mine = parts([t for t in given if t.id in names], method.providers, config.seed)[config.provider]
        replies = write_rationales(
            member(SCORER, inputs["ift"], config.model),
            mine,
            calls=_calls(config, out),
            sampling=task_sampling(method, temperature=method.stage2_temperature),
            seed=number(config.seed, "own", config.provider),
            label="own rationales",
        )
        prompts = [modes.rationale(method.prompts, t.instruction) for t in mine]
        found = [
            PreferencePair(task.id, prompt, task.rationale, reply.text.strip())
            for task, prompt, reply in zip(mine, prompts, replies, strict=True)
            if reply.text.strip() != task.rationale
        ]
        cut = fmean(reply.finish == "length" for reply in replies)
        counts = {"rows": len(mine), "pairs": len(found), "equal": len(mine) - len(found), "truncated_share": cut}
        write_json(out / "statistics.json", counts)
        log_metrics(out, {f"pairs/{name}": value for name, value in counts.items()})
        write_jsonl(out / "pairs.jsonl", found)
    _tune(config, method.stage2, inputs["ift"], out, out / "pairs.jsonl")


def merit(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Stage 3, first half of iteration i -> rationales.jsonl, pairs_<s>.jsonl for every provider, statistics.json.

    Every provider writes one rationale for each task; frozen M_IFT scores them by the likelihood of the gold answer;
    best against worst is a pair of the provider whose part the task is in, whoever wrote them.
    """
    method = config.collate
    writers = _writers(inputs)
    given = tasks(method.task_data, seed=config.seed)
    calls = _calls(config, out)
    written = [
        write_rationales(
            member(name, folder, config.model),
            given,
            calls=calls,
            sampling=task_sampling(method),
            seed=number(config.seed, "task", config.iteration),
        )
        for name, folder in writers.items()
    ]
    texts = [[replies[i].text.strip() for replies in written] for i in range(len(given))]
    scored = score(member(SCORER, inputs["ift"], config.model), given, texts, calls=calls)
    prompts = [modes.rationale(method.prompts, t.instruction) for t in given]
    pairs, fates = make_pairs(given, texts, scored, prompts, filter=method.filter)
    names, answers = list(writers), {t.id: t.answer for t in given}
    report = statistics(pairs, fates, answers, names) | {
        "mean_log_likelihood_per_token": {"none": mean_per_token(scored, None)}
        | {name: mean_per_token(scored, s) for s, name in enumerate(names)},
        "leak_rate": fmean(leaks(text, task.answer) for task, own in zip(given, texts, strict=True) for text in own),
        "truncated_share": fmean(reply.finish == "length" for replies in written for reply in replies),
        "agreement": fmean(len(set(own)) == 1 for own in texts),
    }
    write_jsonl(
        out / "rationales.jsonl",
        (
            Rationale(task.id, name, own[s], found.candidates[s])
            for task, own, found in zip(given, texts, scored, strict=True)
            for s, name in enumerate(names)
        ),
    )
    redrawn = config.iteration if method.redraw_splits else 0
    for s, part in enumerate(parts(given, method.providers, number(config.seed, "tasks", redrawn))):
        ids = {t.id for t in part}
        write_jsonl(out / f"pairs_{s}.jsonl", [p for p in pairs if p.task_id in ids])
    write_json(out / "statistics.json", report)
    log_metrics(out, {f"pairs/{name}": report[name] for name in ("tasks", "pairs", "kept_share", "leak_rate")})


def tune(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Stage 3, second half: provider s learns from the pairs of its part; reference = RP_s(i-1) -> model/ (RP_s(i))."""
    _tune(config, config.collate.stage3, inputs["provider"], out, inputs["merit"] / f"pairs_{config.provider}.jsonl")


def rationales(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Pick the provider whose rationales make the validation answers likeliest under M_IFT, and let it write one for
    every instruction of the task's train and test set -> train.jsonl, test.jsonl, pick.json.

    With M_IFT as the only provider these are M_IFT's own rationales (Distilling Step-by-Step).
    """
    from gra_train.evaluation.questions import questions

    method = config.collate
    writers = _writers(inputs)
    calls = _calls(config, out)

    def write(name: str, on: Sequence[Task], what: str) -> list[str]:
        replies = write_rationales(
            member(name, writers[name], config.model),
            on,
            calls=calls,
            sampling=task_sampling(method),
            seed=number(config.seed, what),
            label=f"{what} rationales",
        )
        return [reply.text.strip() for reply in replies]

    given = tasks(method.rationale_data, seed=config.seed, need_rationale=True)
    kept = set(read_json(inputs["ift"] / "splits.json")["validation"])
    validation = [t for t in given if t.id in kept]
    texts = [write(name, validation, "validation") for name in writers]
    scored = score(member(SCORER, inputs["ift"], config.model), validation, list(zip(*texts, strict=True)), calls=calls)
    means = {name: mean_per_token(scored, s) for s, name in enumerate(writers)}
    pick = max(means, key=lambda name: means[name])
    shown = means | {"none": mean_per_token(scored, None)}
    write_json(out / "pick.json", {"pick": pick, "mean_log_likelihood_per_token": shown})
    log_metrics(out, {f"validation/{name}": value for name, value in means.items()})

    train = tasks(method.task_data, seed=config.seed)
    write_jsonl(
        out / "train.jsonl",
        (t.to_dict() | {"rationale": text} for t, text in zip(train, write(pick, train, "train"), strict=True)),
    )
    asked = questions(config.evaluation)
    held_out = [Task(f"{q['task']}/{q['question_id']}", q["instruction"], q["gold"]) for q in asked]
    write_jsonl(
        out / "test.jsonl",
        (
            q | {"rationale": text}
            for q, text in zip(asked, write(pick, held_out, "test") if asked else [], strict=True)
        ),
    )


def answerer(config: CollateStage, inputs: Inputs, out: Path) -> None:
    """Evaluation protocol 1: SFT of the base M on instruction + the picked provider's rationale -> answer -> model/."""
    method = config.collate
    rows = [Task.from_dict(row) for row in read_jsonl(inputs["rationales"] / "train.jsonl")]
    examples = [
        example(modes.answer_with_rationale(method.prompts, t.instruction, t.rationale), t.answer) for t in rows
    ]
    _sft(config, method.answerer, inputs, out, examples)


def _sft(config: CollateStage, train: Train, inputs: Inputs, out: Path, examples: list[dict[str, Any]]) -> None:
    """Fine-tune the arm's student (inputs: model) or the base."""
    from gra_train.training.sft import train_sft

    start = str(inputs["model"] / "model") if "model" in inputs else config.model.path
    base = inputs["model"].parent.name if "model" in inputs else config.model.name or config.model.path
    train_sft(start, examples, train, out=out, seed=config.seed, place=_place(config), base=base,
              trust_remote_code=config.model.trust_remote_code)  # fmt: skip


def _tune(config: CollateStage, train: Preference, start: Path, out: Path, file: Path) -> None:
    """DPO from the model of `start`, which is also the reference. Without a pair the model stays as it is."""
    from gra_train.training.dpo import train_dpo

    while not file.exists():  # the other ranks wait for the first one's pairs; no collective, so no time limit
        time.sleep(0.5)
    found = [PreferencePair.from_dict(row) for row in read_jsonl(file)]
    if not found:
        log.warning("provider %d has no preference pairs: its model is passed on unchanged", config.provider)
        if _first_rank():
            shutil.copytree(start / "model", out / "model", dirs_exist_ok=True)
            write_json(out / "training.json", {"examples": 0, "overlong": 0, "steps": 0})
        return
    train_dpo(
        str(start / "model"),
        [pair(p.prompt, p.chosen, p.rejected) for p in found],
        train,
        out=out,
        seed=number(config.seed, config.provider, config.iteration),
        place=_place(config),
        beta=config.collate.beta,
        loss=config.collate.loss,
        base=start.parent.name,
        trust_remote_code=config.model.trust_remote_code,
    )


def _writers(inputs: Inputs) -> dict[str, Path]:
    """provider_0, provider_1, ... -> RP_0, RP_1, ... in order."""
    found = sorted((int(name.removeprefix("provider_")), path) for name, path in inputs.items() if name != "ift")
    if not found:
        raise UserError("this stage of COLLATE needs providers: inputs provider_0, provider_1, ...")
    return {f"RP_{s}": path for s, path in found}


def _calls(config: CollateStage, out: Path) -> Calls:
    ledger = Path(config.ledger) if config.ledger else out.parent / "ledger"
    return Calls(config.collate.prompts, config.collate.block, ledger, config.device)


def _place(config: CollateStage) -> Place:
    return Place(config.device, config.ranks, config.deepspeed)


def _first_rank() -> bool:
    return os.environ.get("RANK", "0") == "0"
