"""Training, and COLLATE on top of it."""

from __future__ import annotations

# fmt: off  (one setting, one line: this file reads as a table)
from dataclasses import dataclass

from gra_train.schema.baselines import Baselines
from gra_train.schema.data import DataFile
from gra_train.schema.models import DTYPES, Serve
from gra_train.schema.synthesis import Decontaminate
from gra_train.settings import Section, setting

LOSSES = ("sigmoid", "hinge", "ipo", "sigmoid+sft", "simpo", "orpo", "kto")
SCHEDULES = ("linear", "cosine", "constant")


@dataclass(frozen=True)
class Lora(Section):
    """Low-rank adapters. r = 0: full-parameter training."""

    r: int = setting(0, "rank", min=0)
    alpha: int = setting(16, "scale", min=1)
    dropout: float = setting(0.0, "dropout", min=0, max=1)
    targets: str = setting("all-linear", "modules that get an adapter: all-linear, or names, comma-separated")
    dora: bool = setting(False, "DoRA: a weight's magnitude is learned apart from its direction")
    quantize: bool = setting(False, "QLoRA: the frozen base in 4 bits (needs bitsandbytes and a GPU)")
    merge: bool = setting(True, "merge the adapter into the saved model; false: save the adapter, which names its base")


@dataclass(frozen=True)
class Train(Section):
    """How a model is trained. The global batch is configured; accumulation is derived."""

    epochs: float = setting(1.0, "passes over the data (ignored when steps is set)", min=0)
    steps: int | None = setting(None, "optimiser steps in place of epochs", min=1)
    global_batch: int = setting(256, "examples of one optimiser step, over all ranks", min=1)
    device_batch: int = setting(4, "examples of one forward pass on one rank", min=1)
    lr: float = setting(5e-6, "peak learning rate", min=0)
    schedule: str = setting("cosine", "learning-rate decay after warm-up", choices=SCHEDULES)
    warmup: float = setting(0.03, "share of the steps with rising learning rate", min=0, max=1)
    weight_decay: float = setting(0.0, "AdamW weight decay", min=0)
    adam_beta2: float = setting(0.999, "AdamW second-moment decay", min=0, max=1)
    max_grad_norm: float = setting(1.0, "gradient clipping", min=0)
    max_length: int = setting(4096, "longest example, prompt included", unit="tokens", min=8)
    max_overlong: float = setting(0.05, "share of over-long examples above which training is refused", min=0, max=1)
    dtype: str = setting("bfloat16", "compute type", choices=DTYPES)
    activation_checkpointing: bool = setting(True, "trade compute for memory")
    packing: bool = setting(
        False,
        "SFT: several examples in a row of max_length, where the model keeps them apart; global_batch counts rows then",
    )
    group_by_length: bool = setting(True, "batches of examples of similar length (less padding)")
    save_steps: int = setting(200, "steps between checkpoints", min=1, identity=False)
    save_minutes: float = setting(
        30.0, "longest time between checkpoints (0: by steps alone)", unit="minutes", min=0, identity=False
    )
    keep_checkpoints: int = setting(
        2, "newest checkpoints kept, beside the one with the lowest loss", min=1, identity=False
    )
    must_save_by: str = setting(
        "auto", "save and stop before: auto (the end of the SLURM job), off, or a time, ISO 8601", identity=False
    )
    max_loss_ratio: float = setting(
        3.0, "stop when the loss of 20 steps is this many times that of the first 20 (0: never)", min=0, identity=False
    )
    samples: int = setting(
        0, "answers that the model writes for a look, at every checkpoint and at the end", min=0, identity=False
    )
    peak_tflops: float = setting(
        0.0, "of one device, for MFU (0: of the GPUs we know, else n/a)", unit="TFLOP/s", min=0, identity=False
    )
    lora: Lora = setting(Lora)


@dataclass(frozen=True)
class Preference(Train):
    """Train, for preference optimisation: beta and the loss are in Collate (they belong to the method)."""

    global_batch: int = setting(16, "pairs of one optimiser step, over all ranks", min=1)
    lr: float = setting(1e-5, "peak learning rate", min=0)
    epochs: float = setting(5.0, "passes over the pairs (ignored when steps is set)", min=0)
    sft_weight: float = setting(1.0, "weight of the SFT term on the chosen answer, with loss=sigmoid+sft", min=0)
    simpo_gamma: float = setting(0.5, "SimPO's target margin, with loss=simpo", min=0)


@dataclass(frozen=True)
class Collate(Section):
    """COLLATE (arXiv 2506.02519): multi-mode SFT, distinct providers, task-guided tuning."""

    providers: int = setting(2, "rationale providers S", min=1)
    iterations: int = setting(2, "task-guided iterations (0: stop after stage 2)", min=0)
    candidates: int = setting(1, "rationales that each provider writes for a task of stage 3", min=1)
    beta: float = setting(0.1, "DPO beta", min=0)
    loss: str = setting("sigmoid", "preference loss", choices=LOSSES)
    rationale_data: DataFile = setting(DataFile, "instructions with gold rationales and answers (stages 1 and 2)")
    answer_data: DataFile = setting(DataFile, "instructions with answers only, added to stage 1 (may be empty)")
    task_data: DataFile = setting(DataFile, "instructions with answers, no rationales (stage 3)")
    own_data: str = setting(
        "none",
        "take the arm's own training set as rationale data, as task data, or as both",
        choices=("none", "rationales", "tasks", "both"),
    )
    decontaminate: Decontaminate = setting(Decontaminate, "keep COLLATE's data apart from benchmarks")
    validation_rows: int = setting(8000, "rows of the rationale data kept to pick a provider by", min=1)
    answers_from_rationale_rows: bool = setting(True, "rows with a rationale also train instruction -> answer")
    prompts: str = setting("tags", "prompt family of the three modes", choices=("tags", "mini"))
    temperature: float = setting(0.7, "of the providers' rationales", min=0)
    stage2_temperature: float = setting(0.7, "of the providers' own rationales in stage 2", min=0)
    top_p: float = setting(0.95, "nucleus sampling", min=0, max=1)
    max_tokens: int = setting(256, "longest rationale", unit="tokens", min=1)
    share: str = setting(
        "auto",
        "providers as full copies, or as adapters on one frozen M_IFT; auto: adapters on one GPU",
        choices=("auto", "copies", "adapters"),
    )
    adapter_lr: float = setting(1e-4, "peak learning rate of adapters, in place of stage2.lr and stage3.lr", min=0)
    families: list[str] = setting(
        [], "models of the pool that the providers start from, in turn; empty: all from M_IFT"
    )
    split: str = setting(
        "random", "how data are split over the providers: at random, or by domain", choices=("random", "domain")
    )
    redraw_splits: bool = setting(False, "a new split of the task data in every iteration")
    selection: str = setting(
        "likelihood",
        "best and worst rationale by the gold answer's likelihood, or by M_IFT as a judge",
        choices=("likelihood", "judge"),
    )
    judging: str = setting(
        "text",
        "the judge writes points, or its certainty of the answer that it draws counts",
        choices=("text", "likelihood"),
    )
    filter: bool = setting(True, "keep a pair only if its winner makes the answer likelier than no rationale does")
    leak_filter: bool = setting(False, "rationales that state the answer word for word neither win nor lose")
    max_length_ratio: float | None = setting(
        None, "drop pairs whose winner is more than so many times longer than the loser", unit="words/words", min=0
    )
    refine: bool = setting(
        False, "the winner's writer revises it; the revision takes its place where its merit is higher"
    )
    answerer_each: bool = setting(
        False, "train and score an answerer after stage 2 and every iteration, not only the last"
    )
    block: int = setting(64, "in process: requests batched together", min=1)
    serve: Serve = setting(Serve, "servers for the providers and the scorer; engine none: in process")
    ift: Train = setting(Train, "stage 1, multi-mode SFT")
    stage2: Preference = setting(Preference, "stage 2, distinct providers")
    stage3: Preference = setting(Preference, "stage 3, each iteration")
    answerer: Train = setting(Train, "final SFT of the base on instruction + rationale -> answer")
    baselines: Baselines = setting(Baselines, "the methods that COLLATE is compared with")
