"""Training on a GPU: tokens/s, MFU and memory of randomly initialised models with the shapes of Qwen2.5.

    torchrun --standalone --nproc_per_node 1 benchmarks/training_gpu.py
    torchrun --standalone --nproc_per_node 8 benchmarks/training_gpu.py --only 7b-lora
    torchrun --standalone --nproc_per_node 1 benchmarks/training_gpu.py --rehearse

The first measures everything and writes training_gpu.md; --rehearse walks the same code on a CPU with a tiny model.
SFT: rows of 4096 tokens, bfloat16, ZeRO-2, activation checkpointing. DPO (1.5B): pairs of 1024 tokens a side, with the
references computed before, and with TRL's trainer computing them in every step. MFU counts what docs/training.md
counts; target 50%. Needs a CUDA device, and says so where there is none. Not run yet: no GPU was at hand.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from training import Clock, markdown

HERE = Path(__file__).parent
SHAPES = {
    "1.5b": {"hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
             "intermediate_size": 8960, "vocab_size": 151936, "tie_word_embeddings": True},
    "7b": {"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
           "intermediate_size": 18944, "vocab_size": 152064, "tie_word_embeddings": False},
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
             "intermediate_size": 128, "vocab_size": 1024, "tie_word_embeddings": True},
}  # fmt: skip
ZERO2 = {
    "zero_optimization": {"stage": 2, "overlap_comm": True, "contiguous_gradients": True},
    "bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"}, "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto", "gradient_clipping": "auto", "steps_per_print": 1000000,
}  # fmt: skip
STEPS = 8


def save_model(folder: Path, shape: str) -> str:
    """A random Qwen2 of this shape in bfloat16, with the miniature's tokenizer (rows come tokenised)."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    from gra_train.locate import model_folder

    torch.manual_seed(0)
    config = Qwen2Config(**SHAPES[shape], max_position_embeddings=8192, dtype="bfloat16")
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_folder("mini:wren")).save_pretrained(folder)
    return str(folder)


def rows_of(vocabulary: int, count: int, length: int, *, pairs: bool) -> list[dict[str, Any]]:
    """Rows of exactly `length` random tokens, a quarter of them the prompt."""
    import numpy as np

    rng = np.random.default_rng(0)
    sides = ("chosen_ids", "rejected_ids") if pairs else ("completion_ids",)
    ids = lambda n: rng.integers(5, vocabulary, n).astype(np.int32)  # noqa: E731
    return [{"prompt_ids": ids(length // 4), **{s: ids(length - length // 4) for s in sides}} for _ in range(count)]


def measure(
    model: str, vocabulary: int, *, length: int, batch: int, pairs: bool, precomputed: bool, lora: int, cpu: bool
) -> dict[str, float]:
    """{"tokens_per_s", "mfu", "memory_gib", "rows_per_s"} of all ranks, over the steps after the first two."""
    from gra_train.schema import Lora, Preference
    from gra_train.training import adapters, fit, models, throughput
    from gra_train.training.arguments import Place, preference_arguments, preference_config, sft_arguments

    ranks = int(os.environ["WORLD_SIZE"])
    train = Preference(
        steps=STEPS, global_batch=batch * ranks * 2, device_batch=batch, lr=1e-5, max_length=length,
        dtype="float32" if cpu else "bfloat16", lora=Lora(r=lora), max_loss_ratio=0.0,
    )  # fmt: skip
    place = Place("cpu" if cpu else "cuda", ranks, ZERO2)
    with tempfile.TemporaryDirectory() as root, fit.fresh(place, 0):
        out = Path(root) / "run" / "work-1"
        out.mkdir(parents=True)
        common: dict[str, Any] = {"folder": out.parent / "checkpoints", "seed": 0}
        rows = rows_of(vocabulary, train.global_batch * 2, length, pairs=pairs)
        if pairs:
            from gra_train.training.preferences import Dpo

            arguments = preference_arguments(train, place, beta=0.1, loss="sigmoid", **common)
            args = preference_config("sigmoid")(**arguments | {"precompute_ref_log_probs": precomputed})
            network, tokenizer = models.load(model, lora=train.lora)
            trainer: Any = Dpo(network, tokenizer, args, **adapters.arguments(network, train.lora))
            if precomputed:
                trainer.add_references(rows, folder=Path(root))
        else:
            from trl import SFTConfig

            from gra_train.training.trainers import Sft

            args = SFTConfig(**sft_arguments(train, place, **common))
            network, tokenizer = models.load(model, lora=train.lora)
            trainer = Sft(network, tokenizer, args, **adapters.arguments(network, train.lora))
        trainer.use(rows, seed=0, batch=train.global_batch, by_length=False)
        clock = Clock()
        trainer.add_callback(clock.callback())
        flops = throughput.flops_per_token(trainer.model, length)
        fit.fit(trainer, train, out=out, label="benchmark", facts={})
    peak = throughput.peak_tflops(0.0)
    tokens = train.global_batch * length * (2 if pairs else 1) / clock.seconds
    mfu = tokens * flops / (peak * 1e12 * ranks) if peak else float("nan")
    return {"tokens_per_s": tokens, "mfu": mfu, "memory_gib": throughput.memory_gib(),
            "rows_per_s": train.global_batch / clock.seconds}  # fmt: skip


def lines_of(given: argparse.Namespace, root: Path) -> list[list[str]]:
    cpu = given.rehearse
    jobs: dict[str, dict[str, Any]] = {
        "1.5b-full": {"shape": "1.5b", "length": 4096, "batch": 2, "pairs": False, "lora": 0},
        "7b-lora": {"shape": "7b", "length": 4096, "batch": 1, "pairs": False, "lora": 16},
        "1.5b-dpo": {"shape": "1.5b", "length": 1024, "batch": 4, "pairs": True, "lora": 0},
        "1.5b-dpo-in-step": {"shape": "1.5b", "length": 1024, "batch": 4, "pairs": True, "lora": 0},
    }
    lines = []
    for name, job in jobs.items():
        if given.only and given.only != name:
            continue
        shape = "tiny" if cpu else job.pop("shape")
        job.pop("shape", None)
        folder = root / shape
        if os.environ["RANK"] == "0" and not (folder / "config.json").exists():
            save_model(folder, shape)
        _wait_for(folder / "tokenizer.json")
        job["length"] = 64 if cpu else job["length"]
        runs = [
            measure(str(folder), SHAPES[shape]["vocab_size"], precomputed=not name.endswith("in-step"), cpu=cpu, **job)
            for _ in range(1 if cpu else 3)
        ]
        middle = {key: median(run[key] for run in runs) for key in runs[0]}
        lines.append([name, f"{middle['tokens_per_s']:.0f}", f"{middle['mfu']:.1%}", f"{middle['rows_per_s']:.2f}",
                      f"{middle['memory_gib']:.1f}"])  # fmt: skip
    return lines


def _wait_for(file: Path) -> None:
    import time

    while not file.exists():
        time.sleep(1)
    time.sleep(1)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="1.5b-full, 7b-lora, 1.5b-dpo or 1.5b-dpo-in-step")
    parser.add_argument("--rehearse", action="store_true", help="tiny, on the CPU: does the code run?")
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "gra-train-benchmark")
    given = parser.parse_args(words)

    import torch

    if not given.rehearse and not torch.cuda.is_available():
        sys.exit("there is no CUDA device here, so there is nothing to measure (--rehearse walks the code on the CPU)")
    if "RANK" not in os.environ:
        sys.exit("start it with torchrun: DeepSpeed needs it (see --help)")
    lines = lines_of(given, given.models)
    if os.environ["RANK"] != "0":
        return
    header = ("training", "tokens/s", "MFU", "rows or pairs/s", "memory GiB")
    device = "CPU (rehearsal: no result)" if given.rehearse else torch.cuda.get_device_name()
    ranks = os.environ["WORLD_SIZE"]
    text = f"# Training on {ranks} x {device}\n\n{datetime.now(UTC):%Y-%m-%d}\n\n{markdown(header, lines)}\n"
    print(text)
    if not given.rehearse:
        (HERE / "training_gpu.md").write_text(text)


if __name__ == "__main__":
    main()
