"""`gra-train export`: a synthesised data set as a folder to hand on, in the columns that trainers expect.

    default.jsonl  as it is: id, instruction, response, domain, keywords, summary, source
    chat.jsonl     id, messages: [{role: user, content}, {role: assistant, content}]
    alpaca.jsonl   instruction, input (empty), output
    README.md      the data set card; `datasets.load_dataset(FOLDER, "chat")` opens each by its name

With `--parquet` they are parquet files (`datasets` wants one kind of file in a folder). The folder is complete or not
there. `--push` uploads it to the Hub, with the token of the environment.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gra_train.errors import UserError
from gra_train.records import Sample, read_samples, write_jsonl

ALL = "all"


def _chat(sample: Sample) -> dict[str, Any]:
    turns = (("user", sample.instruction), ("assistant", sample.response))
    return {"id": sample.id, "messages": [{"role": role, "content": text} for role, text in turns]}


def _alpaca(sample: Sample) -> dict[str, Any]:
    return {"instruction": sample.instruction, "input": "", "output": sample.response}


FORMATS: dict[str, Callable[[Sample], dict[str, Any]]] = {"default": Sample.to_dict, "chat": _chat, "alpaca": _alpaca}


def main(arguments: Sequence[str]) -> int:
    """The command. Raises UserError."""
    parser = argparse.ArgumentParser("gra-train export", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="run folder of a synthesis (or its result folder)")
    parser.add_argument("--format", choices=(ALL, *FORMATS), default=ALL, help="which columns (default: all)")
    parser.add_argument("--parquet", action="store_true", help="parquet in place of JSON lines")
    parser.add_argument("--to", type=Path, help="folder to write (default: RUN/export)")
    parser.add_argument("--license", default="unknown", help="of the whole set, for the card (a Hub identifier)")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload to this data set on the Hub (needs HF_TOKEN)")
    parser.add_argument("--public", action="store_true", help="a pushed data set is private unless you say so")
    given = parser.parse_args(arguments)
    if given.push:
        check_push(given.push)
    folder, rows = export(given.run, given.to, which=given.format, parquet=given.parquet, license=given.license)
    print(f"{folder}: {rows} rows ({', '.join(p.name for p in sorted(folder.iterdir()))})")
    if given.push:
        print(push(folder, given.push, private=not given.public))
    return 0


def export(
    run: Path, to: Path | None = None, *, which: str = ALL, parquet: bool = False, license: str = "unknown"
) -> tuple[Path, int]:
    """(the folder written, rows). Raises UserError for what is no finished synthesis."""
    from gra_train.reporting.cards import dataset_card

    result = run / "result" if (run / "result").is_dir() else run
    if not (result / "data.jsonl").is_file() or not (result / "funnel.json").is_file():
        raise UserError(
            f"{run} is not a finished synthesis: expected data.jsonl and funnel.json in it or in its result folder "
            "(the run folder that gra-train synthesize names at its end)."
        )
    folder = to or result.parent / "export"
    ours = {"README.md", *(f"{name}.{kind}" for name in FORMATS for kind in ("jsonl", "parquet"))}
    if others := {p.name for p in folder.iterdir()} - ours if folder.is_dir() else set():
        raise UserError(
            f"--to {folder} holds other files ({min(others)}); give a folder that is new, empty or an earlier export."
        )
    samples = read_samples(result)
    names = list(FORMATS) if which == ALL else [which]
    making = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    configs: list[dict[str, Any]] = []
    for name in names:
        file = making / f"{name}.{'parquet' if parquet else 'jsonl'}"
        (_write_parquet if parquet else write_jsonl)(file, [FORMATS[name](sample) for sample in samples])
        configs.append({"config_name": name, "data_files": file.name})
    configs[0]["default"] = True
    (making / "README.md").write_text(dataset_card(result, configs=configs, license=license))
    shutil.rmtree(folder, ignore_errors=True)
    making.rename(folder)
    return folder, len(samples)


def check_push(name: str) -> str:
    """The token. Raises UserError, before anything is written, for a wrong name or without a token."""
    from huggingface_hub import constants, get_token

    if name.count("/") != 1 or not all(name.split("/")):
        raise UserError(f"--push {name!r}: expected OWNER/NAME, the data set's name on the Hub.")
    token = get_token()
    if not token:
        raise UserError("--push needs a token of the Hub: set HF_TOKEN in the environment, or run `hf auth login`.")
    if constants.HF_HUB_OFFLINE:
        raise UserError("--push needs the network, and HF_HUB_OFFLINE is set: unset it to push.")
    return token


def push(folder: Path, name: str, *, private: bool) -> str:
    """Upload an export; returns its address. Raises UserError where the Hub refuses or cannot be reached."""
    from huggingface_hub import HfApi

    api = HfApi(token=check_push(name))
    try:
        address = api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=name, repo_type="dataset", commit_message="Upload with gra-train")
    except Exception as error:  # the library raises whatever its network layer raises
        raise UserError(
            f"--push {name}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}. "
            f"Nothing is lost: the export is in {folder}."
        ) from None
    return str(address)


def _write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    lists = {"keywords": pa.list_(pa.string()), "messages": pa.list_(turn)}
    columns = list(rows[0]) if rows else []
    schema = pa.schema([(name, lists.get(name, pa.string())) for name in columns])
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, compression="zstd")
