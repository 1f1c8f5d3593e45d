"""Running programs that a model wrote: `check(program, tests)` says whether they pass, whatever the program tries.

Two processes, so that a program cannot judge itself. The *guest* (guest.py) runs the program inside bubblewrap: no
network, no files but Python's own and a small scratch folder, a clean environment, its own process numbers, limits. The
*judge* (judge.py) runs the tests outside of it and calls the program's functions over a pipe; arguments and results
travel as plain values (wire.py), never as pickles. A program that exits, patches `assert` or forges objects that equal
everything changes nothing in the judge: success is a nonce that the judge writes after the last test.
"""

from gra_train.evaluation.sandbox.host import Limits, Sandbox, Verdict, nests_work, unavailable

__all__ = ["Limits", "Sandbox", "Verdict", "nests_work", "unavailable"]
