"""Existing data sets."""

from __future__ import annotations

# fmt: off  (one setting, one line: this file reads as a table)
from dataclasses import dataclass

from gra_train.settings import Section, setting

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
    "cot_collection",
    "esnli",
    "oasst",
    "piqa",
    "winogrande",
    "commonsense_qa",
    "hellaswag",
    "fields",
)


@dataclass(frozen=True)
class DataFile(Section):
    """An existing data set: a file, a Hub name, an earlier run or mini:WHAT."""

    path: str = setting(
        "",
        "file (.jsonl, .jsonl.gz, .json, .parquet), Hub data set (owner/name, owner/name:subset), run folder, or "
        "mini:seeds|gold",
    )
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
