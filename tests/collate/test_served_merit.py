"""Merit and rationales through a vLLM server that we start agree with those in process (marker vllm)."""

from __future__ import annotations

import pytest

from gra_train.chat.ledger import Ledger
from gra_train.chat.protocol import Sampling
from gra_train.collate.data import tasks
from gra_train.collate.merit import score
from gra_train.collate.providers import Calls, write_rationales
from gra_train.schema import DataFile, Model

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


@pytest.mark.timeout(1200)
def test_merit_is_the_same_within_a_thousandth_per_token(vllm_serve, tmp_path):
    given = tasks(DataFile(path="mini:rationales", limit=24), seed=0, need_rationale=True)
    texts = [[t.rationale, "Think about it."] for t in given]
    scorer = Model(name="M_IFT", path="mini:chick")
    here = Calls("mini", 16, tmp_path / "here", "cpu")
    there = Calls("mini", 16, tmp_path / "there", "cpu", vllm_serve, tmp_path)
    apart = []
    for one, other in zip(
        score(scorer, given, texts, calls=here), score(scorer, given, texts, calls=there), strict=True
    ):
        assert one.tokens == other.tokens
        values = zip((one.baseline, *one.candidates), (other.baseline, *other.candidates), strict=True)
        apart += [abs(a - b) / one.tokens for a, b in values]
    print(f"largest difference per token: {max(apart):.1e}")
    assert max(apart) < 1e-3


@pytest.mark.timeout(1200)
def test_rationales_are_written_by_a_server_and_kept_in_the_ledger(vllm_serve, tmp_path):
    given = tasks(DataFile(path="mini:tasks", limit=8), seed=0)
    calls = Calls("mini", 16, tmp_path / "ledger", "cpu", vllm_serve, tmp_path)
    greedy = Sampling(temperature=0.0, max_tokens=32)
    writer = Model(name="RP_0", path="mini:chick")
    [there] = write_rationales([writer], given, calls=calls, sampling=greedy, seeds=[0])
    [here] = write_rationales(
        [writer], given, calls=Calls("mini", 16, tmp_path / "here", "cpu"), sampling=greedy, seeds=[0]
    )
    with Ledger(tmp_path / "ledger") as ledger:
        assert len(ledger) == len(given)
    # vLLM keeps the space in front that the tokenizer writes; of eight, a tie may fall otherwise
    assert sum(a.text.strip() == b.text.strip() for a, b in zip(here, there, strict=True)) >= 7
