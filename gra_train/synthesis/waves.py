"""The waves of one round: which candidates may be started, which are finished, and a file that holds them meanwhile.

Behind servers nothing waits for a wave: the next one is started as soon as its draws are known, that is at once, but
with adaptive roles (adaptive.py). A round's result is nevertheless that of its waves one after another, so waves are of
two kinds. One is *certain* when the round cannot end before it, even if everything that was started were kept: to start
it early costs nothing. One beyond that is a *guess*: it is started only where the acceptance so far says that it is
needed, and at most `synthesis.lookahead` waves ahead of the first unfinished one; where the round ends before it, its
calls were in vain (they are counted, and stay in the ledger).
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gra_train.records import Fate
from gra_train.synthesis.candidate import Candidate


class Spool:
    """Finished waves in an unnamed file: of a round's texts, memory holds only those that are being made.

    The file is gone when it is closed, or when the process is killed (what was answered is in the ledger).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._places: dict[int, int] = {}

    def __contains__(self, wave: int) -> bool:
        return wave in self._places

    def put(self, wave: int, candidates: list[Candidate]) -> None:
        self._places[wave] = self._file.seek(0, 2)
        pickle.dump(candidates, self._file, pickle.HIGHEST_PROTOCOL)

    def get(self, wave: int) -> list[Candidate]:
        """What was put; the file has no name, so nobody else can have written into it."""
        self._file.seek(self._places[wave])
        found: list[Candidate] = pickle.load(self._file)
        return found

    def close(self) -> None:
        self._file.close()


@dataclass(slots=True)
class Rates:
    """What earlier rounds and waves let expect: accepted of finished candidates, kept (after curation) of accepted."""

    accepted: float = 1.0
    kept: float = 1.0


class Waves:
    """Candidates of one round, by index: `size` to a wave, `limit` in all, until `share` are kept.

    story: index -> the story of that candidate; start: told of the first index of a wave before its first story is
    made (adaptive roles freeze their weights then, so `ahead` is False for them). finish: what is done to a wave when
    it is complete, before it is stored.
    """

    def __init__(
        self, *, size: int, limit: int, share: int, ahead: bool, lookahead: int, cut_blocks: bool, rates: Rates,
        spool: Spool, story: Callable[[int], Any], start: Callable[[int], None],
        finish: Callable[[list[Candidate]], list[Candidate]],
    ) -> None:  # fmt: skip
        self.size, self.limit, self.share = size, limit, share
        self.ahead, self.lookahead, self.cut_blocks, self.rates, self.spool = ahead, lookahead, cut_blocks, rates, spool
        self._story, self._start, self._finish = story, start, finish
        self.over = False
        self.started = 0  # waves
        self.complete = 0  # waves, counted without a gap
        self._finished = self._accepted = 0  # candidates
        self._open: dict[int, list[Candidate]] = {}

    def indices(self, wave: int) -> range:
        return range(min(wave * self.size, self.limit), min((wave + 1) * self.size, self.limit))

    def stories(self) -> Iterator[Any]:
        """Stories to run, as far as they may be started now; None: nothing for now, ask again."""
        while not self.over:
            if not self._may_start():
                yield None
                continue
            indices = self.indices(self.started)
            self.started += 1
            self._start(indices.start)
            for index in indices:
                yield self._story(index)
            if self.cut_blocks:  # in process a block of stories must not reach into the next wave
                yield None

    def _may_start(self) -> bool:
        if not self.indices(self.started):
            return False
        if self.started == self.complete:
            return True
        if not self.ahead:
            return False
        unfinished = self.indices(self.started).start - self._finished
        if self._accepted + unfinished < self.share:
            return True
        accepted = self._accepted + unfinished * self.rates.accepted
        return self.started - self.complete <= self.lookahead and accepted * self.rates.kept < self.share

    def take(self, candidate: Candidate) -> list[int]:
        """A finished candidate -> the waves that are complete now and follow upon those complete before."""
        wave = candidate.index // self.size
        made = self._open.setdefault(wave, [])
        made.append(candidate)
        self._finished += 1
        self._accepted += candidate.fate is Fate.KEPT
        self.rates.accepted = self._accepted / self._finished
        if len(made) < len(self.indices(wave)):
            return []
        self.spool.put(wave, self._finish(sorted(self._open.pop(wave), key=lambda c: c.index)))
        before = self.complete
        while self.complete in self.spool:
            self.complete += 1
        return list(range(before, self.complete))
