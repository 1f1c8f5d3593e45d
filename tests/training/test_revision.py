"""A model of the Hub at the revision that its identity names."""

import os
import subprocess
import sys

HUB = """
import sys
from pathlib import Path
from gra_train.schema import Lora, Train
from gra_train.training import models
from gra_train.training.arguments import Place
from gra_train.training.rows import example
from gra_train.training.sft import train_sft
from gra_train.weights import load_weights

def size(model):
    return float(next(model.parameters()).double().abs().sum())

out = Path(sys.argv[1]) / "run" / "w"
out.mkdir(parents=True)
network, tokenizer = models.load("someone/tiny", revision="b" * 40)
train = Train(steps=1, global_batch=2, device_batch=2, max_length=64, dtype="float32", activation_checkpointing=False,
              lora=Lora(r=2, merge=False))
rows = [example("what is 1", "1")] * 2
train_sft("someone/tiny", rows, train, out=out, seed=0, place=Place("cpu"), revision="b" * 40)
kept = load_weights(str(out / "model"), trainable=True).get_base_model()
print(size(models.load("someone/tiny")[0]), size(network), size(kept), tokenizer.convert_tokens_to_ids("w1"))
"""


def test_a_hub_name_is_loaded_at_its_revision(new_model, tmp_path):
    """Two commits of one repository in the Hub's cache; the adapter that is trained on one of them names it."""
    held = tmp_path / "hub" / "models--someone--tiny"
    for seed, commit in enumerate("ab"):
        new_model(held / "snapshots" / (commit * 40), seed=seed)
    (held / "refs").mkdir()
    (held / "refs" / "main").write_text("a" * 40)
    odd = held / "snapshots" / ("b" * 40) / "tokenizer.json"
    odd.write_text(odd.read_text().replace('"w1"', '"W"').replace('"w2"', '"w1"').replace('"W"', '"w2"'))
    environ = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub")}
    command = [sys.executable, "-c", HUB, str(tmp_path)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    main, pinned, kept, token = map(float, done.stdout.splitlines()[-1].split())
    assert main != pinned == kept
    assert token == 72 + 1  # w2's place: <pad> ... <|end|>, 60 numbers, 4 signs, 2 words, w0, w1, w2
