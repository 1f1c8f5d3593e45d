"""Dying with the process that started us, whatever kills that one: whoever takes over a run folder must be alone in it.

    python -m gra_train.leash LAUNCHER COMMAND ...      becomes COMMAND, which dies with process LAUNCHER

For torchrun, which nobody else would end when its launcher is killed (kill -9, out of memory); its ranks die with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

TORCHRUN = "GRA_TORCHRUN"
"""Environment variable with the process id of a torchrun on a leash, for its ranks."""
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None) -> None:
    """Be killed as soon as the process that started this one ends (its thread that did, to be exact).

    parent: who that has to be; if it is another by now, ours was gone before the kernel knew, and this process exits.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    launcher, *command = sys.argv[1:]
    die_with_parent(int(launcher))
    os.environ[TORCHRUN] = str(os.getpid())
    os.execvp(command[0], command)  # the kernel keeps what it was told


if __name__ == "__main__":
    main()
