"""The side of the package: starting judges, limits, and whether this machine can run programs safely at all.

Programs run as guests of a nest (nest.py) where a process without privileges may make namespaces; elsewhere (a system
may forbid it) in a bubblewrap of their own each, which is as safe and many times slower.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from gra_train.errors import UserError

HERE = Path(__file__).parent
INSIDE = "/guest"
"""Where the guest's own files are, inside."""
_FIRST_USER, _USERS = 70_000, 100_000
"""As root, every program runs as a user of its own, so that its process limit counts nobody else's."""
_PAUSES = (0.2, 1.0)
"""Seconds before a program is tried again that could not be run for want of something here."""


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    seconds: wall clock, from its start. cpu_s, memory_mb, file_mb: of each of its processes (threads count among them),
    so that all together hold at most processes x memory_mb, and scratch_mb of files. The judge of a program may grow by
    memory_mb too.
    """

    seconds: float = 10.0
    cpu_s: int = 10
    memory_mb: int = 512
    processes: int = 4
    file_mb: int = 16
    scratch_mb: int = 32


@dataclass(frozen=True)
class Verdict:
    """What came of a program.

    reason: passed; failed (a test said no); error (an exception, of the program or of a test, or a value for which the
    judge had no memory); ended (the program left, or broke its pipe); timeout. What this machine did wrong is no
    verdict: `Sandbox.check` tries again, then raises.
    """

    passed: bool
    reason: str
    detail: str = ""


@cache
def unavailable() -> str:
    """Why programs cannot be run safely on this machine; "" where they can. Tried out once."""
    if not sys.platform.startswith("linux"):
        return "the sandbox needs Linux"
    if not shutil.which("bwrap"):
        return "bubblewrap is not installed (Debian: apt-get install bubblewrap)"
    try:
        with Sandbox(workers=1) as sandbox:
            verdict = sandbox.attempt("def f(): return 1", "assert f() == 1")
    except OSError as error:
        return str(error)
    return "" if verdict.passed else f"bubblewrap does not start here ({verdict.reason}: {verdict.detail})"


@cache
def nests_work() -> bool:
    """Whether a nest can hatch here. Tried out once."""
    if not sys.platform.startswith("linux") or not shutil.which("bwrap"):
        return False
    with Sandbox(workers=1, nested=True) as trial:
        return trial.attempt("def f(): return 1", "assert f() == 1").passed


class Sandbox:
    """Judges that wait for programs. Use as a context manager; `check` may be called from several threads.

    workers: programs at a time (default: one for each core). confined=False runs programs with limits alone, without
    the sandbox: for machines where there is none, on the user's word. nested: whether guests come from a nest (default:
    where that works).
    """

    def __init__(self, limits: Limits = Limits(), *, workers: int | None = None, confined: bool = True,
                 nested: bool | None = None) -> None:  # fmt: skip
        self.limits, self.confined = limits, confined
        self._nested = confined and (nests_work() if nested is None else nested)
        self.workers = workers or len(os.sched_getaffinity(0))
        self._idle: list[subprocess.Popen[str]] = []
        self._lock = threading.Lock()
        self._number = secrets.randbelow(_USERS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            for judge in self._idle:
                _end(judge)
            self._idle.clear()

    def check(self, program: str, tests: str, *, entry_points: Sequence[str] = ()) -> Verdict:
        """Whether `tests` (Python that asserts) run to their end against `program`.

        entry_points: names that are the program's even where a builtin has the same name.
        Raises UserError where the program could not be run, three times: no program is wrong because of a machine.
        """
        for pause in (*_PAUSES, None):
            verdict = self.attempt(program, tests, entry_points=entry_points)
            if verdict.reason != "unavailable":
                return verdict
            if pause:
                time.sleep(pause)
        raise UserError(
            f"a program could not be run, {len(_PAUSES) + 1} times: {verdict.detail}. This machine lacks memory, "
            "processes or namespaces, so the program was not marked. Free them, or run fewer things beside it, and run "
            "again: answers that were written are kept."
        )

    def attempt(self, program: str, tests: str, *, entry_points: Sequence[str] = ()) -> Verdict:
        """One try of `check`; reason "unavailable" where this machine did not let the program run to a verdict."""
        nonce = secrets.token_hex(16)
        job = {
            "program": program,
            "tests": tests,
            "entry_points": list(entry_points),
            "nonce": nonce,
            "command": self._command(),
            "nested": self._nested,
            "timeout_s": self.limits.seconds,
            "memory_mb": self.limits.memory_mb,
        }
        judge = self._take()
        try:
            assert judge.stdin is not None
            assert judge.stdout is not None
            with suppress(BrokenPipeError):
                print(json.dumps(job), file=judge.stdin, flush=True)
            line = judge.stdout.readline()
            reply = json.loads(line) if line else {}
        except BaseException:
            _end(judge)
            raise
        if not reply:
            _end(judge)
            return Verdict(False, "unavailable", "the judge was killed")
        with self._lock:
            self._idle.append(judge)
        passed = secrets.compare_digest(reply.get("nonce", ""), nonce)
        return Verdict(passed, reply["reason"], reply["detail"])

    def check_all(
        self, jobs: Iterable[tuple[str, str, Sequence[str]]], *, on_done: Callable[[int], None] = lambda n: None
    ) -> list[Verdict]:
        """Verdicts of (program, tests, entry_points) in order, `workers` at a time; on_done(1) after each."""

        def one(job: tuple[str, str, Sequence[str]]) -> Verdict:
            verdict = self.check(job[0], job[1], entry_points=job[2])
            on_done(1)
            return verdict

        with ThreadPoolExecutor(self.workers) as threads:
            return list(threads.map(one, jobs))

    def _take(self) -> subprocess.Popen[str]:
        with self._lock:
            while self._idle:
                judge = self._idle.pop()
                if judge.poll() is None:
                    return judge
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(HERE / "judge.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={},
        )  # fmt: skip

    def _command(self) -> list[str]:
        """The command line of one guest."""
        limits, root = self.limits, os.geteuid() == 0
        with self._lock:
            self._number += 1
            user = _FIRST_USER + self._number % _USERS if root else 0
        told: dict[str, Any] = {
            "user": user,
            "confined": self.confined,
            "resources": {
                "RLIMIT_AS": limits.memory_mb << 20,
                "RLIMIT_CPU": limits.cpu_s,
                "RLIMIT_FSIZE": limits.file_mb << 20,
                "RLIMIT_NPROC": limits.processes + (self._nested or not root),  # its parent is of the same user
                "RLIMIT_NOFILE": 64,
                "RLIMIT_CORE": 0,
            },
        }
        told["scratch_mb"] = limits.scratch_mb
        guest = [_python(), "-I", "-S", "-B"]
        if not self.confined:
            told["resources"].pop("RLIMIT_NPROC")  # it would count the user's other processes
            return [*guest, str(HERE / "guest.py"), json.dumps(told | {"user": 0})]
        program = "nest.py" if self._nested else "guest.py"
        return [*_bubblewrap(root, limits.scratch_mb), *guest, f"{INSIDE}/{program}", json.dumps(told)]


def _bubblewrap(root: bool, scratch_mb: int) -> list[str]:
    """Namespaces of its own for everything; nothing of the host but Python's files, read-only."""
    words = ["bwrap", "--die-with-parent", "--new-session", "--clearenv", "--unshare-pid", "--unshare-net",
             "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL"]  # fmt: skip
    # As root the guest leaves root by itself; else a user namespace gives bubblewrap what it needs.
    words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if root else ["--unshare-user"]
    for folder in ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache"):
        if Path(folder).is_symlink():
            words += ["--symlink", os.readlink(folder), folder]
        elif Path(folder).exists():
            words += ["--ro-bind", folder, folder]
    for folder in _prefixes():
        for parent in reversed(Path(folder).parents[:-1]):
            words += ["--perms", "0755", "--dir", str(parent)]
        words += ["--ro-bind", folder, folder]
    words += ["--perms", "0755", "--dir", INSIDE]
    for name in ("guest.py", "nest.py", "seccomp.py", "wire.py"):
        words += ["--ro-bind", str(HERE / name), f"{INSIDE}/{name}"]
    words += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    words += ["--perms", "1777", "--size", str(scratch_mb << 20), "--tmpfs", "/tmp", "--remount-ro", "/"]
    return [*words, "--"]


@cache
def _python() -> str:
    """The interpreter itself, not a virtual environment's link to it: programs see the standard library alone."""
    return str(Path(sys.executable).resolve())


@cache
def _prefixes() -> tuple[str, ...]:
    """Folders that the interpreter needs beside /usr."""
    found = {str(Path(p).resolve()) for p in (sys.base_prefix, sys.base_exec_prefix)}
    return tuple(sorted(p for p in found if not (p == "/usr" or p.startswith("/usr/"))))


def _end(judge: subprocess.Popen[str]) -> None:
    judge.kill()
    judge.wait()
    for stream in (judge.stdin, judge.stdout):
        if stream:
            with suppress(BrokenPipeError):
                stream.close()
