"""Where a result came from: code revision with its uncommitted changes, versions, machine."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import gra_train

PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "deepspeed",
    "datasets",
    "lm_eval",
    "tokenizers",
    "numpy",
)


@cache
def revision() -> str:
    """`<commit>` or `<commit>+<hash of uncommitted changes>` of a checkout; the version of an installed package."""
    here = Path(__file__).parent
    head = _git("rev-parse", "HEAD", cwd=here)
    if not head:
        return gra_train.__version__
    changes = diff()
    import hashlib

    return head[:12] + (f"+{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else "")


@cache
def diff() -> str:
    """Uncommitted changes of the package and its configuration."""
    root = Path(__file__).parent.parent
    return _git("diff", "HEAD", "--", "gra_train", "conf", cwd=root) if (root / ".git").exists() else ""


@cache
def stamp() -> dict[str, Any]:
    """Provenance of whatever is made now."""
    return {
        "revision": revision(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "host": platform.node(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str, cwd: Path) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
