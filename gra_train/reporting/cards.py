"""The card of a synthesised data set: README.md in the Hub's format, made from what the run folder says.

Deterministic: no dates, no paths of this machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from gra_train.records import Sample, read_samples
from gra_train.reporting.markup import grid, percent
from gra_train.reporting.reports import gather
from gra_train.reporting.table import REVIEWERS
from gra_train.runs import read_json

COLUMNS = {
    "id": "unique within the set",
    "instruction": "what is asked",
    "response": "the answer that the reviewers accepted",
    "domain": "one of GRA's seven",
    "keywords": "what the instruction was generated from",
    "summary": "one sentence, used as a reference for later rounds",
    "source": "the model that wrote it",
}


def write_card(result: Path) -> Path:
    """Write README.md into the result folder of a `synthesize` stage (its configuration is in the run folder above)."""
    path = result / "README.md"
    temporary = path.with_name("README.md.tmp")
    temporary.write_text(dataset_card(result))
    temporary.replace(path)
    return path


def dataset_card(result: Path) -> str:
    """The card's text."""
    import yaml

    frozen = yaml.safe_load((result.parent / "config.yaml").read_text())
    config = frozen["config"]
    samples = read_samples(result)
    funnel = read_json(result / "funnel.json") or {}
    name = f"{config['pool'].get('name') or 'pool'}: {len(samples)} synthesised instructions"
    head = {
        "pretty_name": name,
        "tags": ["synthetic", "gra-train"],
        "task_categories": ["text-generation"],
        "size_categories": [_size(len(samples))],
        "configs": [{"config_name": "default", "data_files": "data.jsonl"}],
    }
    parts = [
        "---\n" + yaml.safe_dump(head, sort_keys=False, allow_unicode=True) + "---\n",
        f"# {name}\n",
        _pipeline(config["synthesis"], funnel),
        "## Models\n",
        _models(config),
        "## Decisions\n",
        _decisions(config),
    ]
    for report in gather({"synthesis": result}):
        parts += [f"## {report['title']}\n", grid(report["columns"], report["rows"]), report["note"] + "\n"]
    parts += [
        "## Rows\n",
        _rows(samples),
        "## Columns\n",
        grid(["column", "what it holds"], list(map(list, COLUMNS.items()))),
    ]
    parts += ["## Limits\n", _limits(funnel)]
    return "\n".join(parts)


def _size(rows: int) -> str:
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for limit, name in bounds if rows < limit), "1M<n<10M")


def _pipeline(synthesis: Mapping[str, Any], funnel: Mapping[str, Any]) -> str:
    if synthesis["review"]["mode"] == "none":
        return "Instructions and responses were proposed by the models below and kept **without review**.\n"
    mode, committee = synthesis["review"]["mode"], f"{synthesis['num_reviewers']} reviewers check"
    disputed = {
        "committee": "an adjudicator decides where they disagree; ",
        "majority": "where they disagree, their majority decides; ",
    }.get(mode, "")
    return (
        "Made by the GRA loop (arXiv 2504.12322): for every sample a generator writes keywords, an instruction and a "
        f"response; {'one reviewer checks' if mode == 'single' else committee} the instruction and "
        f"score{'s' * (mode == 'single')} the response on six criteria; {disputed}near-duplicates are dropped.\n\n"
        + REVIEWERS.get(funnel.get("scoring", ""), "")
        + "\n"
    )


def _models(config: Mapping[str, Any]) -> str:
    rows = []
    for model in config["pool"]["models"]:
        path = model.get("path") or model.get("served_name") or ""
        shown = Path(path).name if Path(path).is_absolute() else path
        rows.append([model["name"], shown, model.get("revision") or ""])
    return grid(["name", "weights", "revision"], rows)


def _decisions(config: Mapping[str, Any]) -> str:
    """Every setting of the synthesis, as it was."""
    rows = [["seed", str(config["seed"])]]

    def walk(prefix: str, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                walk(f"{prefix}{key}.", value)
            elif not (isinstance(value, str) and Path(value).is_absolute()):
                rows.append([f"{prefix}{key}", str(value)])

    walk("synthesis.", config["synthesis"])
    return grid(["setting", "value"], rows)


def _rows(samples: list[Sample]) -> str:
    if not samples:
        return "No rows were kept.\n"
    words = {part: fmean(len(getattr(s, part).split()) for s in samples) for part in ("instruction", "response")}
    counts = Counter(sample.domain or "(none)" for sample in samples)
    rows = [[domain, str(n), percent({"value": n / len(samples)})] for domain, n in sorted(counts.items())]
    means = ", ".join(f"{part} {mean:.1f}" for part, mean in words.items())
    return f"{len(samples)} rows; mean words: {means}.\n\n" + grid(["domain", "rows", "%"], rows)


def _limits(funnel: Mapping[str, Any]) -> str:
    kept = funnel.get("steps", {}).get("kept", {})
    known = kept.get("correct_share") is not None
    said = f"{100 * kept['correct_share']:.1f}% of the kept rows are right by an exact check." if known else (
        "Nobody knows how many of these rows are right: they were judged by models alone."
    )  # fmt: skip
    return said + " Models that share a mistake do not find it in each other.\n"
