"""distilabel: a pipeline of TextGeneration steps. A step sends a batch at once and waits for all of it.

The GRA shape as a graph of ten steps, each in a process of its own. What it cannot say: roles drawn per sample (a step
has one model), and an adjudication only where it is needed (all rows take the same way).
"""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path

os.environ["DISTILABEL_LOG_LEVEL"] = "ERROR"
sys.path.insert(0, str(Path(__file__).parents[2]))
from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import CombineOutputs, LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration
from measure import Task, fill, measured

logging.disable(logging.WARNING)


def generation(task: Task, name: str, kind: str, output: str, model: int = 0, **columns: str) -> TextGeneration:
    """A step: one call per row with the prompt `kind`; its placeholders are filled from the row's columns."""
    columns = columns or {"i": "i"}
    names = {key: "{{ " + column + " }}" for key, column in columns.items()}
    names["reviews"] = "\n".join("{{ " + column + " }}" for column in columns if column.startswith("review_"))
    template = task.prompts[kind]["user"] + ("\n({i})" if kind == "new_keywords" else "")  # a template needs a column
    llm = OpenAILLM(
        model=f"stub-{model}", base_url=task.url, api_key="none", timeout=600,
        generation_kwargs={"temperature": 0.2, "top_p": 0.9, "max_new_tokens": 4096},
    )  # fmt: skip
    return TextGeneration(
        name=name, llm=llm, system_prompt=task.prompts[kind]["system"],
        template=fill(template, **names), columns=list(columns.values()),
        input_batch_size=task.concurrency, output_mappings={"generation": output}, use_cache=False,
        add_raw_output=False, add_raw_input=False,
    )  # fmt: skip


def build(task: Task) -> Pipeline:
    with Pipeline(name="bench", cache_dir=str(task.work / "cache")) as pipeline:
        rows = LoadDataFromDicts(data=[{"i": i} for i in range(task.rows)], batch_size=task.concurrency)
        if task.shape == "plain":
            rows >> generation(task, "plain", "plain", "text", i="i")
            return pipeline
        keywords = generation(task, "keywords", "new_keywords", "keywords")
        instruction = generation(task, "instruction", "instruction", "instruction", keywords="keywords")
        flags = [
            generation(task, f"flags-{k}", "instruction_review", f"flags_{k}", k, instruction="instruction")
            for k in (1, 2, 3)
        ]
        response = generation(task, "response", "response", "response", instruction="instruction")
        both = {"instruction": "instruction", "response": "response"}
        reviews = [generation(task, f"review-{k}", "response_review", f"review_{k}", k, **both) for k in (1, 2, 3)]
        verdict = generation(
            task, "adjudication", "adjudication", "text", 4, **both, **{f"review_{k}": f"review_{k}" for k in (1, 2, 3)}
        )
        joined = [
            CombineOutputs(name=name, input_batch_size=task.concurrency) for name in ("join-flags", "join-reviews")
        ]
        rows >> keywords >> instruction >> flags >> joined[0] >> response >> reviews >> joined[1] >> verdict
    return pipeline


def main() -> None:
    task = Task.read()
    with measured(version=version("distilabel")) as result:
        done = build(task).run(use_cache=False)["default"]["train"]
        result["rows"] = sum(text is not None for text in done["text"])


if __name__ == "__main__":
    main()
