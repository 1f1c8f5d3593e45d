"""What is wrong with a training is said before anything is computed: by gra-train run, and by validate."""

import pytest

from gra_train.cli import main
from gra_train.compose import compose
from gra_train.errors import UserError
from gra_train.experiment import plan
from gra_train.schema import Lora, Preference, Train
from gra_train.session import run_experiment
from gra_train.stages import MULTI_RANK
from gra_train.training.arguments import Place
from gra_train.training.readiness import SETTINGS, check, wrong

CPU, ZERO3 = Place("cpu"), Place("cpu", 2, {"zero_optimization": {"stage": 3}})


@pytest.mark.parametrize(
    ("train", "place", "loss", "said"),
    [
        (Train(global_batch=30), CPU, "", r"global_batch=30 cannot be made of .* Nearest: global_batch=28 or 32"),
        (Train(lora=Lora(dora=True)), CPU, "", r"lora\.dora=true is about adapters.*lora\.r=0"),
        (Train(lora=Lora(r=4, quantize=True)), CPU, "", r"lora\.quantize=true \(QLoRA\) needs"),
        (Train(lora=Lora(r=4, dora=True)), ZERO3, "", r"lora\.dora=true measures whole weights"),
        (Train(samples=1), ZERO3, "", r"samples > 0: .*zero3"),
        (Train(must_save_by="soon"), CPU, "", r"must_save_by='soon'"),
        (Train(dtype="float16"), CPU, "", r"dtype=float16 needs a GPU"),
        (Preference(device_batch=1), CPU, "kto", r"loss=kto.*device_batch=2"),
        (Preference(packing=True), CPU, "sigmoid", r"packing=true is for fine-tuning"),
    ],
)
def test_settings_that_contradict_each_other_or_the_place(train, place, loss, said):
    with pytest.raises(UserError, match=said):
        check(train, place, loss=loss)
    check(Train(), Place("auto"))


def test_a_run_ends_before_anything_is_computed(tmp_path):
    words = ["experiment=mini/collate", f"runs_dir={tmp_path / 'runs'}", "collate.answerer.global_batch=30"]
    with pytest.raises(UserError, match=r"collate\.answerer: global_batch=30 cannot be made"):
        run_experiment(compose(words))
    assert not (tmp_path / "runs").exists()


def test_validate_lists_all_of_it(tmp_path, capsys):
    words = ["sft.global_batch=30", "collate.stage2.packing=true", "deepspeed=zero2", "collate.ift.must_save_by=soon"]
    with pytest.raises(SystemExit) as done:
        main(["validate", "experiment=mini", f"runs_dir={tmp_path}", *words[:2]])
    text = capsys.readouterr().out
    assert done.value.code == 2
    assert "sft: global_batch=30 cannot be made" in text
    assert "collate.stage2: packing=true is for fine-tuning" in text
    found = [*wrong(plan(compose(["experiment=mini", *words[2:]])), tmp_path)]
    assert all("DeepSpeed needs torchrun" in text for text in found)


def test_every_training_is_looked_at_and_the_papers_are_sound(tmp_path):
    assert set(SETTINGS) == MULTI_RANK
    for name in ("mini/baselines", "collate/paper-llama3-8b", "gra/student-llama3.1-8b"):
        assert [*wrong(plan(compose([f"experiment={name}"])), tmp_path)] == []


def test_adapters_of_two_kinds_are_refused_when_they_are_planned():
    words = ["experiment=mini", "collate.share=adapters", "collate.stage2.lora.r=8"]
    with pytest.raises(UserError, match=r"stage2\.lora has r=8, alpha=16, collate\.stage3\.lora r=16, alpha=32"):
        plan(compose(words))
    plan(compose([*words, "collate.stage3.lora.r=8"]))
    plan(compose([*words, "collate.iterations=0"]))  # no stage 3
