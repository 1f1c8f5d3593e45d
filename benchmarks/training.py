"""Training steps: our layer beside bare TRL, and our defaults beside TRL's.

    python benchmarks/training.py                 everything, writes training.md (about ten minutes on an idle core)
    python benchmarks/training.py --quick         three pairs of a few steps each, writes nothing

Same settings: the same model, rows per step, precision, optimiser and schedule, no length grouping, references computed
before; only the layer differs. The sides take turns in pairs, the first of a pair changes; reported is the median of
the pairs' ratios (TRL's time per step over ours, above 1: ours is faster) with a 95% interval by bootstrap.

Defaults: TRL's with use_cpu=True and float32, ours with float32, on rows of mixed length; useful tokens (padding left
out) per second, as ratios to TRL's. Each cause alone: what TRL gains when it is given that one thing.

The first two steps of a training are not timed: they compile and allocate.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from goals import Goal, table

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRL_EXPERIMENTAL_SILENCE": "1"}
HERE = Path(__file__).parent
WARM = 2
SAME, FREE = 0.98, 1.3
"""Goals for the median ratios: the same settings, and defaults against defaults."""
ROWS = 8
"""Rows, or pairs, of one step: TRL's default batch."""

Row = dict[str, Any]


def rows_of(vocabulary: int, count: int, *, pairs: bool, mixed: bool, seed: int = 0) -> list[Row]:
    """Tokenised rows of random ids: prompts and completions of 24 tokens, or, mixed, lognormal, 4 to 400."""
    import numpy as np

    rng = np.random.default_rng(seed)

    def ids(mean: int) -> Any:
        n = int(np.clip(rng.lognormal(np.log(mean), 0.9), 4, 400)) if mixed else mean
        return rng.integers(5, vocabulary, n).astype(np.int32)

    sides = ("chosen_ids", "rejected_ids") if pairs else ("completion_ids",)
    return [{"prompt_ids": ids(24), **{side: ids(24) for side in sides}} for _ in range(count)]


def save_model(folder: Path, *, width: int, layers: int, vocabulary: int) -> str:
    """A random Llama with the miniature's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from gra_train.locate import model_folder

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 32,
        num_key_value_heads=width // 32, intermediate_size=3 * width, max_position_embeddings=1024, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_folder("mini:wren")).save_pretrained(folder)
    return str(folder)


class Clock:
    """Seconds per step, and useful tokens per second, of a trainer that it is added to."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def callback(self) -> Any:
        from transformers import TrainerCallback

        clock = self

        class Callback(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                clock.at.append(time.perf_counter())

        return Callback()

    @property
    def seconds(self) -> float:
        return (self.at[-1] - self.at[WARM - 1]) / (len(self.at) - WARM)


def ours(model: str, rows: Sequence[Row], *, pairs: bool, steps: int, **changes: Any) -> float:
    """Seconds per step of our whole layer."""
    from gra_train.schema import Preference
    from gra_train.training import fit, models
    from gra_train.training.arguments import Place, preference_arguments, preference_config, sft_arguments

    train = Preference(
        steps=steps, global_batch=ROWS, device_batch=ROWS, lr=1e-4, max_length=1024, dtype="float32", **changes
    )
    place = Place("cpu")
    with tempfile.TemporaryDirectory() as root, fit.fresh(place, 0):
        out = Path(root) / "run" / "work-1"
        out.mkdir(parents=True)
        common: dict[str, Any] = {"folder": out.parent / "checkpoints", "seed": 0}
        network, tokenizer = models.load(model)
        clock = Clock()
        if pairs:
            from gra_train.training.preferences import Dpo

            args = preference_config("sigmoid")(
                **preference_arguments(train, place, beta=0.1, loss="sigmoid", **common)
            )
            trainer = Dpo(network, tokenizer, args)
            rows = [dict(row) for row in rows]
            trainer.add_references(rows, folder=Path(root))
        else:
            from trl import SFTConfig

            from gra_train.training.trainers import Sft

            trainer = Sft(network, tokenizer, SFTConfig(**sft_arguments(train, place, **common)))
        trainer.use(rows, seed=0, batch=ROWS, by_length=train.group_by_length)
        trainer.add_callback(clock.callback())
        fit.fit(trainer, train, out=out, label="benchmark", facts={})
    return clock.seconds


def trl(model: str, rows: Sequence[Row], *, pairs: bool, steps: int, **arguments: Any) -> float:
    """Seconds per step of TRL's own trainer on the same rows."""
    import torch
    import transformers
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    from gra_train.training import fit
    from gra_train.training.arguments import Place

    clock = Clock()
    with tempfile.TemporaryDirectory() as root, fit.fresh(Place("cpu"), 0):
        shared = {"output_dir": root, "use_cpu": True, "bf16": False, "max_steps": steps, "learning_rate": 1e-4,
                  "per_device_train_batch_size": ROWS, "max_length": 1024, "save_strategy": "no", "report_to": "none",
                  "disable_tqdm": True}  # fmt: skip
        network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(model)
        if pairs:
            data = [{name: ids.tolist() for name, ids in row.items()} for row in rows]

            class Tokenised(DPOTrainer):  # the rows are tokens already
                def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
                    return dataset

            trainer = Tokenised(
                network,
                args=DPOConfig(**shared | arguments),
                train_dataset=Dataset.from_list(data),
                processing_class=tokenizer,
            )
        else:
            data = [_sft_columns(row) for row in rows]
            trainer = SFTTrainer(
                network, args=SFTConfig(**shared | arguments), train_dataset=Dataset.from_list(data),
                processing_class=tokenizer,
            )  # fmt: skip
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.add_callback(clock.callback())
        trainer.train()
    return clock.seconds


def _sft_columns(row: Row) -> Row:
    prompt, completion = row["prompt_ids"].tolist(), row["completion_ids"].tolist()
    return {"input_ids": prompt + completion, "completion_mask": [0] * len(prompt) + [1] * len(completion)}


def tokens_per_step(rows: Sequence[Row]) -> float:
    """Useful tokens of one step: mean of a row, or of both sides of a pair."""
    sides = [name for name in rows[0] if name != "prompt_ids" and name.endswith("_ids")]
    return ROWS * sum(len(r["prompt_ids"]) + len(r[s]) for r in rows for s in sides) / len(rows)


def alternate(one: Callable[[], float], other: Callable[[], float], pairs: int) -> list[float]:
    """other / one of each pair; the sides take turns in being first."""
    ratios = []
    for number in range(pairs):
        first, second = (one, other) if number % 2 == 0 else (other, one)
        times = first(), second()
        mine, theirs = times if number % 2 == 0 else times[::-1]
        ratios.append(theirs / mine)
        print(f"  pair {number + 1}: {ratios[-1]:.3f}", file=sys.stderr, flush=True)
    return ratios


def interval(ratios: Sequence[float]) -> str:
    """median [95% interval of the median, bootstrap]"""
    import numpy as np

    drawn = np.median(np.random.default_rng(0).choice(ratios, (4000, len(ratios))), axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{median(ratios):.3f} [{low:.3f}, {high:.3f}]"


Ratios = dict[str, list[float]]
"""What was compared -> ratio of each pair."""


def targets(same: Ratios, free: Ratios) -> list[Goal]:
    """same: TRL's time over ours at the same settings; free: useful tokens/s of our defaults over TRL's."""
    found = [
        (f"{name}: at the same settings not below {SAME} of TRL's speed", interval(ratios), median(ratios) >= SAME)
        for name, ratios in same.items()
    ]
    return found + [
        (f"{name}: our defaults at least {FREE} x TRL's useful tokens/s", interval(ratios), median(ratios) >= FREE)
        for name, ratios in free.items()
    ]


def same_settings(root: Path, pairs: int, steps: int, found: Ratios, only: str) -> list[list[str]]:
    shapes = {
        "0.3M, vocabulary 639 (ours has a plain head)": {"width": 96, "layers": 2, "vocabulary": 639},
        "5M, vocabulary 16,384 (both have TRL's fused head)": {"width": 128, "layers": 4, "vocabulary": 16384},
    }
    lines = []
    for number, (name, shape) in enumerate(shapes.items()):
        model = save_model(root / f"same{number}", **shape)
        for preference in (False, True):
            said = f"{'DPO' if preference else 'SFT'}: {name}"
            if only not in said:
                continue
            print(said, file=sys.stderr, flush=True)
            rows = rows_of(shape["vocabulary"], 64, pairs=preference, mixed=False)
            extra = {"precompute_ref_log_probs": True} if preference else {}
            common = {
                "pairs": preference,
                "activation_checkpointing": False,
                "steps": steps * (4 if number == 0 else 1),
            }
            mine = partial(ours, model, rows, group_by_length=False, **common)
            ratios = alternate(mine, partial(trl, model, rows, **common, **extra), pairs)
            kind = "DPO" if preference else "SFT"
            found[f"{kind}, {name.split(',')[0]}"] = ratios
            lines.append([name, kind, interval(ratios), str(len(ratios))])
    return lines


def defaults(root: Path, pairs: int, steps: int, found: Ratios, only: str) -> list[list[str]]:
    model = save_model(root / "mixed", width=192, layers=4, vocabulary=2048)
    lines = []
    for preference in (False, True):
        rows = rows_of(2048, ROWS * steps, pairs=preference, mixed=True)
        rate = tokens_per_step(rows)

        common = {"pairs": preference, "steps": steps}
        theirs, mine = partial(trl, model, rows, **common), partial(ours, model, rows, **common)
        causes: dict[str, Callable[[], float]] = {"our defaults": mine}
        if preference:
            causes["TRL + precomputed references"] = partial(theirs, precompute_ref_log_probs=True)
        else:
            grouped = partial(theirs, train_sampling_strategy="group_by_length")
            causes["TRL + length grouping (its own)"] = grouped
        causes["TRL + no activation checkpointing"] = partial(theirs, activation_checkpointing=False)
        causes["our defaults, no length grouping"] = partial(mine, group_by_length=False)
        causes["our defaults, no activation checkpointing"] = partial(mine, activation_checkpointing=False)
        for name, side in causes.items():
            said = f"{'DPO' if preference else 'SFT'}: {name}"
            if only not in said:
                continue
            print(said, file=sys.stderr, flush=True)
            seconds: list[float] = []

            def noted(side: Any = side, seconds: list[float] = seconds) -> float:
                seconds.append(side())
                return seconds[-1]

            ratios = alternate(noted, theirs, pairs)
            kind = "DPO" if preference else "SFT"
            if side is mine:
                found[kind] = ratios
            lines.append([kind, name, f"{rate / median(seconds):.0f}", interval(ratios), str(pairs)])
    return lines


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|".join(["---"] * len(header))
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, *lines)).replace("\n", f"\n|{rule}|\n", 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--only", default="", help='rows whose "METHOD: NAME" contains this; then nothing is written')
    given = parser.parse_args()
    pairs, steps = (3, 6) if given.quick else (given.pairs, given.steps)

    import torch

    torch.set_num_threads(1)
    from importlib.metadata import version

    with tempfile.TemporaryDirectory() as root:
        alike, apart = {}, {}
        same = markdown(
            ("model", "method", "TRL's time / ours", "pairs"),
            same_settings(Path(root), pairs, steps, alike, given.only),
        )
        free = markdown(
            ("method", "side", "useful tokens/s", "times TRL's defaults", "pairs"),
            defaults(Path(root), pairs, steps, apart, given.only),
        )
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    text = (
        f"# Training steps\n\n{datetime.now(UTC):%Y-%m-%d}, one thread of a CPU shared with other work, {versions}. "
        f"How it is measured: [training.py](training.py). {steps} steps a side and pair (four times as many of the "
        f"smallest model), {WARM} of them not timed.\n\n{table(targets(alike, apart))}\n\n"
        f"## The same settings\n\n{same}\n\n"
        f"## Defaults, mixed lengths\n\n{free}\n"
    )
    print(text)
    if given.quick:
        print("The goals are for the full sizes.")
    elif not given.only:
        (HERE / "training.md").write_text(text)


if __name__ == "__main__":
    main()
