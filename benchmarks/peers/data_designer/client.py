"""DataDesigner: columns written by models, cell by cell, in an order that follows from their references.

The GRA shape as ten text columns. What it cannot say: roles drawn per sample (a column has one model); it can skip a
column by a condition on earlier ones, which is not used here, because the server has every sample adjudicated.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path

os.environ |= {"NEMO_TELEMETRY_ENABLED": "false", "HF_HUB_OFFLINE": "1"}
sys.path.insert(0, str(Path(__file__).parents[2]))
import data_designer.config as dd
from data_designer.interface import DataDesigner
from measure import Task, fill, measured


def column(task: Task, name: str, kind: str, model: int = 0, **columns: str) -> dd.LLMTextColumnConfig:
    """A column written by a model from the prompt `kind`, its placeholders filled from other columns."""
    names = {key: "{{ " + other + " }}" for key, other in columns.items()}
    return dd.LLMTextColumnConfig(
        name=name, model_alias=f"stub-{model}", system_prompt=task.prompts[kind]["system"],
        prompt=fill(task.prompts[kind]["user"], **names),
    )  # fmt: skip


def build(task: Task) -> dd.DataDesignerConfigBuilder:
    count = 1 if task.shape == "plain" else 5
    models = [
        dd.ModelConfig(
            alias=f"stub-{i}", model=f"stub-{i}", provider="stub", skip_health_check=True,
            inference_parameters=dd.ChatCompletionInferenceParams(
                temperature=0.2, top_p=0.9, max_tokens=4096, max_parallel_requests=-(-task.concurrency // count),
                timeout=600,
            ),
        )
        for i in range(count)
    ]  # fmt: skip
    builder = dd.DataDesignerConfigBuilder(model_configs=models)
    builder.add_column(dd.SamplerColumnConfig(
        name="i", sampler_type=dd.SamplerType.UNIFORM, params=dd.UniformSamplerParams(low=0, high=10**6)))  # fmt: skip
    if task.shape == "plain":
        builder.add_column(column(task, "text", "plain", i="i"))
        return builder
    both = {"instruction": "instruction", "response": "response"}
    builder.add_column(column(task, "keywords", "new_keywords"))
    builder.add_column(column(task, "instruction", "instruction", keywords="keywords"))
    for k in (1, 2, 3):
        builder.add_column(column(task, f"flags_{k}", "instruction_review", k, instruction="instruction"))
    builder.add_column(column(task, "response", "response", instruction="instruction"))
    for k in (1, 2, 3):
        builder.add_column(column(task, f"review_{k}", "response_review", k, **both))
    adjudication = column(task, "text", "adjudication", 4, **both)
    reviews = "\n".join(f"{{{{ review_{k} }}}}" for k in (1, 2, 3))
    builder.add_column(adjudication.model_copy(update={"prompt": fill(adjudication.prompt, reviews=reviews)}))
    return builder


def main() -> None:
    task = Task.read()
    logging.disable(logging.WARNING)
    provider = dd.ModelProvider(name="stub", endpoint=task.url, api_key="none")
    designer = DataDesigner(
        artifact_path=task.work / "artifacts", model_providers=[provider], auto_configure_logging=False
    )
    designer.set_run_config(dd.RunConfig(otel_metrics_port=None, buffer_size=max(1000, 4 * task.concurrency)))
    with measured(version=version("data-designer")) as result:
        done = designer.create(build(task), num_records=task.rows).load_dataset()
        result["rows"] = int(done["text"].notna().sum())


if __name__ == "__main__":
    main()
