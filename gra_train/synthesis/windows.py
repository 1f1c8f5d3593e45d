"""Do the prompts fit the models? The longest seeds' prompts beside each model's window. For `gra-train validate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from gra_train.chat.serve import resolve
from gra_train.doctor import Finding
from gra_train.errors import UserError
from gra_train.locate import positions
from gra_train.records import Sample
from gra_train.schema import Config, Model
from gra_train.synthesis.assumptions import Assumptions
from gra_train.synthesis.demand import counter, rendered

LONGEST_SEEDS = 16
"""The longest seeds, whose prompts are rendered and counted."""
_WINDOW = "--max-model-len"


def windows(config: Config, samples: Sequence[Sample] | None, said: Mapping[str, int]) -> Iterator[Finding]:
    """A problem where a prompt fills a model's window, a note where prompt and synthesis.max_tokens do not fit
    together. Models whose window is not known are passed over.

    said: what servers that run say of their windows, by the model's name.
    """
    if not samples:
        return
    try:
        pool = resolve(config.pool)
    except UserError:
        return  # said elsewhere
    some = sorted(samples, key=lambda s: (-len(s.instruction) - len(s.response), s.id))[:LONGEST_SEEDS]
    prompts = list(rendered(some, config.synthesis))
    limit = config.synthesis.max_tokens
    for model in [*pool.models, *([pool.large] if pool.large else [])]:
        try:
            window = said.get(model.name) or _own(model)
            count, how = counter([model], Assumptions().characters)
        except UserError:
            continue
        if not window:
            continue
        sizes = [count(prompt.messages) for _, prompt in prompts]
        longest = max(range(len(sizes)), key=sizes.__getitem__)
        (sample, prompt), size = prompts[longest], sizes[longest]
        if size + limit <= window:
            continue
        full = size >= window
        text = (
            f"the prompt {prompt.kind!r} with seed {sample.id} has {size} tokens (counted {how}), with "
            f"synthesis.max_tokens={limit} {size + limit}, and its window is {window}: "
            + ("nothing is left for an answer" if full else f"answers to it are cut at {window - size} tokens")
        )
        advice = "lower synthesis.max_tokens, drop such seeds, or serve the model with a longer window"
        yield Finding("problem" if full else "note", model.name, text, advice)


def _own(model: Model) -> int | None:
    """The window of a model in process, or of a server that we start."""
    if model.url or not model.path:
        return None
    arguments = list(model.serve.get("arguments", ()))
    given = [b for a, b in pairwise(arguments) if a == _WINDOW]
    given += [a.partition("=")[2] for a in arguments if a.startswith(_WINDOW + "=")]
    return int(given[-1]) if given and given[-1].isdigit() else positions(model.path)
