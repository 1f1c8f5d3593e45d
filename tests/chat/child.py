"""What a process that is to be killed does: run stories and write their results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gra_train.chat.pool import open_pool
from gra_train.chat.protocol import Completion, Likelihood, Sampling
from gra_train.schema import Model


def messages(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


def story(index: int, names: list[str], likelihood: bool) -> Any:
    async def run(ask):
        texts = []
        for step in range(4):
            name = names[(index + step) % len(names)]
            one = Completion(messages(f"q{index} {texts[-1:]}"), Sampling(1.0, 1.0, 12), seed=10 * index + step)
            texts.append((await ask((name, one)))[0].text)
        if likelihood:
            scores = await ask(*[(name, Likelihood(messages("q"), text)) for name in names for text in texts])
            return texts, [s.logprobs for s in scores]
        return texts

    return run


def main(ledger: Path, results: Path, count: int, members: dict[str, str]) -> None:
    """members: name -> model folder or URL."""
    served = any(place.startswith("http") for place in members.values())
    models = [
        Model(name=name, url=place, served_name="plain", revision="r") if served else Model(name=name, path=place)
        for name, place in members.items()
    ]
    with open_pool(models, ledger=ledger, device="cpu") as pool:
        found = pool.run([story(i, pool.names, not served) for i in range(count)], block=4, window=8)
        results.write_text(json.dumps({"results": found, "usage": pool.usage()["total"]}))
