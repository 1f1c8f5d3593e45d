"""Training examples: from conversations to token ids, with over-long ones counted and left out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gra_train.errors import UserError

log = logging.getLogger(__name__)
Row = dict[str, Any]
"""SFT: prompt_ids, completion_ids (packed: parts, a list of such). DPO: prompt_ids, chosen_ids, rejected_ids (and
ref_chosen, ref_rejected once known). KTO: and kl_chosen_ids, kl_rejected_ids. Ids are int32 arrays."""

CHUNK = 1024


def example(instruction: str, response: str) -> dict[str, Any]:
    """A prompt-completion example in conversational form."""
    return {"prompt": [_turn("user", instruction)], "completion": [_turn("assistant", response)]}


def pair(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    """A preference example in conversational form."""
    return {
        "prompt": [_turn("user", prompt)],
        "chosen": [_turn("assistant", chosen)],
        "rejected": [_turn("assistant", rejected)],
    }


def sft_rows(tokenizer: Any, examples: Sequence[dict[str, Any]]) -> list[Row]:
    """Token ids of prompt-completion examples, split as TRL splits them.

    The completion starts where the rendered prompt (with the generation prompt) and the rendered conversation diverge.
    Raises UserError for no examples, a tokenizer without chat template, and columns that are not these.
    """
    _check(tokenizer, examples, ("prompt", "completion"))
    rows: list[Row] = []
    for chunk in _chunks(examples):
        prompts = _ids(tokenizer, [e["prompt"] for e in chunk], prompt=True)
        wholes = _ids(tokenizer, [e["prompt"] + e["completion"] for e in chunk])
        for prompt, whole in zip(prompts, wholes, strict=True):
            cut = _shared(prompt, whole)
            rows.append({"prompt_ids": whole[:cut], "completion_ids": whole[cut:]})
    _warn_open_end(tokenizer, rows[0]["completion_ids"])
    return rows


def dpo_rows(tokenizer: Any, examples: Sequence[dict[str, Any]]) -> list[Row]:
    """Token ids of preference examples; raises like `sft_rows`."""
    _check(tokenizer, examples, ("prompt", "chosen", "rejected"))
    rows: list[Row] = []
    for chunk in _chunks(examples):
        prompts = _ids(tokenizer, [e["prompt"] for e in chunk], prompt=True)
        chosen = _ids(tokenizer, [e["prompt"] + e["chosen"] for e in chunk])
        rejected = _ids(tokenizer, [e["prompt"] + e["rejected"] for e in chunk])
        for prompt, good, bad in zip(prompts, chosen, rejected, strict=True):
            cut = min(_shared(prompt, good), _shared(prompt, bad))
            rows.append({"prompt_ids": good[:cut], "chosen_ids": good[cut:], "rejected_ids": bad[cut:]})
    _warn_open_end(tokenizer, rows[0]["chosen_ids"])
    return rows


def length(row: Row) -> int:
    """Tokens of an example: prompt and the longer of its completions; of a packed row: of all its examples."""
    if "parts" in row:
        return sum(map(length, row["parts"]))
    return len(row["prompt_ids"]) + max(
        len(ids) for name, ids in row.items() if name.endswith("_ids") and name[0] != "p"
    )


def keep_fitting(rows: list[Row], *, max_length: int, max_overlong: float) -> list[Row]:
    """The rows that fit into `max_length` tokens: a truncated completion is never trained on.

    Raises UserError when the share of the others is above `max_overlong`, or when nothing is left.
    """
    kept = [row for row in rows if length(row) <= max_length]
    overlong = len(rows) - len(kept)
    longest = max(map(length, rows))
    if overlong > max_overlong * len(rows) or not kept:
        raise UserError(
            f"{overlong} of {len(rows)} examples are longer than max_length={max_length} tokens (the longest has "
            f"{longest}); max_overlong={max_overlong} allows {max_overlong:.1%} of them to be left out. "
            "Raise max_length, shorten the data, or raise max_overlong."
        )
    if overlong:
        log.warning("%d of %d examples are longer than %d tokens and are left out", overlong, len(rows), max_length)
    return kept


def mismatched(rows: Sequence[Row], *, max_length: int) -> None:
    """Give every pair the next pair's completions, for KTO's estimate of the KL divergence (nothing is trained on them;
    they are cut at max_length)."""
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        room = max(1, max_length - len(row["prompt_ids"]))
        row["kl_chosen_ids"], row["kl_rejected_ids"] = other["chosen_ids"][:room], other["rejected_ids"][:room]


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _check(tokenizer: Any, examples: Sequence[dict[str, Any]], columns: tuple[str, ...]) -> None:
    if not examples:
        raise UserError("there is nothing to train on: the data set has no rows")
    for number, row in enumerate(examples):
        if missing := [c for c in columns if not row.get(c)]:
            raise UserError(
                f"example {number} has no {missing[0]!r}; expected {', '.join(columns)}, found {sorted(row)}"
            )
        for column in columns:
            for turn in row[column]:
                if not isinstance(turn["content"], str):  # NaN of a data frame, a number, nothing
                    raise UserError(f"example {number} has {turn['content']!r} in {column!r}; expected text")
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no chat template: add chat_template.jinja to the model "
            "folder (the instruct version of the model usually has one)."
        )


def _ids(tokenizer: Any, conversations: list[list[dict[str, str]]], *, prompt: bool = False) -> list[np.ndarray]:
    texts = tokenizer.apply_chat_template(conversations, tokenize=False, add_generation_prompt=prompt)
    return [np.asarray(ids, dtype=np.int32) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def _shared(prompt: np.ndarray, whole: np.ndarray) -> int:
    size = min(len(prompt), len(whole))
    different = np.flatnonzero(prompt[:size] != whole[:size])
    return int(different[0]) if len(different) else size


def _warn_open_end(tokenizer: Any, completion: np.ndarray) -> None:
    if tokenizer.eos_token_id not in completion[-2:]:
        log.warning(
            "the chat template does not end a completion with %r: the model may not learn to stop", tokenizer.eos_token
        )


def _chunks(examples: Sequence[dict[str, Any]]) -> Iterable[Sequence[dict[str, Any]]]:
    return (examples[i : i + CHUNK] for i in range(0, len(examples), CHUNK))
