"""Real SLURM daemons (munged, slurmctld, slurmd) in a temporary folder, for one test session."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
DAEMONS = ("munged", "slurmctld", "slurmd")


@dataclass(frozen=True)
class Slurm:
    """A running SLURM of one node; `folder` holds its logs, state and the jobs' output."""

    folder: Path
    environ: dict[str, str]

    def run(self, *command: str, **environ: str) -> str:
        done = subprocess.run(
            command,
            env=self.environ | environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def sbatch(self, *arguments: str, **environ: str) -> str:
        return self.run("sbatch", "--parsable", *arguments, **environ)

    def job(self, job: str) -> dict[str, str]:
        """What scontrol says about a job."""
        return dict(re.findall(r"(\w+)=(\S*)", self.run("scontrol", "-o", "show", "job", job)))

    def wait(
        self, job: str, *, seconds: float = 120, until: Callable[[Mapping[str, str]], bool] | None = None
    ) -> Mapping[str, str]:
        """Wait until a job has ended (or `until` holds) and return what scontrol says about it then."""
        until = until or (
            lambda state: state["JobState"] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        )
        end = time.monotonic() + seconds
        while not until(state := self.job(job)):
            assert time.monotonic() < end, f"job {job} after {seconds} s: {state}\n{self.output()}"
            time.sleep(0.5)
        return state

    def output(self) -> str:
        """All logs, for the message of a failing test."""
        files = [*self.folder.glob("slurm-*.out"), *self.folder.rglob("log.txt"), *self.folder.glob("log/*.log")]
        return "\n".join(f"--- {file}\n{file.read_text(errors='replace')[-4000:]}" for file in files)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    missing = [name for name in DAEMONS if not _which(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (Debian: slurm-wlm, munge)")
    folder = Path(tempfile.mkdtemp(prefix="gra-slurm-"))  # munge refuses sockets with long or open paths
    folder.chmod(0o755)
    for name in ("run", "log", "spool", "state"):
        (folder / name).mkdir()
    cluster = Slurm(
        folder,
        {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "GRA_HOME": str(ROOT),
            "GRA_JOBS": str(folder / "jobs"),
        },
    )
    try:
        _start(cluster)
        yield cluster
    finally:
        _stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _start(cluster: Slurm) -> None:
    folder = cluster.folder
    fill = {
        "DIR": str(folder),
        "HOST": socket.gethostname().split(".")[0],
        "USER": getpass.getuser(),
        "CPUS": str(os.cpu_count()),
        "CTLD_PORT": str(_free_port()),
        "SLURMD_PORT": str(_free_port()),
    }
    template = (Path(__file__).parent / "slurm.conf.in").read_text()
    (folder / "slurm.conf").write_text(re.sub(r"@([A-Z]\w*)@", lambda match: fill[match[1]], template))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    run, log = folder / "run", folder / "log"
    _daemon(
        *(
            _which("munged"),
            "--force",
            f"--key-file={key}",
            f"--socket={run}/munge.socket",
            f"--pid-file={run}/munged.pid",
        ),
        *(f"--log-file={log}/munged.log", f"--seed-file={folder}/munge.seed"),
    )
    _daemon(_which("slurmctld"), "-f", str(folder / "slurm.conf"))
    _daemon(_which("slurmd"), "-f", str(folder / "slurm.conf"))
    end = time.monotonic() + 60
    while (
        "idle"
        not in subprocess.run(
            ["sinfo", "-h", "-o", "%T"], env=cluster.environ, capture_output=True, text=True, check=False
        ).stdout
    ):
        assert time.monotonic() < end, f"SLURM did not start\n{cluster.output()}"
        time.sleep(0.3)


def _daemon(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def _stop(folder: Path) -> None:
    pids = [folder / "run" / f"{name}.pid" for name in ("slurmd", "slurmctld", "munged")]
    running = {int(file.read_text()) for file in pids if file.is_file()}
    for kind in (signal.SIGTERM, signal.SIGKILL):
        for pid in running:
            with suppress(ProcessLookupError):
                os.kill(pid, kind)
        end = time.monotonic() + 10
        while running and time.monotonic() < end:
            time.sleep(0.1)
            running = {pid for pid in running if psutil.pid_exists(pid)}


def _which(name: str) -> str:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or ""


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
