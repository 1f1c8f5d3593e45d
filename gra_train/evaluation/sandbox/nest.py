"""The nest: a Python that waits inside bubblewrap, and hatches one guest for each program in milliseconds.

Started as `python -I -S -B nest.py LIMITS` with a socket as standard input. Starting a Python with what
programs import costs many times what a benchmark's program does, so it is done once. Nothing of the nest is shared
among programs: each guest is forked into namespaces of its own (user, mount, process, network, IPC, host name), with an
empty /tmp and no /proc, no capability and no way to gain one. It cannot see the nest, the other guests or anything they
left, and it is killed with everything it started when its judge is done. Standard library only.

Talk on the socket, one program at a time: two descriptors come (what the guest reads and writes) -> "y" (hatched) or
"n" (not possible here) -> a byte comes (done, or the end) -> the guest is dead: ".".
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guest

PRELOADED = [
    *("bisect", "collections", "copy", "datetime", "functools", "hashlib", "heapq", "itertools", "math"),
    *("operator", "random", "re", "statistics", "string", "typing"),
]
"""What programs import."""
NEW_MOUNTS, NEW_NAMES, NEW_IPC, NEW_USER, NEW_PROCESSES, NEW_NETWORK = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
READ_ONLY, NO_SETUID, NO_DEVICES, NO_PROGRAMS = 1, 2, 4, 8
DIE_WITH_PARENT, DUMPABLE, NO_NEW_PRIVILEGES = 1, 4, 38

libc = ctypes.CDLL(None, use_errno=True)


def system(result):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def write(path, text):
    file = os.open(path, os.O_WRONLY)
    os.write(file, text.encode())
    os.close(file)


def separate():
    """Namespaces of one's own; the next fork is the first process of them."""
    user, group = os.getuid(), os.getgid()
    system(libc.unshare(NEW_USER | NEW_MOUNTS | NEW_PROCESSES | NEW_NETWORK | NEW_IPC | NEW_NAMES))
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{user} {user} 1")
    write("/proc/self/gid_map", f"{group} {group} 1")


def settle(limits):
    """In the new namespaces: nothing of the nest's files that could be written, then no capability for ever."""
    size = limits["scratch_mb"] << 20
    flags = NO_SETUID | NO_DEVICES
    system(libc.mount(b"tmpfs", b"/tmp", b"tmpfs", flags, f"size={size},mode=1777,nr_inodes=4096".encode()))
    system(libc.mount(b"tmpfs", b"/proc", b"tmpfs", flags | READ_ONLY | NO_PROGRAMS, b"size=4k,mode=555"))
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    system(libc.capset(header, (ctypes.c_uint32 * 6)()))
    system(libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))


def hatch(limits, read, write_to, told):
    """In a fork of the nest: become the parent of a guest, and say its process number on `told`."""
    try:
        system(libc.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0))
        separate()
        child = os.fork()
        if child == 0:
            system(libc.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0))
            settle(limits)
            os.dup2(read, 0)
            os.dup2(write_to, 1)
            os.closerange(3, 64)
            guest.confine(limits | {"user": 0})  # the nest left root long ago
            guest.serve()
            os._exit(0)
        os.write(told, b"%d" % child)
        os.closerange(0, 64)
        os.waitpid(child, 0)
    except BaseException:
        pass
    os._exit(1)


def main():
    limits = json.loads(sys.argv[1])
    for name in PRELOADED:
        __import__(name)
    judge = socket.socket(fileno=0)
    if limits["user"]:
        guest.leave_root(limits["user"])
    system(libc.prctl(DUMPABLE, 1, 0, 0, 0))  # or /proc/self stays root's, and no user can be mapped
    while True:
        word, fds, _, _ = socket.recv_fds(judge, 1, 2)
        if not word:
            return
        its_in, its_out = fds
        heard, told = os.pipe()
        child = os.fork()
        if child == 0:
            judge.close()
            os.close(heard)
            hatch(limits, its_in, its_out, told)
        for number in (*fds, told):
            os.close(number)
        guest_number = int(os.read(heard, 32) or 0)
        os.close(heard)
        judge.send(b"y" if guest_number else b"n")
        done = judge.recv(1)
        if guest_number:
            with contextlib.suppress(ProcessLookupError):
                os.kill(guest_number, signal.SIGKILL)  # the first process of its namespace: all others go with it
        os.waitpid(child, 0)
        if not done:
            return
        judge.send(b".")


if __name__ == "__main__":
    main()
