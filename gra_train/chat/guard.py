"""Starts a server and sees that it ends: `python guard.py LOG COMMAND...`, a process of its own beside each server.

However the run ends, nobody is left on a GPU: the guard ends when its standard input is closed or its parent is gone
(kill -9 included), and takes the server and everything the server started with it; the kernel kills the server when the
guard itself is killed. The server's output goes to LOG, without the values of secret environment variables.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)(_|$)", re.IGNORECASE)
"""Names of environment variables whose values are nobody's business."""
GRACE_S = 5.0
"""Seconds from the first word to the last."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> int:
    parent = os.getppid()
    ends = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: ends.set())
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what the server leaves behind becomes ours
    server = subprocess.Popen(
        sys.argv[2:],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
    )
    assert server.stdout is not None
    copier = threading.Thread(target=_copy, args=(server.stdout, Path(sys.argv[1])), daemon=True)
    copier.start()
    while server.poll() is None and not ends.is_set() and os.getppid() == parent:
        if select.select([sys.stdin], [], [], 0.5)[0] and not os.read(0, 4096):
            break
    code = server.poll()
    _end(server)
    copier.join(2)
    return 0 if code is None else code if code >= 0 else 128 - code


def _copy(source: IO[bytes], log: Path) -> None:
    secrets = [v.encode() for k, v in os.environ.items() if SECRET.search(k) and len(v) >= 6]
    with log.open("ab", buffering=0) as file:
        for line in source:
            for secret in secrets:
                line = line.replace(secret, b"***")
            with suppress(OSError):  # a full disk must not stop the server
                file.write(line)


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ask the server's process group to end; after a while, or if the server is gone, kill whatever is left."""
    if server.poll() is None:
        _signal_group(server.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(GRACE_S)
    _signal_group(server.pid, signal.SIGKILL)
    server.wait()
    deadline = time.monotonic() + GRACE_S
    while (left := _children()) and time.monotonic() < deadline:
        for child in left:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _children() -> list[int]:
    """Children of this process: the server's orphans are among them."""
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main())
