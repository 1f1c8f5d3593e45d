"""Freed memory goes back to the system, or stays: seen in the pages that a loop of large arrays has to take anew."""

import subprocess
import sys

import pytest

LOOP = """
import resource, sys
import numpy as np
from gra_train import memory
getattr(memory, sys.argv[1])()
np.ones(10**6)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    np.ones(10**6)  # 8 MB, freed at once
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc's mallopt")
def test_freed_memory_is_given_back_or_kept():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", LOOP, how], capture_output=True, text=True, check=True).stdout)
        for how in ("give_back", "keep")
    }
    assert faults["give_back"] > 50
    assert faults["keep"] < faults["give_back"] / 10
