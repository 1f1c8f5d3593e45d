"""The guest: runs a program inside the sandbox and answers the judge's calls, one JSON line each.

Hatched by the nest (nest.py), or started as `python -I guest.py LIMITS` (JSON). First it gives up what it could use
against its host, then it reads the program, then calls. Nothing that it says is believed but values.
Standard library only.
"""

import json
import os
import resource
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import seccomp
import wire


def confine(limits):
    """Limits that no child can raise, another user where we are root (process limits do not bind root), then no more
    of the system calls that give memory beside the limits."""
    for name, value in limits["resources"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if limits["user"]:
        leave_root(limits["user"])
    os.chdir("/tmp")
    if limits["confined"]:
        seccomp.refuse()


def leave_root(user):
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def streams():
    """The pipes to the judge, moved out of the way of a program that reads and prints."""
    calls, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    return calls, answers


class Objects:
    """What the judge holds a handle of."""

    def __init__(self):
        self._kept = []

    def number(self, value):
        self._kept.append(value)
        return len(self._kept) - 1

    def of(self, number):
        return self._kept[number]


def perform(request, names, objects):
    """The value of one request of the judge."""
    verb, *given = request
    if verb == "name":
        return names[given[0]]
    target: Any
    target, *rest = (wire.decode(one, objects.of) for one in given)
    if verb == "call":
        return target(*rest[0], **rest[1])
    if verb == "attribute":
        return getattr(target, rest[0])
    if verb == "set":
        return setattr(target, *rest)
    if verb == "item":
        return target[rest[0]]
    if verb == "list":
        return list(target)
    verbs: dict[str, Any] = {"len": len, "bool": bool, "str": str}
    return verbs[verb](target)


def serve():
    """Read a program and answer calls, to the end of standard input."""
    calls, answers = streams()
    names = {"__name__": "program", "__builtins__": __builtins__}
    objects = Objects()

    def answer(work):
        try:
            reply = {"value": wire.encode(work(), objects.number)}
        except BaseException as error:  # a program may raise SystemExit, or its own
            reply = {"error": type(error).__name__, "text": _text(error)}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()

    answers.write(wire.READY + "\n")  # from here on, what goes wrong is the program's doing
    answers.flush()
    program = json.loads(calls.readline())
    answer(lambda: exec(compile(program, "program", "exec"), names))
    for line in calls:
        request = json.loads(line)
        answer(lambda: perform(request, names, objects))  # noqa: B023  (answered before the next one)


def _text(error):
    try:
        return str(error)[:2000]
    except BaseException:
        return ""


if __name__ == "__main__":
    confine(json.loads(sys.argv[1]))
    serve()
