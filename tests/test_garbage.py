"""Collections of garbage pass over what was there before, and nothing else."""

import gc
import weakref
from contextlib import suppress

from gra_train import garbage


class Ring:
    """Only a collection frees it."""

    def __init__(self):
        self.itself = self


def test_what_is_made_meanwhile_is_collected_and_the_rest_afterwards():
    before = weakref.ref(Ring())
    with garbage.passed_over():
        meanwhile = weakref.ref(Ring())
        gc.collect()
        assert meanwhile() is None
        assert before() is not None
    gc.collect()
    assert before() is None


def test_an_exception_ends_it():
    with suppress(RuntimeError), garbage.passed_over():
        raise RuntimeError
    assert gc.get_freeze_count() == 0
