"""Comparing many formulas: in worker processes, each comparison with a time limit (sympy can run for ever)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from gra_train.evaluation.answers.maths import normal, same_formula

_CHUNK = 64


def same_formulas(
    pairs: Sequence[tuple[str | None, str | None]],
    *,
    seconds: float = 5.0,
    workers: int | None = None,
    on_done: Callable[[int], None] = lambda n: None,
) -> list[bool | None]:
    """`same_formula` of each (gold, answer), in order; None where it was not decided within `seconds`.

    A pair that is equal as text is decided here and now. The others go to workers in chunks; a chunk with a pair that
    takes too long is done again one by one, so that one formula costs nobody else an answer.
    """
    from pebble import ProcessPool

    results: list[bool | None] = [None] * len(pairs)
    hard = []
    for i, (gold, answer) in enumerate(pairs):
        if gold and answer and normal(gold) != normal(answer):
            hard.append(i)
        else:
            results[i] = bool(gold and answer)
    on_done(len(pairs) - len(hard))
    if not hard:
        return results
    chunks = [hard[k : k + _CHUNK] for k in range(0, len(hard), _CHUNK)]
    with ProcessPool(max_workers=workers or len(os.sched_getaffinity(0))) as pool:
        started = [pool.schedule(_compare, args=[[pairs[i] for i in c]], timeout=seconds + len(c) / 4) for c in chunks]
        for chunk, future in zip(chunks, started, strict=True):
            for i, same in zip(chunk, _result(future) or _singly(pool, pairs, chunk, seconds), strict=True):
                results[i] = same
            on_done(len(chunk))
    return results


def _compare(pairs: Sequence[tuple[str, str]]) -> list[bool]:
    return [same_formula(gold, answer) for gold, answer in pairs]


def _singly(
    pool: object, pairs: Sequence[tuple[str | None, str | None]], chunk: Sequence[int], seconds: float
) -> list[bool | None]:
    alone = [pool.schedule(_compare, args=[[pairs[i]]], timeout=seconds) for i in chunk]  # type: ignore[attr-defined]
    return [found[0] if (found := _result(future)) else None for future in alone]


def _result(future: object) -> list[bool] | None:
    """What a worker found; None where it took too long, died, or the library raised."""
    try:
        return future.result()  # type: ignore[attr-defined]
    except Exception:
        return None
