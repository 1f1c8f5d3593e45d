"""Where models and files named in the configuration are, and what identifies their content."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path

from gra_train.errors import UserError, nearest

MINI = "mini:"
_SMALL = 64 * 2**20
_WEIGHTS = {".safetensors", ".bin", ".pt"}


def model_folder(path: str) -> str:
    """The folder of a model: mini:NAME in the package, a local folder (checked), else the name itself (a Hub name).

    Raises UserError for an unknown miniature model and for a folder that holds no model.
    """
    if path.startswith(MINI):
        shipped = Path(__file__).parent / "mini" / "models"
        name = path.removeprefix(MINI)
        known = sorted(p.name for p in shipped.iterdir() if (p / "config.json").is_file()) if shipped.is_dir() else []
        if name not in known:
            raise UserError(f"no miniature model {path!r}.{nearest(name, known)} Known: {', '.join(known) or 'none'}.")
        return str(shipped / name)
    folder = Path(path)
    if not folder.exists():
        if path.count("/") == 1 and not path.startswith((".", "~", "/")):
            return path  # a Hub name; transformers says so if it cannot be reached
        raise UserError(
            f"model path {path!r} does not exist; give a model folder, a Hub name (owner/name) or mini:NAME."
        )
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        raise UserError(f"{path!r} is not a model folder: it has no config.json (nor adapter_config.json).")
    return str(folder)


def adapter_base(path: str) -> str:
    """The base model that an adapter folder names; "" for a folder with weights of its own, or a Hub name.

    A base that is named relative to the adapter's folder (how training saves it) is resolved against it.
    """
    folder = Path(model_folder(path))
    file = folder / "adapter_config.json"
    if not file.is_file() or (folder / "config.json").is_file():
        return ""
    base = str(json.loads(file.read_text())["base_model_name_or_path"])
    return os.path.normpath(folder.absolute() / base) if base.startswith("..") else base


def positions(path: str) -> int | None:
    """Tokens that a model reads and writes together at most: max_position_embeddings of its config.json (of an adapter
    its base's). None where that says nothing, or is not on this machine."""
    from huggingface_hub import try_to_load_from_cache

    if base := adapter_base(path):
        return positions(base)
    name = model_folder(path)
    file = Path(name) / "config.json" if Path(name).is_dir() else try_to_load_from_cache(name, "config.json")
    if not isinstance(file, (str, Path)) or not Path(file).is_file():
        return None
    config = json.loads(Path(file).read_text())
    found = config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")
    return found if isinstance(found, int) else None


@cache
def fingerprint(path: str) -> str:
    """16 hex digits for the content of a file or model folder; a Hub name is hashed as its name.

    Weights above 64 MB count by their header (shapes, names) and size: reading 15 GB at every start would be felt.
    """
    root = Path(model_folder(path)) if path.startswith(MINI) else Path(path)
    digest = hashlib.sha256()
    if not root.exists():
        digest.update(path.encode())
        return digest.hexdigest()[:16]
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file() and p.name != "README.md")
    for file in files:
        digest.update(str(file.relative_to(root)).encode() + b"\0" if file != root else b"")
        size = file.stat().st_size
        with file.open("rb") as stream:
            if size > _SMALL and file.suffix in _WEIGHTS:
                digest.update(str(size).encode() + stream.read(1 << 20))
            else:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
    return digest.hexdigest()[:16]
