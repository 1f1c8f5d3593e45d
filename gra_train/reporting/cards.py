"""The card of a synthesised data set: README.md in the Hub's format, made from what the run folder says.

Deterministic: no dates, no paths of this machine.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gra_train.records import read_jsonl
from gra_train.reporting.markup import grid, percent
from gra_train.reporting.reports import gather
from gra_train.reporting.table import REVIEWERS
from gra_train.runs import read_json
from gra_train.schema import DataFile, Model, Synthesis
from gra_train.settings import build

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


DEFAULT = ({"config_name": "default", "data_files": "data.jsonl"},)
UNKNOWN = "unknown"


def dataset_card(result: Path, *, configs: Sequence[Mapping[str, Any]] = DEFAULT, license: str = UNKNOWN) -> str:
    """The card's text. configs: the files beside it, as the Hub and `datasets.load_dataset` know them.

    license: of the whole; nothing is concluded from the licences of its parts, which the card lists.
    """
    import yaml

    frozen = yaml.safe_load((result.parent / "config.yaml").read_text())
    config = frozen["config"]
    rows = _Rows.read(result)
    funnel = read_json(result / "funnel.json") or {}
    name = f"{config['pool'].get('name') or 'pool'}: {rows.count} synthesised instructions"
    head = {
        "pretty_name": name,
        "license": license,
        "tags": ["synthetic", "gra-train"],
        "task_categories": ["text-generation"],
        "size_categories": [_size(rows.count)],
        "configs": [dict(one) for one in configs],
    }
    parts = [
        "---\n" + yaml.safe_dump(head, sort_keys=False, allow_unicode=True) + "---\n",
        f"# {name}\n",
        _pipeline(config["synthesis"], funnel),
        "## Models\n",
        _models(config),
        "## Seeds\n",
        _seeds(frozen, result),
        "## Decisions\n",
        _decisions(config),
    ]
    for report in gather({"synthesis": result}):
        parts += [f"## {report['title']}\n", grid(report["columns"], report["rows"]), report["note"] + "\n"]
    parts += [
        "## Rows\n",
        _rows(rows),
        "## Columns\n",
        grid(["column", "what it holds"], list(map(list, COLUMNS.items()))),
    ]
    parts += ["## Contamination\n", _contamination(read_json(result / "contamination.json"))]
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
    models = [build(Model, model) for model in config["pool"]["models"]]
    rows = [[m.name, _shown(m.path or m.served_name), m.revision, m.license or UNKNOWN] for m in models]
    return grid(["name", "weights", "revision", "licence"], rows)


def _seeds(frozen: Mapping[str, Any], result: Path) -> str:
    """Where D(0) came from, as the run that annotated it says."""
    import yaml

    run = result.parent.parent / frozen.get("inputs", {}).get("seeds", "")
    if not (run / "config.yaml").is_file() or run == result.parent.parent:
        return "Unknown: the run that annotated them is not at hand.\n"
    seeds = build(DataFile, yaml.safe_load((run / "config.yaml").read_text())["config"]["seeds"])
    count = (read_json(run / "result" / "annotation.json") or {}).get("seeds", UNKNOWN)
    return grid(["seeds", "rows", "licence"], [[_shown(seeds.path), str(count), seeds.license or UNKNOWN]])


def _contamination(report: Mapping[str, Any] | None) -> str:
    if not report:
        return "The rows were compared with no benchmark's questions (synthesis.decontaminate.against).\n"
    said = (
        f"Rows that share {report['ngram']} words in a row with a benchmark's question were dropped (compared: "
        f"{'instruction and response' if report['text'] == 'both' else report['text']}). Questions of fewer words "
        "cannot be found this way.\n\n"
    )
    rows = [
        [name, str(one["questions"]), str(one["too_short"]), str(one["dropped"])]
        for name, one in report["benchmarks"].items()
    ]
    missing = f"\nNot compared, their questions were not at hand: {', '.join(report['missing'])}.\n"
    return (
        said + grid(["benchmark", "questions", "too short", "dropped rows"], rows) + missing * bool(report["missing"])
    )


def _shown(value: Any) -> str:
    """A setting's value without the folders of this machine."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    prefix, colon, path = str(value).rpartition(":")
    return f"{prefix}{colon}{Path(path).name}" if isinstance(value, str) and Path(path).is_absolute() else str(value)


def _decisions(config: Mapping[str, Any]) -> str:
    """Every setting of the synthesis that could change its result, as it was."""
    rows = [["seed", str(config["seed"])]]
    effort = {f.name for f in dataclasses.fields(Synthesis) if not f.metadata["identity"]}

    def walk(prefix: str, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                walk(f"{prefix}{key}.", value)
            elif key not in ("folder", "license"):  # a place on this machine; told elsewhere
                rows.append([f"{prefix}{key}", _shown(value)])

    walk("synthesis.", {key: value for key, value in config["synthesis"].items() if key not in effort})
    return grid(["setting", "value"], rows)


@dataclass
class _Rows:
    """What the card says of the rows; they are read one by one, never held."""

    count: int = 0
    domains: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, result: Path) -> _Rows:
        found = cls()
        for row in read_jsonl(result / "data.jsonl"):
            found.count += 1
            found.domains[row.get("domain") or "(none)"] += 1
            found.words.update({part: len(row[part].split()) for part in ("instruction", "response")})
        return found


def _rows(rows: _Rows) -> str:
    if not rows.count:
        return "No rows were kept.\n"
    table = [[domain, str(n), percent({"value": n / rows.count})] for domain, n in sorted(rows.domains.items())]
    means = ", ".join(f"{part} {words / rows.count:.1f}" for part, words in rows.words.items())
    return f"{rows.count} rows; mean words: {means}.\n\n" + grid(["domain", "rows", "%"], table)


def _limits(funnel: Mapping[str, Any]) -> str:
    kept = funnel.get("steps", {}).get("kept", {})
    known = kept.get("correct_share") is not None
    said = f"{100 * kept['correct_share']:.1f}% of the kept rows are right by an exact check." if known else (
        "Nobody knows how many of these rows are right: they were judged by models alone."
    )  # fmt: skip
    return said + " Models that share a mistake do not find it in each other.\n"
