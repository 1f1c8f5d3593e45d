"""What the model says while it is trained: answers to a few prompts of its own data, into samples.jsonl for a look.

They are written greedily, so that they change nothing that is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gra_train.training.rows import Row

LONGEST = 128
"""Tokens of a sample."""


def write(model: Any, tokenizer: Any, rows: Sequence[Row], file: Path | None, *, step: int) -> None:
    """Append {step, prompt, answer, wanted} for every row. All ranks generate (sharded weights need them); file: rank
    0's, None elsewhere."""
    import torch

    training = model.training
    model.eval()
    lines = []
    for given in rows:
        row = given.get("parts", [given])[0]
        prompt = torch.tensor(row["prompt_ids"][None].tolist(), device=model.device)
        with torch.no_grad():
            made = model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=LONGEST,
                do_sample=False,
                use_cache=True,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        wanted = row.get("completion_ids", row.get("chosen_ids"))
        texts = [
            tokenizer.decode(ids, skip_special_tokens=True).strip()
            for ids in (prompt[0], made[0, prompt.shape[1] :], wanted)
        ]
        lines.append({"step": step, "prompt": texts[0], "answer": texts[1], "wanted": texts[2]})
    model.train(training)
    if file is not None:
        with file.open("a") as stream:
            stream.writelines(json.dumps(line) + "\n" for line in lines)
