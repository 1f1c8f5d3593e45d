from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from gra_train.training import rows
from gra_train.training.batches import dpo_batch, epoch_order, sft_batch


@pytest.fixture(scope="module")
def tokenizer(model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)


def trl(config_class, trainer_class, model, data, tmp_path):
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer

    args = config_class(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", max_length=64)
    network, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    return trainer_class(network, args=args, train_dataset=datasets.Dataset.from_list(data), processing_class=tokenizer)


def test_sft_batches_equal_trls_own(model, tokenizer, examples, tmp_path):
    import torch
    from trl import SFTConfig, SFTTrainer

    theirs = trl(SFTConfig, SFTTrainer, model, examples, tmp_path)
    ours = rows.sft_rows(tokenizer, examples)
    for part in (slice(0, 5), slice(5, 20)):
        mine = sft_batch(ours[part], pad=tokenizer.pad_token_id)
        wanted = theirs.data_collator([theirs.train_dataset[i] for i in range(40)[part]])
        for name, tensor in mine.items():
            assert torch.equal(tensor, wanted[name]), name


def test_dpo_batches_equal_trls_own(model, tokenizer, examples, tmp_path):
    import torch
    from trl import DPOConfig, DPOTrainer

    pairs = [
        {"prompt": a["prompt"], "chosen": a["completion"], "rejected": b["completion"] + a["prompt"] + b["completion"]}
        for a, b in pairwise(examples[:10])
    ]
    theirs = trl(partial(DPOConfig, precompute_ref_log_probs=False), DPOTrainer, model, pairs, tmp_path)
    mine = dpo_batch(rows.dpo_rows(tokenizer, pairs), pad=tokenizer.pad_token_id)
    wanted = theirs.data_collator(list(theirs.train_dataset))
    for name, tensor in mine.items():
        assert torch.equal(tensor, wanted[name]), name


def test_order_is_a_permutation_that_depends_on_its_arguments_alone():
    lengths = np.random.default_rng(0).integers(5, 60, 103).tolist()
    order = partial(epoch_order, lengths, batch=8, seed=1)
    first = order(epoch=0)
    assert sorted(first) == list(range(103))
    assert first == order(epoch=0)
    assert first != order(epoch=1)
    assert first != epoch_order(lengths, batch=8, seed=2, epoch=0)


def test_steps_hold_examples_of_similar_length():
    lengths = np.random.default_rng(0).integers(5, 60, 160).tolist()

    def spread(order: list[int]) -> float:
        return float(np.mean([np.ptp([lengths[i] for i in order[s : s + 8]]) for s in range(0, 160, 8)]))

    grouped = epoch_order(lengths, batch=8, seed=0, epoch=0)
    assert spread(grouped) < 0.15 * spread(epoch_order(lengths, batch=8, seed=0, epoch=0, by_length=False))
    starts = [lengths[grouped[s]] for s in range(0, 160, 8)]
    assert starts != sorted(starts, reverse=True)  # the steps themselves come in random order
