"""System calls that a program may not make: those whose memory no limit of a process counts.

SysV shared memory, queues and semaphores belong to no process (320 MB of them were held under a limit of 160). A memory
file, an io_uring's rings and BPF's maps outlive what maps them. In a user namespace of one's own, a tmpfs of any size
may be mounted. A seccomp filter (seccomp(2), classic BPF) refuses them with EPERM, for the process and all its children
for ever. Standard library only.
"""

import ctypes
import os
import struct

REFUSED = {
    "x86_64": [29, 64, 68, 165, 272, 308, 319, 321, 425, 428, 429, 430, 447],
    "aarch64": [194, 190, 186, 40, 97, 268, 279, 280, 425, 428, 429, 430, 447],
}
"""Numbers of shmget, semget, msgget, mount, unshare, setns, memfd_create, bpf, io_uring_setup, open_tree, move_mount,
fsopen, memfd_secret."""
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NEW_USER, X32 = 0x10000000, 0x40000000

LOAD, EQUAL, AT_LEAST, HAS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, PROCESSOR, FIRST_ARGUMENT = 0, 4, 16
ALLOW, NOT_PERMITTED, NOT_THERE = 0x7FFF0000, 0x00050001, 0x00050026
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def refuse():
    """Refuse the calls from now on. False: no such processor is known here, nothing is refused. OSError: no seccomp."""
    machine = os.uname().machine
    if machine not in REFUSED:
        return False
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions(machine))
    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(code) // 8, code)
    for words in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SECCOMP, FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*(ctypes.c_ulong(word) if isinstance(word, int) else word for word in words)) != 0:
            raise OSError(ctypes.get_errno(), "seccomp")
    return True


def instructions(machine):
    """(code, jump if true, jump if false, operand) each. Calls of another architecture on the same processor (32 bits)
    have other numbers: all of them are refused."""
    found = [(LOAD, 0, 0, PROCESSOR), (EQUAL, 1, 0, ARCHITECTURE[machine]), (RETURN, 0, 0, NOT_PERMITTED)]
    found += [(LOAD, 0, 0, NUMBER), (AT_LEAST, 0, 1, X32), (RETURN, 0, 0, NOT_PERMITTED)]
    for number in REFUSED[machine]:
        found += [(EQUAL, 0, 1, number), (RETURN, 0, 0, NOT_PERMITTED)]
    # A filter cannot see clone3's flags, which lie in memory. Where it is "not there", the C library takes clone.
    found += [(EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, NOT_THERE)]
    found += [(EQUAL, 0, 3, CLONE[machine]), (LOAD, 0, 0, FIRST_ARGUMENT), (HAS, 0, 1, NEW_USER)]
    return [*found, (RETURN, 0, 0, NOT_PERMITTED), (RETURN, 0, 0, ALLOW)]
