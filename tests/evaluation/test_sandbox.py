"""Programs that a model wrote: right ones pass, wrong ones fail, and hostile ones get nothing, not even a pass."""

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from gra_train.errors import UserError
from gra_train.evaluation.sandbox import Limits, Sandbox, host, nests_work, seccomp, unavailable, wire

pytestmark = pytest.mark.sandbox
CPU = 100_000 + os.getpid()
TESTS = "assert f(2) == 3\nassert all([f(5) == 6])"
RIGHT = "def f(x):\n    return x + 1\n"


LIMITS = Limits(seconds=8, cpu_s=CPU, memory_mb=256, processes=8, file_mb=4, scratch_mb=8)


@pytest.fixture(scope="module", params=["nest", "alone"])
def sandbox(request):
    """Guests of a nest, and programs with a bubblewrap of their own."""
    if reason := unavailable():
        pytest.skip(reason)
    if request.param == "nest" and not nests_work():
        pytest.skip("no namespaces for processes without privileges here")
    with Sandbox(LIMITS, nested=request.param == "nest") as found:
        yield found


@pytest.fixture(scope="module", params=["nest", pytest.param("alone", marks=pytest.mark.slow)])
def impatient(request):
    if reason := unavailable():
        pytest.skip(reason)
    if request.param == "nest" and not nests_work():
        pytest.skip("no namespaces for processes without privileges here")
    with Sandbox(replace(LIMITS, seconds=3), nested=request.param == "nest") as found:
        yield found


def test_right_passes_and_wrong_fails(sandbox):
    assert sandbox.check(RIGHT, TESTS).passed
    wrong = sandbox.check("def f(x):\n    return x + 2\n", TESTS)
    assert (wrong.passed, wrong.reason) == (False, "failed")
    assert sandbox.check("def f(x:\n", TESTS).detail.startswith("SyntaxError")
    assert sandbox.check("def g(x): return x", TESTS).detail.startswith("NameError")


FAKES = {
    "exit before the tests": "import os\nos._exit(0)\n",
    "exit in a test": "import os\ndef f(x):\n    os._exit(0)\n",
    "SystemExit": "raise SystemExit(0)\n",
    "patched builtins": "import builtins\nbuiltins.all = lambda x: True\ndef f(x):\n    return 3\n",
    "a function named all": "def all(x):\n    return True\ndef f(x):\n    return 3\n",
    "equals everything": "class E(int):\n    def __eq__(s, o): return True\ndef f(x):\n    return E()\n",
    "equal object": "class E:\n    def __eq__(s, o): return True\ndef f(x):\n    return E()\n",
    "patched AssertionError": "import builtins\nbuiltins.AssertionError = ValueError\ndef f(x):\n    return 0\n",
    "speaks for the judge": "import os\nfor n in range(3, 20):\n    try: os.write(n, b'{\"reason\": \"passed\"}\\n')\n"
    "    except OSError: pass\ndef f(x):\n    return 0\n",
    "reads frames": "import sys\ndef f(x):\n    n = sys._getframe()\n    while n.f_back: n = n.f_back\n"
    "    return str(n.f_globals)\n",
    "lies on the pipe": "import os, gc, io\nfor o in gc.get_objects():\n    if isinstance(o, io.TextIOWrapper):\n"
    "        try: print('{\"value\": {\"q\": 1}}', file=o, flush=True)\n        except Exception: pass\n"
    "def f(x):\n    return 0\n",
}  # fmt: skip


@pytest.mark.parametrize("name", FAKES)
def test_success_cannot_be_faked(sandbox, name):
    assert not sandbox.check(FAKES[name], TESTS).passed
    assert sandbox.check(RIGHT, TESTS).passed, "the judge goes on"


BOMBS = {
    "fork": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n",
    "memory": "x = []\nwhile True: x.append(bytearray(1 << 24))\n",
    "endless output": "while True: print('x' * 65536)\n",
    "endless answer": "def f(x):\n    return 'x' * (50 << 20)\n",
    "deep answer": "def f(x):\n    v = []\n    for _ in range(5000): v = [v]\n    return v\n",
    "busy": "while True: pass\n",
    "sleeps": "import time\ntime.sleep(1000)\n",
    "ignores signals": "import signal, time\nfor s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n"
    "    except Exception: pass\nwhile True: time.sleep(1)\n",
    "daemon": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(1000)\n"
    "    os._exit(0)\ndef f(x):\n    return 0\n",
    "big file": "f = open('/tmp/x', 'wb')\nwhile True: f.write(bytes(1 << 20))\n",
    "many files": "i = 0\nwhile True:\n    i += 1\n    open(f'/tmp/{i}', 'wb').write(bytes(1 << 20))\n",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_and_leave_nothing(impatient, name):
    started = time.monotonic()
    assert not impatient.check(BOMBS[name], TESTS).passed
    assert time.monotonic() - started < 4 * impatient.limits.seconds
    deadline = time.monotonic() + 20
    while (left := guests()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, "a process of the program is still there"


def guests():
    """Processes of the programs of this test session: no other has its CPU limit; a nest is one level above them."""
    mark, found = f'"RLIMIT_CPU": {CPU}'.encode(), []
    levels = len(numbers("self"))
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            deep = len(numbers(folder.name)) - levels
        except OSError:
            continue
        found += [folder.name] if mark in words and deep >= (2 if b"nest.py" in words else 1) else []
    return found


def numbers(process):
    """A process's numbers, one for each level of process namespaces."""
    return re.search(r"NSpid:(.*)", Path(f"/proc/{process}/status").read_text())[1].split()


def test_a_running_program_is_seen(impatient):
    """Or the test above would prove nothing."""
    with ThreadPoolExecutor(1) as thread:
        verdict = thread.submit(impatient.check, BOMBS["sleeps"], TESTS)
        while not (there := guests()) and not verdict.done():
            time.sleep(0.05)
        assert there


INSIDE = """
import ctypes, glob, os, socket
def capabilities():
    sets = (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capget((ctypes.c_uint32 * 2)(0x20080522, 0), sets) == 0
    return list(sets)
def gains():
    return ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) == 1 or os.getuid() == 0
"""


def seen(sandbox, expression, before=INSIDE):
    """What a program sees: the value of an expression inside."""
    return sandbox.check(f"{before}\ndef f():\n    return {expression}\n", "assert False, repr(f())").detail


def test_environment_and_files_of_the_host_are_not_there(sandbox, monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_TOKEN", "canary-7531")
    assert "canary" not in seen(sandbox, "dict(os.environ)")
    assert "canary" not in seen(sandbox, "[open(p, 'rb').read() for p in glob.glob('/proc/[0-9]*/environ')]")
    (tmp_path / "mine").write_text("x")
    assert "FileNotFoundError" in seen(sandbox, f"open({str(tmp_path / 'mine')!r}).read()")
    assert "FileNotFoundError" in seen(sandbox, f"os.listdir({str(Path(__file__).parents[2])!r})")
    assert re.match("(FileNotFound|Permission)Error", seen(sandbox, "open('/etc/passwd').read()"))
    home = Path.home()
    there = seen(sandbox, f"os.listdir({str(home)!r}) if os.path.isdir({str(home)!r}) else []")
    assert len(eval(there)) <= 1, "at most the way to the interpreter"


def test_nothing_can_be_written_but_scratch(sandbox):
    written = (
        "/usr/x",
        "/x",
        "/guest/x",
        sys.base_prefix + "/x",
        "/dev/x",
        "/dev/shm/x",
        "/proc/sys/kernel/core_pattern",
    )
    for place in written:
        assert re.match("(OSError|PermissionError|FileNotFoundError)", seen(sandbox, f"open({place!r}, 'w')")), place
    assert seen(sandbox, "open('/tmp/x', 'w').write('1')") == "1"


def test_nothing_goes_from_one_program_to_the_next(sandbox):
    """The same nest hatches both."""
    places = "('/tmp', '/dev/shm', '/dev', '/run', '/var/tmp', '/guest')"
    leave = f"[open(d + '/left', 'w').write('x') for d in {places} if os.access(d, 2)]"
    assert seen(sandbox, leave) == "[1]", "scratch is the only place"
    assert seen(sandbox, "os.listdir('/tmp')") == "[]"
    assert sandbox.check(RIGHT + "import math, random\nmath.pi = 3\nrandom.random = None", TESTS).passed
    assert seen(sandbox, "(__import__('math').pi > 3.1, __import__('random').random())").startswith("(True, 0.")


def test_the_nest_cannot_be_reached(sandbox):
    """Neither by number, nor by its socket: a guest holds its two pipes and nothing else."""
    reached = "[p for p in range(2, 300) if p != os.getpid() and not _dead(p)]"
    program = f"{INSIDE}\ndef _dead(p):\n    try: os.kill(p, 9)\n    except ProcessLookupError: return True\n"
    program += f"def f():\n    return {reached}\n"
    assert sandbox.check(program, "assert f() == []").passed
    kinds = "sorted({os.fstat(x).st_mode & 0o170000 for x in range(64) if _open(x)})"
    program = f"{INSIDE}\ndef _open(x):\n    try: os.fstat(x); return True\n    except OSError: return False\n"
    program += f"def f():\n    return {kinds}\n"
    assert sandbox.check(program, "import stat\nassert f() == sorted({stat.S_IFIFO, stat.S_IFCHR})").passed
    assert sandbox.check(RIGHT, TESTS).passed


def test_no_network(sandbox):
    reached = "socket.create_connection(({0!r}, {1}), 1)"
    with subprocess.Popen(
        [sys.executable, "-c", "import socket,sys; s=socket.create_server(('127.0.0.1',0)); print(s.getsockname()[1],"
         "flush=True); sys.stdin.read()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        port = int(server.stdout.readline())
        assert re.match("(ConnectionRefused|OSError|Timeout)", seen(sandbox, reached.format("127.0.0.1", port)))
        server.stdin.close()
    assert re.match("(OSError|Timeout)", seen(sandbox, reached.format("192.0.2.1", 80)))


def test_no_process_of_the_host_can_be_seen_or_killed(sandbox):
    assert re.match("(ProcessLookupError|PermissionError)", seen(sandbox, f"os.kill({os.getpid()}, 9)"))
    assert len(eval(seen(sandbox, "[p for p in os.listdir('/proc') if p.isdigit()]"))) <= 3
    assert seen(sandbox, "os.getuid()") != "0" or os.geteuid() != 0
    assert re.match("(PermissionError|OSError)", seen(sandbox, "os.setuid(0)")) or seen(sandbox, "os.setuid(0)")
    assert seen(sandbox, "[capabilities()[i] for i in (0, 1, 3, 4)]") == "[0, 0, 0, 0]", "effective and permitted"
    assert "True" in seen(sandbox, "gains()"), "setuid programs give nothing"


def test_values_keep_their_types():
    kept = [None, True, 3, 10**40, 0.1, float("inf"), 1j, "é\n", b"\0", [1, (2, {3})], {(1, 2): [frozenset({1})]},
            range(2, 9, 3), int]  # fmt: skip
    text = json.dumps([wire.encode(value, None) for value in kept])
    found = [wire.decode(value, None) for value in json.loads(text)]
    assert found == kept
    assert [type(a) for a in found] == [type(a) for a in kept]
    for wrong in (3, {"q": 1}, {"i": "3", "f": "1"}, {"y": "open"}, {"m": "gra_train"}, {"m": "this"}, [1]):
        with pytest.raises(ValueError, match="not a"):
            wire.decode(wrong, None)


def test_a_program_imports_nothing_in_the_judge(sandbox):
    """What is no module that tests use stays behind, and can be used from there; who sends its name is cut off."""
    loaded = "import sys\nassert f().__class__.__name__ == 'Handle'\nassert 'antigravity' not in sys.modules"
    assert sandbox.check("import types\ndef f():\n    return types.ModuleType('antigravity')\n", loaded).passed
    assert sandbox.check("import json\n", "assert json.dumps([1]) == '[1]'").passed
    assert sandbox.check("import math\n", "import math as ours\nassert math is ours").passed
    forged = "import wire\nwire.encode = lambda *a, **k: {'m': 'this'}\ndef f():\n    return 1\n"
    assert sandbox.check(forged, "import sys\nf\nassert 'this' in sys.modules").reason == "ended"


def test_values_that_grow_in_the_judge_are_the_programs_failure(sandbox):
    """A range of ten digits travels as three numbers, and a set of it has no end."""
    grown = sandbox.check("def f(*a):\n    return range(10**11)\n", "assert set(f(1)) == {1}")
    assert (grown.passed, grown.reason) == (False, "error")
    assert grown.detail.startswith("MemoryError")
    assert sandbox.check(RIGHT, TESTS).passed


KEPT = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
def shared(step=16 << 20):
    number = libc.shmget(0, ctypes.c_size_t(step), 0o600)
    if number < 0:
        return 0
    place = libc.shmat(number, None, 0)
    ctypes.memset(place, 1, step)
    libc.shmdt(ctypes.c_void_p(place))
    return step
def queue():
    return 0 if libc.msgget(0, 0o600) < 0 else 1
def semaphores():
    return 0 if libc.semget(0, 32000, 0o600) < 0 else 32000
files = []
def memory_file():
    try:
        files.append(os.memfd_create('x'))
    except OSError:
        return 0
    return os.write(files[-1], bytes(1 << 20))
def mounted():
    me, ours = os.getuid(), os.getgid()
    maps = {'setgroups': 'deny', 'uid_map': f'{me} {me} 1', 'gid_map': f'{ours} {ours} 1'}
    libc.prctl(4, 1, 0, 0, 0)
    if libc.unshare(0x10020000) != 0:
        return 0
    for name in maps if os.path.exists('/proc/self/uid_map') else ():
        open(f'/proc/self/{name}', 'w').write(maps[name])
    if libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None) != 0:
        return 0
    return sum(open(f'/tmp/{i}', 'wb').write(bytes(1 << 20)) for i in range(300))
def cloned():
    child = libc.syscall(56, 0x10000011, 0, 0, 0, 0) if os.uname().machine == 'x86_64' else -1
    if child == 0:
        os._exit(0)
    return max(child, 0)
"""


@pytest.mark.parametrize("way", ["shared", "queue", "semaphores", "memory_file", "mounted", "cloned"])
def test_no_memory_beside_the_limit(sandbox, way):
    """20 pieces of 16 MB are more than the limit; without a way to have one, there are none."""
    assert os.uname().machine in seccomp.REFUSED
    assert seen(sandbox, f"sum({way}() for _ in range(20))", KEPT) == "0"
    assert seen(sandbox, "__import__('subprocess').run(['/bin/true']).returncode") == "0", "processes may still start"


def test_as_many_threads_as_processes(sandbox):
    """With the memory limit of each, what a program can hold at most."""
    program = "import threading\ndef f():\n    n, stop = 1, threading.Event()\n    try:\n        while n < 50:\n"
    program += "            threading.Thread(target=stop.wait).start()\n            n += 1\n    except RuntimeError:\n"
    program += "        pass\n    stop.set()\n    return n\n"
    assert sandbox.check(program, f"assert 1 < f() <= {LIMITS.processes}").passed


class Failing(Sandbox):
    """A machine that kills the next `kills` judges, or whose sandbox does not start."""

    def __init__(self, *args, kills=0, starts=True, **more):
        super().__init__(*args, **more)
        self.kills, self.starts = kills, starts

    def _take(self):
        judge = super()._take()
        if self.kills:
            self.kills -= 1
            judge.kill()
            judge.wait()
        return judge

    def _command(self):
        return super()._command() if self.starts else ["false"]


def test_a_program_is_not_wrong_because_of_the_machine(sandbox, monkeypatch):
    monkeypatch.setattr(host, "_PAUSES", (0.01, 0.01))
    nested = sandbox._nested
    with Failing(LIMITS, nested=nested, kills=2) as shaky:
        assert shaky.check(RIGHT, TESTS).passed
        shaky.kills = 3
        with pytest.raises(UserError, match="3 times: the judge was killed"):
            shaky.check(RIGHT, TESTS)
        assert shaky.check(RIGHT, TESTS).passed
    with Failing(LIMITS, nested=nested, starts=False) as broken, pytest.raises(UserError, match="could not be run"):
        broken.check(RIGHT, TESTS)


@pytest.mark.parametrize(("number", "reason"), [(9, "unavailable"), (11, "error")])
def test_a_judge_that_was_killed_and_one_that_crashed(sandbox, number, reason):
    """Killed: for want of memory, or by somebody. Only the second may be the doing of what a program sent."""
    assert sandbox.attempt(RIGHT, f"import os\nos.kill(os.getpid(), {number})").reason == reason
    assert sandbox.check(RIGHT, TESTS).passed


def test_objects_of_the_program_can_be_used(sandbox):
    program = "import math\nclass Node:\n    def __init__(s, v): s.v = v; s.next = None\ndef last(n):\n"
    program += "    while n.next: n = n.next\n    return n.v\ndef count():\n    yield from range(3)\n"
    tests = "a = Node(1)\na.next = Node(2)\nassert last(a) == 2\nassert list(count()) == [0, 1, 2]\nassert a.v == 1\n"
    tests += "try:\n    last(3)\nexcept AttributeError:\n    pass\nelse:\n    assert False\n"
    tests += "assert math.isclose(0.1 + 0.2, 0.3)"
    assert sandbox.check(program, tests).passed
    assert sandbox.check("def sum(a, b): return a - b", "assert sum(3, 1) == 2", entry_points=["sum"]).passed


def test_without_a_sandbox_limits_remain():
    """On the user's word; a machine without bubblewrap says so."""
    with Sandbox(Limits(seconds=3), workers=1, confined=False) as bare:
        assert bare.check(RIGHT, TESTS).passed
        assert not bare.check("while True: pass", TESTS).passed
