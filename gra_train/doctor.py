"""`gra-train doctor`: what is there, what is missing, and what to do about it.

Imports nothing heavy: versions come from the distributions' metadata, GPUs from nvidia-smi.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from netrc import NetrcParseError, netrc
from pathlib import Path

# fmt: off
NEEDED = ["torch", "transformers", "trl", "peft", "accelerate", "datasets", "deepspeed", "hydra-core", "lm-eval",
          "wandb"]
# fmt: on
"""Distributions that the miniature experiment cannot do without."""
DISK_GB, MEMORY_GB = 2.0, 4.0
_SLURM = ("sbatch", "srun", "scancel", "scontrol")


@dataclass(frozen=True)
class Finding:
    """One line of the report. state: ok, note (something optional is missing) or problem (the miniature cannot run)."""

    state: str
    topic: str
    text: str
    advice: str = ""


def doctor(runs_dir: str = "runs") -> int:
    """Print the report; 0 if the miniature experiment can run here, else 1."""
    sign = {"ok": "  ok ", "note": "note ", "problem": "BAD  "}
    problems = 0
    for finding in findings(runs_dir):
        print(f"{sign[finding.state]} {finding.topic:<12} {finding.text}")
        if finding.advice:
            print(f"      {'':<12} -> {finding.advice}")
        problems += finding.state == "problem"
    print(
        f"{problems} problem(s): mend them first."
        if problems
        else "The miniature can run: gra-train run experiment=mini"
    )
    return 1 if problems else 0


def findings(runs_dir: str = "runs") -> Iterator[Finding]:
    """Everything that is looked at, in the order of the report."""
    yield Finding("ok", "Python", sys.version.split()[0])
    yield from _distributions()
    yield _processors()
    yield _gpu()
    yield _memory()
    yield _runs(Path(runs_dir))
    yield _compiler()
    yield _slurm()
    yield _wandb()
    yield _data()


def missing_for_ops() -> list[str]:
    """What DeepSpeed lacks to compile its CPU ops, each with its Debian package; empty when all is there."""
    missing = []
    if not shutil.which(os.environ.get("CXX", "g++")):
        missing.append("no C++ compiler (Debian: g++)")
    if not shutil.which("ninja") and not (Path(sys.executable).parent / "ninja").exists():
        missing.append("no ninja (Debian: ninja-build)")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append(f"no Python headers (Debian: python{sys.version_info.major}.{sys.version_info.minor}-dev)")
    return missing


def _distributions() -> Iterator[Finding]:
    missing = [name for name in NEEDED if _version(name) is None]
    if missing:
        yield Finding(
            "problem", "packages", f"not installed: {', '.join(missing)}", "make venv (or pip install gra-train)"
        )
    pins = _pins()
    other = [
        f"{name} {here} (tested: {pin})"
        for name, pin in pins.items()
        if (here := _version(name)) is not None and here.split("+")[0] != pin
    ]
    if other:
        text = f"{len(other)} of {len(pins)} pinned packages differ, e.g. {', '.join(other[:3])}"
        yield Finding("note", "versions", text, "rm -r .venv, then make venv, gives the tested versions")
    elif not missing:
        core = ", ".join(f"{name} {_version(name)}" for name in NEEDED[:4])
        yield Finding("ok", "versions", core + (", all as tested" if pins else ""))


def _pins() -> dict[str, str]:
    """constraints.txt of the checkout; empty for an installed package."""
    file = Path(__file__).parents[1] / "constraints.txt"
    lines = file.read_text().splitlines() if file.is_file() else []
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processors() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0]
    if load > cores:
        return Finding("note", "CPU", f"{cores} cores, load {load:.1f}", "other programs are busy: it will take longer")
    return Finding("ok", "CPU", f"{cores} cores")


def _gpu() -> Finding:
    if not shutil.which("nvidia-smi"):
        return Finding("ok", "GPU", "none: small models only (the miniature needs none)")
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("note", "GPU", f"nvidia-smi failed: {error}", "check the driver; CPU works without it")
    if "+cpu" in (_version("torch") or ""):
        return Finding("note", "GPU", _lines(done.stdout), "torch is a CPU build: install a CUDA build")
    return Finding("ok", "GPU", _lines(done.stdout))


def _memory() -> Finding:
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) / 2**20
    except (OSError, KeyError):
        return Finding("note", "memory", "unknown on this system")
    text = f"{free:.1f} GiB free"
    if free < MEMORY_GB:
        return Finding("problem", "memory", text, f"the miniature needs about {MEMORY_GB:.0f} GiB: end other programs")
    return Finding("ok", "memory", text)


def _runs(folder: Path) -> Finding:
    """Can runs be written, and is there room?"""
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free / 1e9
    except OSError as error:
        return Finding("problem", "runs folder", f"{folder}: {error.strerror}", "give another: runs_dir=FOLDER")
    if free < DISK_GB:
        advice = f"the miniature needs about {DISK_GB:.0f} GB: make room, or runs_dir=FOLDER elsewhere"
        return Finding("problem", "runs folder", f"{folder}: {free:.1f} GB free", advice)
    return Finding("ok", "runs folder", f"{folder}: writable, {free:.0f} GB free")


def _compiler() -> Finding:
    missing = missing_for_ops()
    if missing:
        return Finding("note", "compiler", "; ".join(missing), "only DeepSpeed on the CPU (deepspeed=zero2) needs it")
    return Finding("ok", "compiler", "there: DeepSpeed can compile its CPU ops")


def _slurm() -> Finding:
    missing = [name for name in _SLURM if not shutil.which(name)]
    if missing:
        return Finding("ok", "SLURM", "not here (needed on a cluster only)")
    return Finding("ok", "SLURM", "commands found: see slurm/run.sbatch")


def _wandb() -> Finding:
    """Logged in or not; never the key itself."""
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].rstrip("/")
    try:
        logged_in = bool(os.environ.get("WANDB_API_KEY")) or netrc().authenticators(host) is not None
    except (OSError, NetrcParseError):
        logged_in = False
    if logged_in:
        return Finding("ok", "W&B", "logged in")
    return Finding("ok", "W&B", "not logged in: runs are recorded offline ('wandb login' changes that)")


def _data() -> Finding:
    named = os.environ.get("GRA_DATA_DIR")
    if not named:
        return Finding("ok", "GRA_DATA_DIR", "not set (benchmarks' questions then come from the Hub)")
    if not Path(named).is_dir():
        return Finding("note", "GRA_DATA_DIR", f"{named} is no folder", "unset it, or name the folder of data sets")
    return Finding("ok", "GRA_DATA_DIR", named)


def _lines(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())
