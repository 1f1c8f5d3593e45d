import pytest

from gra_train.training import head
from gra_train.training.rows import sft_rows


def losses(model, examples, *, plain: bool):
    """Outputs and gradients of one batch with our head or with TRL's."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.utils import add_fused_lm_head

    from gra_train.training.batches import sft_batch

    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    add_fused_lm_head(network, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    if plain:
        head.add_plain_head(network)
    batch = sft_batch(sft_rows(tokenizer, examples[:7]), pad=tokenizer.pad_token_id)
    out = network(**batch, fused_lm_head=True)
    out.log_probs.sum().backward()
    return out, [p.grad for p in network.parameters()], network


def test_same_values_and_gradients_as_trls_head(model, examples):
    import torch

    ours, our_gradients, network = losses(model, examples, plain=True)
    theirs, their_gradients, _ = losses(model, examples, plain=False)
    mask = theirs.label_mask
    assert torch.equal(ours.label_mask, mask)
    for name in ("log_probs", "entropy", "mean_logits", "loss"):
        wanted = getattr(theirs, name)
        wanted = wanted.masked_fill(~mask, 0) if wanted.dim() else wanted
        torch.testing.assert_close(getattr(ours, name), wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(ours.is_top1, theirs.is_top1 & mask)
    for one, other in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert network(torch.tensor([[5, 6]])).logits.shape[-1] == network.config.vocab_size  # unfused: untouched


@pytest.mark.parametrize(("setting", "value"), [("vocab_size", 50000), ("logits_scaling", 8.0), ("logit_scale", 0.5)])
def test_other_models_keep_trls_head(model, setting, value):
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model)
    assert head.applies(network)
    setattr(network.config, setting, value)
    assert not head.applies(network)
