"""curator: one LLM call over a data set, all rows of it before anything else. Its `openai` backend (aiohttp).

The GRA shape as ten passes over the data, one after the other: a pass ends when its last row has answered. What it
cannot say: reviewers of one sample at the same time, roles drawn per sample (a pass has one model), a sample that goes
ahead.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ |= {"TELEMETRY_ENABLED": "false", "CURATOR_VIEWER": "0", "CURATOR_DISABLE_RICH_DISPLAY": "1",
               "CURATOR_DISABLE_CACHE": "true", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "OPENAI_API_KEY": "none",
               "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}  # fmt: skip
sys.path.insert(0, str(Path(__file__).parents[2]))
import litellm
from bespokelabs import curator
from measure import Task, measured

# curator counts tokens with cl100k_base, which tiktoken would download; litellm, which it depends on, carries a copy
os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers")
logging.getLogger("curator").setLevel(logging.ERROR)


class Pass(curator.LLM):
    """One prompt over all rows: its answer becomes the column `output`."""

    def __init__(self, task: Task, kind: str, output: str, model: int = 0) -> None:
        self._task, self._kind, self._output = task, kind, output
        limits = {"max_requests_per_minute": 10**7, "max_tokens_per_minute": 10**11}
        super().__init__(
            model_name=f"stub-{model}", backend="openai",
            generation_params={"temperature": 0.2, "top_p": 0.9, "max_tokens": 4096},
            backend_params={"base_url": task.url, "max_concurrent_requests": task.concurrency, **limits},
        )  # fmt: skip

    def prompt(self, input: dict[str, Any]) -> list[dict[str, str]]:
        return self._task.messages(self._kind, **input)

    def parse(self, input: dict[str, Any], response: str) -> dict[str, Any]:
        return {**input, self._output: response}


def gra(task: Task, rows: Any) -> Any:
    for kind, output, model in (
        ("new_keywords", "keywords", 0), ("instruction", "instruction", 0),
        *(("instruction_review", f"flags_{k}", k) for k in (1, 2, 3)), ("response", "response", 0),
        *(("response_review", f"review_{k}", k) for k in (1, 2, 3)),
    ):  # fmt: skip
        rows = Pass(task, kind, output, model)(rows).dataset
    rows = [row | {"reviews": "\n".join(row[f"review_{k}"] for k in (1, 2, 3))} for row in rows]
    return Pass(task, "adjudication", "text", 4)(rows).dataset


def main() -> None:
    task = Task.read()
    os.environ["CURATOR_CACHE_DIR"] = str(task.work / "cache")
    with measured(version=version("bespokelabs-curator")) as result:
        rows = [{"i": i} for i in range(task.rows)]
        done = Pass(task, "plain", "text")(rows).dataset if task.shape == "plain" else gra(task, rows)
        result["rows"] = sum(text is not None for text in done["text"])


if __name__ == "__main__":
    main()
