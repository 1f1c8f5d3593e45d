"""The judge: runs tests against a program that lives in another process. A fork server; one JSON line is one job.

A job: {program, tests, entry_points, nonce, command, nested, timeout_s, memory_mb}. `command` starts the guest, or, if
`nested`, a nest (nest.py) that is kept and hatches the guests of all further jobs. The reply: {nonce, reason, detail},
with the nonce only where the last test was passed; reason unavailable is this machine's failure, not the program's.
Names that the tests use and do not define are looked up in the program; a name of a builtin is the builtin, unless it
is one of `entry_points` (a program cannot replace `all`).
Standard library only, so that it starts at once.
"""

import builtins
import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import wire

LONGEST = 8 << 20
"""Bytes of one answer of the guest."""
STARTING_S = 60.0
"""A guest that has not started after so many seconds: this machine is not able to."""


class GuestError(Exception):
    """The program raised something that is no builtin exception."""


class Gone(BaseException):
    """The guest ended, or said what no guest says. Not an Exception: no test may catch it."""


class Nest:
    """A nest of guests, started for the first job."""

    def __init__(self, command: list[str]) -> None:
        self.judge, theirs = socket.socketpair()
        self.process: Any = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env={})
        theirs.close()

    def hatch(self):
        """A guest's pipes: (what it reads, what it writes); None where it cannot be had."""
        its_in, our_out = os.pipe()
        our_in, its_out = os.pipe()
        try:
            socket.send_fds(self.judge, [b"."], [its_in, its_out])
            hatched = self.judge.recv(1)
        except OSError:
            hatched = b""
        os.close(its_in)
        os.close(its_out)
        if hatched == b"y":
            return open(our_out, "wb", 0), open(our_in, "rb", 0)
        os.close(our_out)
        os.close(our_in)
        return None

    def clear(self):
        """Kill the guest. False: the nest is lost."""
        try:
            self.judge.send(b".")
            return self.judge.recv(1) == b"."
        except OSError:
            return False

    def end(self):
        self.judge.close()
        self.process.kill()
        self.process.wait()


class Guest:
    """The other end of the pipes."""

    def __init__(self, command: list[str], pipes: Any = None) -> None:
        self.process: Any = None
        if pipes:
            self.to, self.answers = pipes
        else:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}, bufsize=0)
            self.to, self.answers = self.process.stdin, self.process.stdout
        self._buffer = b""

    def kill(self):
        if self.process:
            self.process.kill()

    def started(self):
        """Whether the guest is there, confined, and has not read its program yet."""
        try:
            return self._line() == wire.READY.encode()
        except (Gone, OSError):
            return False

    def ask(self, request):
        """The value of a request. Raises what the program raised (by name, among the builtins), or Gone."""
        try:
            data = json.dumps(request).encode() + b"\n"
            while data:
                data = data[self.to.write(data) :]
            reply = json.loads(self._line())
            raised = self._error(str(reply["error"]), str(reply.get("text", ""))) if "error" in reply else None
            value = None if raised else wire.decode(reply["value"], lambda number: Handle(self, number))
        except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise Gone(f"the program broke its pipe ({type(error).__name__})") from None
        if raised:
            raise raised
        return value

    def _error(self, name: str, text: str) -> Exception:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            with contextlib.suppress(TypeError):  # UnicodeDecodeError and the like want more than a text
                return kind(text[:2000])
        return GuestError(f"{name}: {text[:2000]}")

    def _line(self):
        while b"\n" not in self._buffer:
            data = self.answers.read(1 << 16)
            if not data:
                raise Gone("the program ended")
            self._buffer += data
            if len(self._buffer) > LONGEST:
                raise Gone("an answer of the program is too long")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


class Handle:
    """An object of the program that is no plain data. Two are equal if they are one; its own opinion is not asked."""

    def __init__(self, guest, number):
        vars(self).update(_guest=guest, _number=number)

    def _do(self, verb, *given):
        return self._guest.ask([verb, *(wire.encode(one, _number) for one in (self, *given))])

    def __call__(self, *args, **kwargs):
        return self._do("call", list(args), kwargs)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self._do("attribute", name)

    def __setattr__(self, name, value):
        self._do("set", name, value)

    def __getitem__(self, key):
        return self._do("item", key)

    def __iter__(self):
        return iter(self._do("list"))

    def __len__(self):
        return self._do("len")

    def __bool__(self):
        return self._do("bool") is True

    def __str__(self):
        return str(self._do("str"))

    __repr__ = __str__

    def __eq__(self, other):
        return isinstance(other, Handle) and other._number == self._number

    __hash__ = None  # type: ignore[assignment]


def _number(value):
    if isinstance(value, Handle):
        return value._number
    raise TypeError(f"a {type(value).__name__} cannot be given to the program")


class Names(dict):
    """Global names of the tests: their own, then builtins, then the program's."""

    def __init__(self, guest, entry_points):
        super().__init__(__name__="tests", __builtins__=builtins)
        self._guest, self._entry_points = guest, entry_points

    def __missing__(self, name):
        if hasattr(builtins, name) and name not in self._entry_points:
            raise KeyError(name)
        found = self._guest.ask(["name", name])  # a KeyError of the program's is a NameError of the tests'
        self[name] = found
        return found


def judge(job, pipes, on_start):
    """(passed, reason, detail). reason: passed, failed (a test), error (the program or a test raised), ended,
    unavailable (no guest could be had). on_start() is called when the program is about to run."""
    try:
        guest = Guest(job["command"], pipes)
        hold(job["memory_mb"])
    except OSError as error:
        return False, "unavailable", f"no process for the guest ({error})"
    try:
        if not guest.started():
            return False, "unavailable", "the guest did not start"
        on_start()
        guest.ask(job["program"])
        exec(compile(job["tests"], "tests", "exec"), Names(guest, job["entry_points"]))
        return True, "passed", ""
    except AssertionError as error:
        return False, "failed", said(error)
    except Gone as gone:
        return False, "ended", str(gone)
    except BaseException as error:
        return False, "error", f"{type(error).__name__}: {said(error)}"
    finally:
        hold(None)
        guest.kill()


def hold(memory_mb):
    """Let this process grow by so much and no more: a program may send a `range` that tests expand. None: no limit."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if memory_mb is None:
        grown = most
    else:
        with open("/proc/self/statm") as sizes:
            grown = int(sizes.read().split()[0]) * resource.getpagesize() + (memory_mb << 20)
    resource.setrlimit(resource.RLIMIT_AS, (grown if most == resource.RLIM_INFINITY else min(grown, most), most))


def said(error):
    """What an exception says: a message may be a Handle, and its program gone."""
    try:
        return str(error)[:500]
    except BaseException:
        return ""


def failure(reason, detail):
    return {"nonce": "", "reason": reason, "detail": detail}


def fork(job, nest=None, pipes=None):
    """Judge in a child with a process group of its own; the reply. The whole tree is killed on time-out, which counts
    from the program's start: the child says "." then, and its reply at the end."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, 0)
            os.close(read)
            if nest:
                nest.judge.close()
            passed, reason, detail = judge(job, pipes, lambda: os.write(write, b"."))
            reply = failure(reason, detail) | {"nonce": job["nonce"] if passed else ""}
            os.write(write, json.dumps(reply).encode()[: 1 << 16])
        finally:
            os._exit(0)
    os.close(write)
    text, deadline = b"", time.monotonic() + STARTING_S
    while True:
        ready, _, _ = select.select([read], [], [], max(0.0, deadline - time.monotonic()))
        if not ready and not text:
            reply = failure("unavailable", f"the guest did not start within {STARTING_S:g} s")
            break
        if not ready:
            reply = failure("timeout", f"not done after {job['timeout_s']:g} s")
            break
        data = os.read(read, 1 << 16)
        if not data:
            reply = json.loads(text[1:] if text[:1] == b"." else text) if text.strip(b".") else death(child)
            break
        if not text:
            deadline = time.monotonic() + job["timeout_s"]
        text += data
    os.close(read)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # the guest too: it dies with its parent
    os.waitpid(child, 0)
    return reply


def death(child):
    """The reply of a judge that died. Killed: by somebody here, or for want of memory; a program cannot reach it. Any
    other end (a crash of Python) came of what the program sent."""
    end = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    if end and end.si_code == os.CLD_KILLED and end.si_status == signal.SIGKILL:
        return failure("unavailable", "the judge was killed")
    return failure("error", "the judge ended")


def nested(job, nest):
    """(reply, the nest for the next job)."""
    nest = nest or Nest(job["command"])
    if not (pipes := nest.hatch()):
        nest.end()
        return failure("unavailable", "no namespaces for the guest of a nest"), None
    reply = fork(job, nest, pipes)
    for pipe in pipes:
        pipe.close()
    if not nest.clear() or reply["reason"] == "unavailable":
        nest.end()
        nest = None
    return reply, nest


def main():
    nest = None
    for line in sys.stdin:
        job = json.loads(line)
        if job["nested"]:
            reply, nest = nested(job, nest)
        else:
            reply = fork(job)
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
