"""COLLATE's two costs beside training, on one CPU thread: merit scoring and writing rationales.

    python benchmarks/collate.py            both, alternated repetitions, medians; writes collate.md
    python benchmarks/collate.py --quick    smallest sizes, writes nothing

Merit: S = 4 candidates of 256 tokens for a 300-token instruction. The opponent is a batched, length-sorted scorer that
computes every prompt whole. Bound: the tokens that it computes over those that are left when each instruction is
computed once. Rationales: the in-process backend at a batch of 64 beside `generate` called for one prompt at a time.
The model is a randomly initialised Llama: what is measured is work, and that does not depend on what it knows.
"""

from __future__ import annotations

import argparse
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import orjson
from goals import Goal, table

HERE = Path(__file__).parent
SIZES = {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "intermediate_size": 1376}
SHARE, GAIN = 0.9, 5.0
"""Goals: of the speed-up that the saved tokens allow, and of batched over one by one."""
CANDIDATES, INSTRUCTION, RATIONALE, ANSWER = 4, 300, 256, 8


def model_of(folder: Path, *, quick: bool) -> str:
    """A Llama of 26M parameters (quick: 0.3M) and a tokenizer that knows 2,000 words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "<|user|>", "<|assistant|>", "<|end|>", *(f"w{i}" for i in range(1995))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = "{% for m in messages %}<|user|> {{ m['content'] }} {% endfor %}<|assistant|> "
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="<|end|>", chat_template=template
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
    config = LlamaConfig(vocab_size=len(words), max_position_embeddings=1024, eos_token_id=4, pad_token_id=0,
                         bos_token_id=None, **(sizes if quick else SIZES))  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def text(rng: random.Random, tokens: int) -> str:
    return " ".join(f"w{rng.randrange(1995)}" for _ in range(tokens))


def merit_requests(tasks: int) -> list:
    from gra_train.chat.protocol import Likelihood

    rng, found = random.Random(0), []
    for _ in range(tasks):
        instruction, answer = text(rng, INSTRUCTION), text(rng, ANSWER)
        for _ in range(CANDIDATES):
            told = f"{instruction} {text(rng, RATIONALE)}"
            found.append(Likelihood(({"role": "user", "content": told},), answer))
    return found


def side(name: str, folder: str, tasks: int) -> dict:
    """One side, in this process: seconds of the work (not of loading), a digest of its values, peak memory."""
    import torch

    from gra_train.chat import prefixes
    from gra_train.chat.local import LocalModel
    from gra_train.chat.protocol import Completion, Sampling
    from gra_train.schema import Model

    torch.set_num_threads(1)
    model = LocalModel(Model(name="m", path=folder), device="cpu", batch_tokens=16384)
    if name.startswith("merit"):
        requests = merit_requests(tasks)
        if name == "merit whole":
            prefixes.SHORTEST = 10**9
            prefixes.groups.__kwdefaults__["shortest"] = 10**9
        model.log_likelihood_batch(requests[:2])
        started = time.perf_counter()
        values = [one.total for one in model.log_likelihood_batch(requests)]
        seconds, count = time.perf_counter() - started, len(requests)
    else:
        rng = random.Random(0)
        prompts = [text(rng, 60) for _ in range(64)]
        asked = [
            Completion(({"role": "user", "content": p},), Sampling(0.7, 0.95, 64), seed=i)
            for i, p in enumerate(prompts)
        ]
        model.complete_batch(asked[:1])
        started = time.perf_counter()
        if name == "write batched":
            count = sum(reply.completion_tokens for reply in model.complete_batch(asked))
        else:
            count = 0
            for one in model.prepare(asked):
                ids = torch.tensor([one.prompt])
                written = model.network.generate(
                    ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=0.7, top_p=0.95, top_k=0,
                    max_new_tokens=64, pad_token_id=0,
                )  # fmt: skip
                count += written.shape[1] - ids.shape[1]
        seconds, values = time.perf_counter() - started, []
    return {"seconds": seconds, "count": count, "values": values,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}  # fmt: skip


def bound() -> float:
    """Tokens of prompts computed whole, over those with each instruction computed once."""
    tail = RATIONALE + ANSWER
    return CANDIDATES * (INSTRUCTION + tail) / (INSTRUCTION + CANDIDATES * tail)


def measure(names: list[str], folder: str, tasks: int, repeat: int) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {name: [] for name in names}
    for turn in range(repeat):
        for name in names if turn % 2 == 0 else names[::-1]:
            command = [sys.executable, __file__, "--side", name, "--folder", folder, "--tasks", str(tasks)]
            done = subprocess.run(command, capture_output=True, check=True)
            found[name].append(orjson.loads(done.stdout.splitlines()[-1]))
            print(f"[{turn + 1}/{repeat}] {name}: {found[name][-1]['seconds']:.2f} s", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--side")
    parser.add_argument("--folder", default="")
    args = parser.parse_args()
    if args.side:
        print(orjson.dumps(side(args.side, args.folder, args.tasks)).decode())
        return
    with tempfile.TemporaryDirectory() as folder:
        model_of(Path(folder), quick=args.quick)
        repeat, tasks = (1, 2) if args.quick else (args.repeat, args.tasks)
        merit = measure(["merit whole", "merit shared"], folder, tasks, repeat)
        write = measure(["write one by one", "write batched"], folder, tasks, repeat)
    report = markdown(merit, write, repeat, tasks)
    print(report)
    if args.quick:
        print("The goals are for the full sizes.")
    else:
        (HERE / "collate.md").write_text(report)


def targets(ratios: list[float], gains: list[float]) -> list[Goal]:
    """ratios: whole prompts over shared prefixes; gains: tokens/s batched over one by one."""
    share, gain = median(ratios) / bound(), median(gains)
    return [
        (f"merit: at least {SHARE} of the speed-up that the saved tokens allow", f"{share:.2f}", share >= SHARE),
        (f"rationales: at least {GAIN:.0f} x one-by-one generation", f"{gain:.1f} x", gain >= GAIN),
    ]


def markdown(merit: dict[str, list[dict]], write: dict[str, list[dict]], repeat: int, tasks: int) -> str:
    whole, shared = merit["merit whole"], merit["merit shared"]
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(whole, shared, strict=True)]
    apart = max(abs(a - b) for a, b in zip(whole[0]["values"], shared[0]["values"], strict=True))
    speeds = {name: [one["count"] / one["seconds"] for one in runs] for name, runs in write.items()}
    gains = [b / a for a, b in zip(*speeds.values(), strict=True)]
    lines = [
        "# COLLATE: merit and rationales", "",
        f"`python benchmarks/collate.py`, {repeat} alternated pairs, each run a process of its own, one thread of "
        f"{platform.processor() or platform.machine()}. Medians and [least, largest] of the pairs' ratios.", "",
        table(targets(ratios, gains)), "",
        f"## Merit: {tasks} tasks, S = {CANDIDATES}, {INSTRUCTION}-token instruction, {RATIONALE}-token rationales", "",
        "| | seconds | peak MB |", "|---|--:|--:|",
        *(f"| {name} | {median(r['seconds'] for r in runs):.2f} | {median(r['peak_mb'] for r in runs):.0f} |"
          for name, runs in merit.items()),
        "",
        f"Speed-up {median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]; the saved tokens allow {bound():.2f}: "
        f"{median(ratios) / bound():.2f} of it. Log-likelihoods of answers differ by at most {apart:.1e} nats.",
        "", "## Rationales: 64 prompts of 60 tokens, at most 64 tokens each", "",
        "| | tokens/s |", "|---|--:|",
        *(f"| {name} | {median(values):.0f} |" for name, values in speeds.items()),
        "", f"Batched over one by one: {median(gains):.1f} [{min(gains):.1f}, {max(gains):.1f}].", "",
    ]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    main()
