"""The HTTP client against a real server with a real model: transformers serve, with a miniature model."""

from __future__ import annotations

from pathlib import Path

import pytest

from gra_train.chat.local import LocalModel
from gra_train.chat.pool import open_pool
from gra_train.chat.protocol import Completion, Likelihood, ModelError, Sampling
from gra_train.schema import Model

SHIPPED = Path(__file__).parents[2] / "gra_train" / "mini" / "models" / "wren"


@pytest.fixture(scope="module")
def folder(model_dir):
    return SHIPPED if (SHIPPED / "config.json").is_file() else model_dir


def request(text: str, **sampling) -> Completion:
    options = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 30, **sampling}
    turns = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": text})
    return Completion(turns, sampling=Sampling(**options), purpose="test")


@pytest.mark.slow
def test_a_real_server_agrees_with_the_model_in_process(transformers_server, folder, tmp_path):
    url = transformers_server(folder)
    model = Model(name="wren", url=url, served_name=str(folder), revision="shipped", path=str(folder))
    requests = [request(f"Bob has {i} apples and buys {i + 2} more. How many?") for i in range(1, 25)]
    requests.append(request("What?", temperature=0.9))

    def story(one):
        async def run(ask):
            return (await ask(("wren", one)))[0]

        return run

    for computed in (25, 0):
        with open_pool([model], ledger=tmp_path) as pool:
            replies = pool.run([story(r) for r in requests], window=8)
            assert pool.usage()["total"]["computed"] == computed
            assert pool.models["wren"].caller.retried == 0
    here = LocalModel(Model(name="here", path=str(folder)), device="cpu").complete_batch(requests[:24])
    same = [a.text == b.text and a.finish == b.finish for a, b in zip(replies, here, strict=False)]
    assert sum(same) >= 22  # greedy; other kernels may tip a tie
    assert all(a.completion_tokens > 0 for a in replies)


@pytest.mark.slow
def test_what_this_server_cannot_do_is_said_or_done_without(transformers_server, folder, tmp_path, caplog):
    model = Model(name="wren", url=transformers_server(folder), served_name=str(folder), revision="x", path=str(folder))

    def story(one):
        async def run(ask):
            return (await ask(("wren", one)))[0]

        return run

    with open_pool([model], ledger=tmp_path) as pool:
        asked = Completion(request("Rate").messages, sampling=Sampling(0.0, 1.0, 8), regex="[0-9]")
        assert pool.run([story(asked)])[0].completion_tokens
        assert "regular expression" in caplog.text
        with pytest.raises(ModelError, match="no log-probabilities of a prompt"):
            pool.run([story(Likelihood(asked.messages, "7"))])
