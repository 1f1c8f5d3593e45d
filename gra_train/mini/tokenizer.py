"""The miniature's tokenizer: every word of the language and every number up to 99 is one token.

Whole words made the same small model learn several times faster than pieces did. Other text falls apart into single
characters (any ASCII text survives a round trip), and what is not ASCII becomes <unk>: nothing crashes.
Saved as a standard Hugging Face folder; its chat template takes user and assistant turns and refuses a system turn,
as several real models' templates do.
"""

from __future__ import annotations

import random
import re
import string
from typing import TYPE_CHECKING

from gra_train.mini import orders, programs, stories
from gra_train.mini.base_texts import base_example
from gra_train.mini.roles import ROLES, Profile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'user' %}{{- '<|user|>' + message['content'] | trim }}"
    "{%- elif message['role'] == 'assistant' %}{{- '<|assistant|>' + message['content'] | trim + eos_token }}"
    "{%- else %}{{- raise_exception('only user and assistant turns are supported') }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)


def words() -> list[str]:
    """All words of the language, sorted: those in the lists, and those met in a sample of the training texts."""
    rng, found = random.Random(0), set[str]()
    for names in (stories.NAMES, stories.THINGS, programs.LETTERS, orders.ATTRIBUTES):
        found.update(names)
    texts = [make(rng, Profile()) for make in ROLES.values() for _ in range(1500)] + [
        base_example(rng) for _ in range(1500)
    ]
    for prompt, output in texts:
        found.update(re.findall(r"[A-Za-z]+|#+", f"{prompt} {output}"))
    return sorted(found | {str(n) for n in range(100)})


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, from the language alone: nothing is learned."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import Unigram
    from transformers import PreTrainedTokenizerFast

    characters = [c for c in string.printable if c.isprintable() and c != " "] + ["\n", "\t"]
    marked = [
        f"▁{piece}" for piece in [*words(), *(c for c in characters if not c.isalnum() and c != "\n" and c != "\t")]
    ]
    pieces = list(dict.fromkeys([*SPECIAL, *marked, "▁", *characters]))
    # Unigram picks the likeliest segmentation: one whole word beats any sequence of characters.
    vocabulary = [(piece, 0.0 if piece in SPECIAL else -1.0 if len(piece) > 1 else -10.0) for piece in pieces]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=SPECIAL.index("<unk>"), byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        padding_side="left",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
