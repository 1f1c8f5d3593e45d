"""GRA: roles, review, curation, rounds."""

from __future__ import annotations

# fmt: off  (one setting, one line: this file reads as a table)
from dataclasses import dataclass

from gra_train.schema.data import DataFile
from gra_train.settings import Section, setting


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
        100_000, "pools of fewer vectors are compared exactly, larger ones by cells of near ones", unit="rows", min=0
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
