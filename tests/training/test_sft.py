import json
import math
from pathlib import Path

import pytest

from gra_train.errors import UserError
from gra_train.records import Sample, write_samples
from gra_train.runs import Stopped
from gra_train.schema import Lora, Model, Train
from gra_train.settings import change
from gra_train.stages import SftStage
from gra_train.training.arguments import Place
from gra_train.training.rows import example
from gra_train.training.sft import train_sft
from gra_train.training.stages import sft

CPU = Place("cpu")


def metrics(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out.parent / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


@pytest.fixture
def fit(model, examples):
    def run(train: Train, out: Path, *, seed: int = 0, data=examples, start: str = model) -> Path:
        out.mkdir(parents=True, exist_ok=True)
        train_sft(start, data, train, out=out, seed=seed, place=CPU)
        return out

    return run


def test_learns_and_saves_a_standard_folder_without_paths_or_optimiser(model, fit, train, out):
    fit(change(train, steps=30), out)
    losses = [row["loss"] for row in metrics(out)]
    assert len(losses) == 30
    assert losses[-1] < 0.6 * losses[0]
    files = {p.name for p in (out / "model").iterdir()}
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md"} <= files
    assert not files & {"optimizer.pt", "training_args.bin"}
    for file in (out / "model").glob("*.json"):
        assert str(out) not in file.read_text()
        assert str(Path(model).parent) not in file.read_text()
    assert json.loads((out / "model" / "config.json").read_text())["use_cache"] is True
    assert json.loads((out / "training.json").read_text())["examples"] == 40
    assert not list((out.parent / "checkpoints").glob("*"))  # fewer steps than save_steps: none is written


def test_result_depends_on_configuration_and_data_alone(fit, train, tmp_path):
    first = weights(fit(train, tmp_path / "a" / "w"))
    other = weights(fit(change(train, lr=1e-3, steps=3), tmp_path / "b" / "w", seed=7))
    again = weights(fit(train, tmp_path / "c" / "w"))
    assert again == first
    assert other != first
    assert weights(fit(train, tmp_path / "d" / "w", seed=1)) != first


@pytest.mark.parametrize("stop_at", [3, 4, 9])
def test_stopped_and_resumed_equals_undisturbed(fit, train, tmp_path, monkeypatch, stop_at):
    train = change(train, steps=11, global_batch=16, device_batch=8, save_steps=4)
    whole = fit(train, tmp_path / "whole" / "w")
    out = tmp_path / "cut" / "w"
    from gra_train.training import stopping

    polls = iter(range(1, 100))
    monkeypatch.setattr(stopping, "stop_requested", lambda _: next(polls) == stop_at)
    with pytest.raises(Stopped, match=f"step {stop_at} of 11"):
        fit(train, out)
    assert len(metrics(out)) == stop_at
    fit(train, out)
    assert weights(out) == weights(whole)
    assert [m["loss"] for m in metrics(out)] == [m["loss"] for m in metrics(whole)]


def test_killed_between_checkpoints_resumes_from_the_last_complete_one(fit, train, tmp_path, monkeypatch):
    train = change(train, steps=11, save_steps=3)
    whole = fit(train, tmp_path / "whole" / "w")
    out = tmp_path / "cut" / "w"
    from gra_train.training import stopping

    calls = iter(range(1, 100))

    def kill(_):
        if next(calls) == 8:
            raise KeyboardInterrupt
        return False

    monkeypatch.setattr(stopping, "stop_requested", kill)
    with pytest.raises(KeyboardInterrupt):
        fit(train, out)
    saved = out.parent / "checkpoints"
    assert {p.name for p in saved.iterdir()} == {"checkpoint-3", "checkpoint-6"}
    (saved / "checkpoint-7").mkdir()  # cut off while it was written: no marker
    with (out.parent / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    fit(train, out)
    assert weights(out) == weights(whole)
    assert [m["step"] for m in metrics(out)] == list(range(1, 12))


def test_stop_file_in_the_run_folder_is_seen(fit, train, out):
    (out.parent / "STOP").touch()
    with pytest.raises(Stopped, match="step 1 of 8"):
        fit(train, out)


def test_resuming_with_another_number_of_ranks_is_refused(fit, train, out):
    from gra_train.training import checkpoints

    folder = out.parent / "checkpoints"
    (folder / checkpoints.UNFINISHED / "checkpoint-4").mkdir(parents=True)
    checkpoints.publish(folder, step=4, ranks=2)
    with pytest.raises(UserError, match=r"written by 2 rank.*resources.ranks=2"):
        fit(train, out)


def test_accumulation_changes_nothing_but_rounding(fit, train, tmp_path):
    whole = fit(change(train, global_batch=16, device_batch=16), tmp_path / "a" / "w")
    parts = fit(change(train, global_batch=16, device_batch=4), tmp_path / "b" / "w")
    for one, other in zip(metrics(whole), metrics(parts), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_lost_loss_stops_with_advice(fit, train, out):
    with pytest.raises(UserError, match=r"loss became .* at step .*learning rate"):
        fit(change(train, lr=1e30, max_grad_norm=1e30, steps=20, warmup=0.0), out)


def test_overlong_examples_are_left_out_or_refused(fit, examples, train, tmp_path):
    long = [*examples, example("w1 " * 80, "w2")]
    fit(train, tmp_path / "a" / "w", data=long)
    counts = json.loads((tmp_path / "a" / "w" / "training.json").read_text())
    assert (counts["examples"], counts["overlong"]) == (40, 1)
    with pytest.raises(UserError, match=r"1 of 41 examples are longer than max_length=64.*max_overlong"):
        fit(change(train, max_overlong=0.01), tmp_path / "b" / "w", data=long)


def test_empty_data_and_missing_columns(fit, train, out):
    with pytest.raises(UserError, match="no rows"):
        fit(train, out, data=[])
    with pytest.raises(UserError, match="example 0 has no 'completion'"):
        fit(train, out, data=[{"prompt": [{"role": "user", "content": "w1"}]}])


@pytest.mark.parametrize("content", [float("nan"), None, 3])
def test_a_row_that_is_no_text_is_named(fit, examples, train, out, content):
    broken = {"prompt": examples[0]["prompt"], "completion": [{"role": "assistant", "content": content}]}
    with pytest.raises(UserError, match=rf"example 40 has {content} in 'completion'; expected text"):
        fit(train, out, data=[*examples, broken])


def test_a_tokenizer_of_another_model_is_refused(fit, model, train, out, tmp_path):
    import shutil

    from transformers import AutoTokenizer

    mixed = Path(shutil.copytree(model, tmp_path / "mixed"))
    tokenizer = AutoTokenizer.from_pretrained(mixed)
    tokenizer.add_tokens([f"extra{i}" for i in range(3)])
    tokenizer.save_pretrained(mixed)
    with pytest.raises(UserError, match=r"has \d+ tokens, its model embeds only \d+"):
        fit(train, out, start=str(mixed))
    for file in mixed.glob("*token*"):
        file.unlink()
    with pytest.raises(UserError, match=r"cannot be loaded as a causal language model with its tokenizer"):
        fit(train, out, start=str(mixed))


def test_weights_that_became_nan_end_the_training_and_keep_the_checkpoint(fit, train, out, monkeypatch):
    """A gradient that is not finite is seen before the next checkpoint; the one before is good."""
    from gra_train.training import health

    checks = []
    before = health.Health.check

    def poison(self, step, loss, norm, *, scaled):
        checks.append(step)
        before(self, step, float("nan") if step == 5 else loss, norm, scaled=scaled)

    monkeypatch.setattr(health.Health, "check", poison)
    with pytest.raises(UserError, match=r"loss became nan at step 5.*Good checkpoints are kept: checkpoint-4"):
        fit(change(train, save_steps=4), out)
    assert [p.name for p in (out.parent / "checkpoints").iterdir()] == ["checkpoint-4"]
    monkeypatch.undo()
    fit(change(train, save_steps=4), out)
    assert [m["step"] for m in metrics(out)] == list(range(1, 9))


def test_metrics_say_how_fast_and_how_full_it_is(fit, train, out):
    """tokens are those of the batch without padding; the rates are there at every tenth step and at the last."""
    fit(change(train, steps=12, peak_tflops=0.001), out)
    lines = metrics(out)
    assert all(line["tokens"] > 8 * 5 for line in lines)
    rated = [line for line in lines if "tokens_per_s" in line]
    assert [line["step"] for line in rated] == [10, 12]
    assert all(line["tokens_per_s"] > 0 and line["memory_gib"] > 0 and line["mfu"] > 0 for line in rated)


def test_flops_of_a_token():
    """2 N forward and 4 N backward, and attention; of adapters the weights' gradients are few (no 2 N)."""
    from types import SimpleNamespace

    import torch

    from gra_train.training.throughput import flops_per_token

    config = SimpleNamespace(num_hidden_layers=2, hidden_size=8)
    config.get_text_config = lambda: config
    network = SimpleNamespace(config=config, parameters=lambda: [torch.nn.Parameter(torch.zeros(10, 10))])
    assert flops_per_token(network, 5.0) == 600 + 12 * 2 * 8 * 5
    frozen = [torch.nn.Parameter(torch.zeros(10, 10), requires_grad=False), torch.nn.Parameter(torch.zeros(10))]
    network.parameters = lambda: frozen
    assert flops_per_token(network, 0.0) == 4 * 110 + 2 * 10


def test_samples_are_written_beside_the_metrics_and_change_nothing(fit, train, tmp_path):
    settings = change(train, save_steps=4, samples=2)
    fit(settings, tmp_path / "a" / "w")
    lines = [json.loads(line) for line in (tmp_path / "a" / "samples.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 4, 8, 8]
    assert lines[0].keys() == {"step", "prompt", "answer", "wanted"}
    assert "=" in lines[0]["wanted"]
    assert not list((tmp_path / "a" / "w").glob("samples*"))
    fit(train, tmp_path / "b" / "w")
    assert weights(tmp_path / "a" / "w") == weights(tmp_path / "b" / "w")


def test_the_card_says_where_a_model_comes_from(fit, train, out):
    fit(change(train, lora=Lora(r=2, merge=False)), out)
    card = (out / "model" / "README.md").read_text()
    for text in ("library_name: peft", "content hash `", "| lora.r | 2 |", "| lr | 0.003 |", "| seed | 0 |",
                 "| examples | 40 |", "| last_loss |", "load_weights"):  # fmt: skip
        assert text in card


def test_afterwards_models_load_as_if_nothing_had_been_trained():
    """COLLATE's first stage trains, and then scores models: under ZeRO-3's setting one rank alone would shard them."""
    from transformers.integrations import deepspeed

    from gra_train.training.fit import fresh

    class Zero3:
        def is_zero3(self):
            return True

    setting = Zero3()
    with fresh(CPU, 0):
        deepspeed.set_hf_deepspeed_config(setting)
        assert deepspeed.is_deepspeed_zero3_enabled()
    assert not deepspeed.is_deepspeed_zero3_enabled()


def test_model_without_template_and_with_a_foreign_tokenizer(fit, model, train, out, tmp_path):
    import shutil

    bare = Path(shutil.copytree(model, tmp_path / "bare"))
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template"):
        fit(train, out, start=str(bare))
    with pytest.raises(UserError, match="does not exist"):
        fit(train, out, start=str(tmp_path / "nothing"))
    (bare / "config.json").write_text('{"model_type": "llama"}')
    (bare / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        fit(train, out, start=str(bare))


def test_bfloat16_with_activation_checkpointing(fit, train, out):
    """Mixed precision on a CPU; what is saved is bfloat16, and the losses are close to float32's."""
    from safetensors import safe_open

    fit(change(train, dtype="bfloat16", activation_checkpointing=True), out)
    fit(train, out.parent.parent / "exact" / "w")
    for one, other in zip(metrics(out), metrics(out.parent.parent / "exact" / "w"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.03)
    with safe_open(out / "model" / "model.safetensors", "pt") as file:
        assert {str(file.get_tensor(name).dtype) for name in file.keys()} == {"torch.bfloat16"}  # noqa: SIM118


def test_no_epoch_is_no_change(fit, model, train, out):
    fit(change(train, steps=None, epochs=0.0), out)
    assert json.loads((out / "training.json").read_text())["steps"] == 0
    assert weights(out) == (Path(model) / "model.safetensors").read_bytes()


def test_adapters_are_merged_into_a_standard_model(fit, train, out):
    from transformers import AutoModelForCausalLM

    fit(change(train, lora=Lora(r=4), lr=1e-2, steps=20), out)
    losses = [row["loss"] for row in metrics(out)]
    assert losses[-1] < losses[0]
    assert not list((out / "model").glob("adapter*"))
    AutoModelForCausalLM.from_pretrained(out / "model")


def test_stage_reads_samples_and_an_earlier_model(model, examples, train, tmp_path):
    write_samples(
        tmp_path,
        [Sample(str(i), e["prompt"][0]["content"], e["completion"][0]["content"]) for i, e in enumerate(examples)],
    )
    config = SftStage(0, Model(name="tiny", path=model), train, {}, "cpu", 1)
    for name, inputs in (("a", {}), ("b", {"model": tmp_path / "a" / "result"})):
        work = tmp_path / name / "result"
        work.mkdir(parents=True)
        sft(config, {"data": tmp_path, **inputs}, work)
    assert math.isfinite(metrics(tmp_path / "b" / "result")[-1]["loss"])
    assert metrics(tmp_path / "b" / "result")[0]["loss"] < metrics(tmp_path / "a" / "result")[0]["loss"]
    assert "Base: `a`" in (tmp_path / "b" / "result" / "model" / "README.md").read_text()
