"""An experiment: what is compared, scored and tracked, where it runs, and everything together."""

from __future__ import annotations

# fmt: off  (one setting, one line: this file reads as a table)
from dataclasses import dataclass
from typing import Any

from gra_train.schema.data import DataFile
from gra_train.schema.models import DTYPES, Model, Pool
from gra_train.schema.quality import Quality
from gra_train.schema.synthesis import Synthesis
from gra_train.schema.training import Collate, Train
from gra_train.settings import Section, setting

METHOD_NAMES = (
    "none",
    "collate",
    "cot",
    "self_consistency",
    "sft",
    "dss",
    "self_rewarding",
    "spin",
    "star",
    "tot",
    "eot",
)


@dataclass(frozen=True)
class Evaluation(Section):
    """Scoring with lm-eval."""

    tasks: list[str] = setting(
        [],
        "benchmarks: ours (gsm8k), files of one's own (my.yaml), the miniature's (mini_math), lm-eval's tasks",
    )
    protocol: str = setting(
        "robust",
        "of our benchmarks. published: shots, caps and reading of answers as in the papers; robust: generous caps, "
        "tolerant reading",
        choices=("published", "robust"),
    )
    choices: str = setting(
        "generate",
        "of benchmarks with choices: an answer is written and read, or the choices are scored by likelihood",
        choices=("generate", "likelihood"),
    )
    shots: int | None = setting(None, "worked examples before a question (default: the protocol's)", min=0)
    data_dir: str = setting(
        "", "folder of data sets as files (default: $GRA_DATA_DIR; what it lacks comes from the Hub)", identity=False
    )
    sources: dict[str, DataFile] = setting(
        {}, "where a benchmark's questions are, by its name (default: found in data_dir, else on the Hub)"
    )
    limit: int | None = setting(None, "first N questions of each task", min=1)
    split: str = setting("test", "of the miniature: tune on validation, report on test", choices=("validation", "test"))
    questions: int = setting(300, "of the miniature: problems generated per task", min=1)
    batch_size: int = setting(64, "questions of one forward batch", min=1)
    max_tokens: int | None = setting(
        None, "longest answer (default: the protocol's; of the miniature 512)", unit="tokens", min=1
    )
    program_seconds: float = setting(10.0, "of code benchmarks: longest run of one program", unit="s", min=0.1)
    unsandboxed: bool = setting(
        False, "run programs that the model wrote WITHOUT a sandbox, where this machine has none", identity=False
    )
    confidence: float = setting(0.95, "of every interval", min=0.5, max=0.999)
    dtype: str = setting("float32", "of the evaluated model", choices=DTYPES)
    engine: str = setting(
        "hf",
        "how a model folder answers: hf (lm-eval's own, in this process), chat (in this process, through the ledger), "
        "or a server that we start for it: vllm, transformers. A student with url= is asked there",
        choices=("hf", "chat", "vllm", "transformers"),
    )
    serve: dict[str, Any] = setting(
        {}, "how that server is started, as pool.serve, e.g. {python: /envs/vllm/bin/python}"
    )


@dataclass(frozen=True)
class Arm(Section):
    """One row or more of the comparison: data -> SFT (-> a method on top) -> evaluation."""

    data: str = setting(
        help="seed, unreviewed, gra, refine, integrated, solo, distill, gold, own (data=...), or none (no training)"
    )
    with_seeds: bool = setting(True, "train on the seeds too (of refine and integrated: only refined)")
    rows: int | None = setting(None, "rows beside the seeds (default: synthesis.target)", min=1)
    rounds: int | None = setting(
        None,
        "of data=gra and integrated: the rows of the first N rounds only (all, where there are fewer)",
        unit="rounds",
        min=1,
    )
    tokens_of: str = setting(
        "", "another arm: beside the seeds, train on as many tokens (of the student) as it does, at most"
    )
    method: str = setting(
        "none", "put on top of the fine-tuned student: COLLATE, or one of its baselines", choices=METHOD_NAMES
    )
    collate: dict[str, Any] = setting({}, "collate settings of this arm alone, e.g. {filter: false}")
    synthesis: dict[str, Any] = setting(
        {}, "synthesis settings of this arm alone, e.g. {review: {mode: none}}; the seeds' annotation is shared"
    )


@dataclass(frozen=True)
class Compare(Section):
    """The comparison that ends an experiment."""

    baseline: str = setting("solo", "arm that the others are compared with")
    resamples: int = setting(10000, "bootstrap resamples of the paired interval", min=100)
    confidence: float = setting(0.95, "of every interval", min=0.5, max=0.999)
    quality: Quality = setting(Quality)


@dataclass(frozen=True)
class Tracking(Section):
    """W&B. metrics.jsonl in each run folder is the truth; W&B mirrors it."""

    wandb: str = setting(
        "auto", "auto: online when logged in, else offline", choices=("auto", "online", "offline", "off")
    )
    project: str = setting("gra-train", "W&B project")
    entity: str = setting("", "W&B entity (default: yours)")


@dataclass(frozen=True)
class Resources(Section):
    """What a stage needs. More than one rank goes through torchrun."""

    ranks: int = setting(1, "processes of a training stage", min=1)
    device: str = setting("auto", "auto, cpu or cuda", choices=("auto", "cpu", "cuda"))
    workers: int = setting(1, "single-rank stages that run side by side on this machine", min=1, identity=False)
    threads: int = setting(1, "CPU threads of one worker", min=1, identity=False)
    needs: str = setting(
        "", "what hardware this experiment asks for, in words; printed before it starts", identity=False
    )


@dataclass(frozen=True)
class Cluster(Section):
    """Where am I: this machine, or SLURM."""

    kind: str = setting("local", "local or slurm", choices=("local", "slurm"))


@dataclass(frozen=True)
class Config(Section):
    """An experiment."""

    name: str = setting("experiment", "name of the experiment, part of its folder's name")
    seed: int = setting(0, "of everything that is drawn", min=0)
    runs_dir: str = setting("runs", "folder of all runs", identity=False)
    seeds: DataFile = setting(DataFile, "the seed set D(0)")
    pool: Pool = setting(Pool)
    synthesis: Synthesis = setting(Synthesis)
    data: DataFile = setting(DataFile, "an existing data set, trained on by arms with data=own")
    student: Model = setting(Model, "the base model that learns")
    sft: Train = setting(Train)
    collate: Collate = setting(Collate)
    deepspeed: dict[str, Any] = setting({}, "DeepSpeed configuration; empty: plain PyTorch")
    evaluation: Evaluation = setting(Evaluation)
    arms: dict[str, Arm] = setting({}, "the training sets to compare")
    compare: Compare = setting(Compare)
    tracking: Tracking = setting(Tracking, identity=False)
    resources: Resources = setting(Resources)
    cluster: Cluster = setting(Cluster, identity=False)
