"""The whole stage `synthesize`, as a run does it: rounds, curation, lineage, ledger. For memory.py.

The sentence encoder is a model2vec folder of random vectors with as many dimensions as all-MiniLM-L6-v2 has: the
vectors take what real ones take, and the time and memory of a transformer stay out of the picture.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Task, measured
from ours import models, seeds

from gra_train.records import write_samples
from gra_train.schema import Dedup, Pool, Review, Synthesis
from gra_train.stages import SynthesizeStage
from gra_train.synthesis.stages import synthesize

ROUNDS, DIMENSIONS, VOCABULARY = 5, 384, 30_000


def encoder(folder: Path) -> str:
    """A static model with a random vector for each of VOCABULARY pieces of words of up to three letters."""
    import numpy as np
    from model2vec import StaticModel
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [a + b + c for a in letters for b in letters for c in letters][: VOCABULARY - 1]
    words = {piece: i for i, piece in enumerate(["[UNK]", *letters, *pieces])}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]", continuing_subword_prefix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(0).standard_normal((len(words), DIMENSIONS)).astype(np.float32)
    StaticModel(vectors=vectors, tokenizer=tokenizer, normalize=True).save_pretrained(str(folder))
    return f"model2vec:{folder}"


def main() -> None:
    task = Task.read()
    work = task.work
    (work / "seeds").mkdir()
    write_samples(work / "seeds", seeds())
    synthesis = Synthesis(
        target=task.rows, rounds=ROUNDS, max_candidates=2 * task.rows, wave=min(1024, -(-task.rows // 20)), T_std=0.1,
        review=Review(mode="committee" if task.shape == "gra" else "none"),
        dedup=Dedup(encoder=encoder(work / "encoder"), threshold=0.999),
    )  # fmt: skip
    pool = Pool(name="stub", models=models(task, count=5))
    config = SynthesizeStage(seed=0, pool=pool, synthesis=synthesis, ledger=str(work / "ledger"))
    out = work / "run" / "work-1"
    out.mkdir(parents=True)
    with measured() as result:
        synthesize(config, {"seeds": work / "seeds"}, out)
        with (out / "data.jsonl").open("rb") as file:
            result["rows"] = sum(1 for _ in file)
        result["rounds"] = json.loads((out / "funnel.json").read_bytes()).get("rounds")


if __name__ == "__main__":
    main()
