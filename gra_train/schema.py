"""Every setting of gra_train: name, type, unit, bounds, default and help. The one source; conf/ only sets values.

The defaults are the papers' where a paper states one. `gra-train config --schema` prints this as a table.
"""

from __future__ import annotations

# fmt: off  (one setting, one line: this file reads as a table)
from dataclasses import dataclass
from typing import Any

from gra_train.settings import Section, setting

SCHEDULES = ("linear", "cosine", "constant")
DTYPES = ("float32", "bfloat16", "float16")
FORMATS = (
    "auto",
    "own",
    "alpaca",
    "wizardlm",
    "condor",
    "self_instruct",
    "dolly",
    "gsm8k",
    "sharegpt",
    "chat",
    "fields",
)


@dataclass(frozen=True)
class Serve(Section):
    """How the server of a model is started (`engine` none: it is not)."""

    engine: str = setting("none", "server to start for a model without url", choices=("none", "vllm", "transformers"))
    python: str = setting("", "interpreter of the environment the server is installed in (default: this one)",
                          identity=False)  # fmt: skip
    gpus: list[int] = setting([], "GPUs of the server, by number; empty: free ones are assigned", identity=False)
    tensor_parallel: int = setting(1, "GPUs that hold one model together (vLLM)", min=1, identity=False)
    replicas: int = setting(1, "servers of the model side by side, each on GPUs of its own", min=1, identity=False)
    port: int = setting(0, "port (of replicas the first); 0: a free one", min=0, max=65535, identity=False)
    env: dict[str, str] = setting({}, "environment variables of the server, beside this process's", identity=False)
    arguments: list[str] = setting([], "further arguments, e.g. [--max-model-len, '8192']; part of the ledger's keys")
    start_timeout_s: float = setting(900.0, "until the server answers", unit="s", min=1, identity=False)
    restarts: int = setting(5, "times that a server which ended is started again", min=0, identity=False)


@dataclass(frozen=True)
class Model(Section):
    """A language model: a local folder (or Hub name, or mini:NAME) in process, or a name behind a server."""

    name: str = setting("", "short name, used in reports and roles")
    path: str = setting("", "model folder, Hub name or mini:NAME; in process")
    url: str = setting(
        "",
        "base URLs of OpenAI-compatible servers of this model, separated by commas, e.g. http://localhost:8000/v1",
        identity=False,
    )
    served_name: str = setting("", "the model's name at that server (default: name)")
    revision: str = setting(
        "", "what the weights are: Hub revision or your own label; required where a server gives no log-probabilities"
    )
    api: str = setting(
        "chat",
        "behind a server: chat, or completions (rendered here with the tokenizer of path)",
        choices=("chat", "completions"),
    )
    api_key_env: str = setting("", "name of the environment variable that holds the API key", identity=False)
    license: str = setting("", "licence of the weights, told on cards (empty: unknown)", identity=False)
    dtype: str = setting("float32", "weights in process", choices=DTYPES)
    trust_remote_code: bool = setting(False, "allow this model's own Python code to run")
    max_concurrency: int = setting(
        64, "calls in flight at each endpoint; 0: found from 429 and from latency", unit="calls", min=0, identity=False
    )
    connect_timeout_s: float = setting(10.0, "making a connection", unit="s", min=0.001, identity=False)
    timeout_s: float = setting(600.0, "one call, total", unit="s", min=0.001, identity=False)
    retries: int = setting(
        8, "extra tries of a call that fails while its server answers others", unit="tries", min=0, identity=False
    )
    give_up_s: float = setting(
        600.0, "the run ends when no endpoint of the model has answered for this long", unit="s", min=0, identity=False
    )
    on_failed_call: str = setting(
        "skip",
        "a call that fails while others are answered: its sample lacks it, or the run stops",
        choices=("skip", "stop"),
    )
    serve: dict[str, Any] = setting({}, "what differs from pool.serve for this model, e.g. {gpus: [4]}")
    price_in: float | None = setting(None, "of prompt tokens", unit="money/1M tokens", min=0, identity=False)
    price_out: float | None = setting(None, "of answer tokens", unit="money/1M tokens", min=0, identity=False)


@dataclass(frozen=True)
class Pool(Section):
    """The pool M of small models, and the large model they are measured against."""

    name: str = setting("", "name of the pool, used in reports")
    models: list[Model] = setting([], "the small models; roles are drawn among them")
    large: Model | None = setting(None, "the baseline's large model (the papers' 72B), for solo and distill")
    batch_tokens: int = setting(
        16384, "in process: tokens of one forward batch, padding included", unit="tokens", min=1
    )
    continuous_batching: bool = setting(
        False,
        "in process: calls join the batch as they come; answers depend, in the last bits of floats, on timing",
    )
    serve: Serve = setting(Serve, "servers that we start for models without url", identity=False)


@dataclass(frozen=True)
class DataFile(Section):
    """An existing data set: a file, a Hub name, an earlier run or mini:WHAT."""

    path: str = setting("", "file (.jsonl, .jsonl.gz, .json, .parquet), Hub data set, run folder, or mini:seeds|gold")
    format: str = setting(
        "auto",
        "field mapping preset; auto: found by the columns of the first row",
        choices=FORMATS,
    )
    fields: dict[str, str] = setting({}, "own mapping for format=fields: instruction, response, domain, ... -> column")
    split: str = setting("train", "split of a Hub data set")
    limit: int | None = setting(None, "use the first N rows", unit="rows", min=1)
    on_bad_row: str = setting(
        "stop", "a row that does not fit: stop with its line number, or skip and count", choices=("stop", "skip")
    )
    license: str = setting("", "licence of the data, told on cards (empty: unknown)", identity=False)


@dataclass(frozen=True)
class Review(Section):
    """How instructions and responses are reviewed (GRA, section 3.3)."""

    mode: str = setting(
        "committee",
        "committee: reviewers, and an adjudicator where they disagree; majority: their majority in its place; "
        "single: one reviewer; none: keep every readable candidate",
        choices=("committee", "majority", "single", "none"),
    )
    scoring: str = setting(
        "text",
        "text: reviewers write scores; likelihood: scores from token log-probabilities",
        choices=("text", "likelihood"),
    )
    min_token_prob: float = setting(
        0.03, "likelihood scoring: an instruction whose least likely token is below this is flagged", min=0, max=1
    )
    score_slope: float = setting(
        0.667, "likelihood scoring: score = 10 + slope * ln(token probability aggregate)", min=0
    )


@dataclass(frozen=True)
class Dedup(Section):
    """Near-duplicate removal after a round (GRA, section 3.4)."""

    threshold: float = setting(0.9, "largest cosine to anything in the pool that is still kept", min=0, max=1)
    encoder: str = setting(
        "all-MiniLM-L6-v2",
        "sentence encoder: a sentence-transformers name or folder, model2vec:NAME or model2vec:FOLDER (static, fast), "
        "or hashing (no download, for closed languages)",
    )
    text: str = setting("instruction", "what is embedded", choices=("instruction", "response", "both"))
    include_seeds: bool = setting(True, "seeds count as pool items")
    exact_below: int = setting(
        100_000, "pools of fewer vectors are compared exactly, larger ones through a graph", unit="rows", min=0
    )


@dataclass(frozen=True)
class Decontaminate(Section):
    """Rows that share an n-gram of words with a question of a benchmark are dropped, with the question as evidence."""

    against: list[str] = setting(
        [],
        "benchmarks: evaluation (those of evaluation.tasks), names, or files of questions; empty: off",
        identity=False,
    )
    ngram: int = setting(13, "words in a row that must be equal", unit="words", min=1)
    text: str = setting("both", "what is compared of a row", choices=("instruction", "response", "both"))
    folder: str = setting("", "folder of the benchmarks' files (default: $GRA_DATA_DIR)", identity=False)
    missing: str = setting(
        "stop",
        "a benchmark without a file: stop; load its questions through lm-eval; or skip it, and say so",
        choices=("stop", "load", "skip"),
        identity=False,
    )


@dataclass(frozen=True)
class Synthesis(Section):
    """The GRA loop (arXiv 2504.12322, section 3)."""

    target: int = setting(50000, "kept samples over all rounds", unit="rows", min=1)
    rounds: int = setting(5, "rounds; the pool grows after each", min=1)
    max_candidates: int = setting(
        500000, "candidates over all rounds at most; then the run goes on with what it has", min=1
    )
    wave: int = setting(1024, "candidates of one wave (a fixed index range)", min=1)
    block: int = setting(64, "in process: candidates whose calls are batched together", min=1)
    lookahead: int = setting(
        1,
        "behind servers: waves started early that the round may not need (what is certain to be needed is not counted)",
        unit="waves",
        min=0,
        identity=False,
    )
    shard: str = setting(
        "",
        "i/n: of the round that is due, make only every n-th block of candidates, into the ledger; no curation",
        identity=False,
    )
    margin: float = setting(
        0.1,
        "sharded: rows made beyond a round's share, as a part of it (duplicates and chance take some)",
        min=0,
        identity=False,
    )
    stop_after: int | None = setting(
        None,
        "stop, to be resumed, when so many rounds are curated (0: when the seeds are annotated)",
        unit="rounds",
        min=0,
        identity=False,
    )
    T_mean: float = setting(8.0, "a response whose mean review score mu is below this is rejected", min=1, max=10)
    T_std: float = setting(1.5, "a population standard deviation sigma above this goes to the adjudicator", min=0)
    num_reviewers: int = setting(3, "reviewers of one sample", min=1)
    roles: str = setting(
        "random",
        "random: disjoint roles per sample; fixed: the pool's order; single: one model plays all; adaptive: generators "
        "drawn by acceptance, reviewers weighted by reliability, both from the waves before",
        choices=("random", "fixed", "single", "adaptive"),
    )
    explore: float = setting(
        0.2, "adaptive roles: share of candidates whose generator is drawn uniformly", min=0, max=1
    )
    domains: str = setting(
        "seeds", "domain of a candidate: drawn as in the seeds, or uniformly", choices=("seeds", "uniform")
    )
    prompts: str = setting(
        "tags",
        "prompt family: answers between tags, or as JSON by a schema; mini: the miniature's",
        choices=("tags", "json", "mini"),
    )
    min_examples: int = setting(2, "reference samples shown to the generator, at least", min=1)
    max_examples: int = setting(4, "and at most", min=1)
    respond: str = setting(
        "after_review",
        "write the response after the instruction review, or before it",
        choices=("after_review", "before_review"),
    )
    parse_retries: int = setting(2, "new tries (new seed) after an answer that cannot be parsed", min=0)
    temperature: float = setting(0.2, "sampling temperature of every role", min=0)
    response_temperature: float | None = setting(None, "of responses alone (default: temperature)", min=0)
    top_p: float = setting(0.9, "nucleus sampling", min=0, max=1)
    max_tokens: int = setting(4096, "longest answer", unit="tokens", min=1)
    review: Review = setting(Review)
    dedup: Dedup = setting(Dedup)
    decontaminate: Decontaminate = setting(Decontaminate)
    distill: DataFile = setting(
        DataFile, "instructions that the large model answers for data=distill (default: the seeds')"
    )
    checker: str = setting(
        "none", "true correctness for the report (never for a decision): mini, or none", choices=("none", "mini")
    )


@dataclass(frozen=True)
class Lora(Section):
    """Low-rank adapters. r = 0: full-parameter training."""

    r: int = setting(0, "rank", min=0)
    alpha: int = setting(16, "scale", min=1)
    dropout: float = setting(0.0, "dropout", min=0, max=1)
    targets: str = setting("all-linear", "modules that get an adapter")


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
    group_by_length: bool = setting(True, "batches of examples of similar length (less padding)")
    save_steps: int = setting(200, "steps between checkpoints", min=1, identity=False)
    keep_checkpoints: int = setting(2, "checkpoints kept", min=1, identity=False)
    lora: Lora = setting(Lora)


@dataclass(frozen=True)
class Preference(Train):
    """Train, for preference optimisation: beta and the loss are in Collate (they belong to the method)."""

    global_batch: int = setting(16, "pairs of one optimiser step, over all ranks", min=1)
    lr: float = setting(1e-5, "peak learning rate", min=0)
    epochs: float = setting(5.0, "passes over the pairs (ignored when steps is set)", min=0)


@dataclass(frozen=True)
class Collate(Section):
    """COLLATE (arXiv 2506.02519): multi-mode SFT, distinct providers, task-guided tuning."""

    providers: int = setting(2, "rationale providers S", min=1)
    iterations: int = setting(2, "task-guided iterations (0: stop after stage 2)", min=0)
    beta: float = setting(0.1, "DPO beta", min=0)
    loss: str = setting("sigmoid", "preference loss", choices=("sigmoid", "ipo", "hinge"))
    rationale_data: DataFile = setting(DataFile, "instructions with gold rationales and answers (stages 1 and 2)")
    answer_data: DataFile = setting(DataFile, "instructions with answers only, added to stage 1 (may be empty)")
    task_data: DataFile = setting(DataFile, "instructions with answers, no rationales (stage 3)")
    validation_rows: int = setting(8000, "rows of the rationale data kept to pick a provider by", min=1)
    answers_from_rationale_rows: bool = setting(True, "rows with a rationale also train instruction -> answer")
    prompts: str = setting("tags", "prompt family of the three modes", choices=("tags", "mini"))
    temperature: float = setting(0.7, "of the providers' rationales", min=0)
    stage2_temperature: float = setting(0.7, "of the providers' own rationales in stage 2", min=0)
    top_p: float = setting(0.95, "nucleus sampling", min=0, max=1)
    max_tokens: int = setting(256, "longest rationale", unit="tokens", min=1)
    filter: bool = setting(True, "keep a pair only if its winner makes the answer likelier than no rationale does")
    redraw_splits: bool = setting(False, "a new random split of the task data in every iteration")
    block: int = setting(64, "in process: requests batched together", min=1)
    ift: Train = setting(Train, "stage 1, multi-mode SFT")
    stage2: Preference = setting(Preference, "stage 2, distinct providers")
    stage3: Preference = setting(Preference, "stage 3, each iteration")
    answerer: Train = setting(Train, "final SFT of the base on instruction + rationale -> answer")


@dataclass(frozen=True)
class Evaluation(Section):
    """Scoring with lm-eval."""

    tasks: list[str] = setting([], "lm-eval task names; ours or lm-eval's")
    limit: int | None = setting(None, "first N questions of each task", min=1)
    split: str = setting("test", "of the miniature: tune on validation, report on test", choices=("validation", "test"))
    questions: int = setting(300, "of the miniature: problems generated per task", min=1)
    batch_size: int = setting(64, "questions of one forward batch", min=1)
    max_tokens: int = setting(512, "longest answer", unit="tokens", min=1)
    confidence: float = setting(0.95, "of every interval", min=0.5, max=0.999)
    dtype: str = setting("float32", "of the evaluated model", choices=DTYPES)


@dataclass(frozen=True)
class Arm(Section):
    """One training set to compare: data -> SFT (-> COLLATE) -> evaluation."""

    data: str = setting(help="seed, unreviewed, gra, refine, integrated, solo, distill, gold, or own (data=...)")
    with_seeds: bool = setting(True, "train on the seeds too (of refine and integrated: only refined)")
    rows: int | None = setting(None, "rows beside the seeds (default: synthesis.target)", min=1)
    rounds: int | None = setting(
        None,
        "of data=gra and integrated: the rows of the first N rounds only (all, where there are fewer)",
        unit="rounds",
        min=1,
    )
    collate: bool = setting(False, "put COLLATE on top of the fine-tuned student")
    synthesis: dict[str, Any] = setting(
        {}, "synthesis settings of this arm alone, e.g. {review: {mode: none}}; the seeds' annotation is shared"
    )


@dataclass(frozen=True)
class Compare(Section):
    """The comparison that ends an experiment."""

    baseline: str = setting("solo", "arm that the others are compared with")
    resamples: int = setting(10000, "bootstrap resamples of the paired interval", min=100)
    confidence: float = setting(0.95, "of every interval", min=0.5, max=0.999)


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
