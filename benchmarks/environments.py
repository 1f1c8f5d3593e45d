"""An environment of its own for the server and for each peer, built on demand from pinned requirements.

benchmarks/.venvs/NAME; peers/NAME/requirements.txt says what is in it. Nothing here is installed beside gra_train.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PEERS = ("distilabel", "curator", "data_designer")


class Unavailable(Exception):
    """A peer that cannot be installed; says why, in pip's words."""


def python_of(name: str) -> Path:
    """The interpreter of peer `name`'s environment (or of "stub"), which is built if it is missing or out of date.

    Raises Unavailable if pip cannot install it.
    """
    requirements = HERE / "peers" / name / "requirements.txt"
    folder = HERE / ".venvs" / name
    python, done = folder / "bin" / "python", folder / "requirements.txt"
    if done.is_file() and done.read_text() == requirements.read_text():
        return python
    print(f"building {folder.relative_to(HERE.parent)} ...", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode:
        errors = [line for line in installed.stderr.splitlines() if line.startswith("ERROR")]
        raise Unavailable(errors[-1][:300] if errors else installed.stderr.strip()[-300:])
    done.write_text(requirements.read_text())
    return python
