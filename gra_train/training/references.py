"""Log-probabilities under the reference model: computed once, kept by content, shared by trainings that need the same.

A file `references/<key>.npz` beside the run folders holds one number per row and column. Its key is a hash over the
reference's weights, every row's tokens in their order and how they were computed: the same key means the same bits. So
a sweep over beta or the learning rate computes them once, and a training that is resumed does not compute them again.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gra_train.errors import UserError
from gra_train.locate import adapter_base, model_folder
from gra_train.training.rows import Row

Table = dict[str, np.ndarray]
"""Column -> (rows,) float64; and `digests`: (rows,) hashes of the rows' tokens."""


def model_digest(path: str) -> str:
    """Hash over every byte of a local model folder and, of an adapter, of its base; "" for a Hub name."""
    folder = Path(model_folder(path))
    if not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".md"):
        digest.update(str(file.relative_to(folder)).encode() + b"\0")
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    base = adapter_base(path)
    return hashlib.sha256(digest.digest() + model_digest(base).encode()).hexdigest() if base else digest.hexdigest()


def row_digest(row: Row) -> str:
    """Hash over a row's token ids, by name."""
    digest = hashlib.sha256()
    for name in sorted(n for n in row if n.endswith("_ids")):
        ids = np.asarray(row[name], dtype=np.int32)
        digest.update(f"{name}:{len(ids)}:".encode() + ids.tobytes())
    return digest.hexdigest()[:32]


def key(model: str, digests: Sequence[str], how: Mapping[str, object]) -> str:
    """The name of a table: reference, rows in their order, and how (columns, batch, precision, device)."""
    told = "\n".join([model, *digests, *(f"{name}={how[name]}" for name in sorted(how))])
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def write(file: Path, table: Table) -> None:
    """Write to a temporary name, then rename into place."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **table)
    temporary.replace(file)


def read(file: Path) -> Table | None:
    """The table, None if there is none. Raises UserError for a file that cannot be read."""
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as held:
            return dict(held)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} is broken ({error}): delete it, and the references are computed again.") from None


def fill(rows: Sequence[Row], digests: Sequence[str], table: Table, columns: Sequence[str], where: str) -> None:
    """Set `columns` in every row. Raises UserError naming the first row that the table lacks."""
    known = {digest: i for i, digest in enumerate(table["digests"].tolist())}
    for number, (row, digest) in enumerate(zip(rows, digests, strict=True)):
        place = known.get(digest)
        values = [float(table[name][place]) for name in columns] if place is not None else [float("nan")]
        if not all(np.isfinite(values)):
            raise UserError(
                f"{where} has no reference log-probability for pair {number} (tokens {digest}): "
                + ("it is not finite there; look for a broken reference model." if place is not None else "delete the "
                   "file, and the references are computed again.")
            )  # fmt: skip
        row.update(zip(columns, values, strict=True))
