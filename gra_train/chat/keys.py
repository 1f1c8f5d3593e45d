"""What answers are filed under in the ledger (16-byte keys), and how they are written there (small JSON arrays)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from gra_train.chat.protocol import Answer, Completion, Likelihood, Reply, Request, TokenLogProbs
from gra_train.chat.segments import KEY

_FIELDS = {
    kind: tuple(field.name for field in dataclasses.fields(kind) if field.compare) for kind in (Completion, Likelihood)
}
_LATER = ("schema", "sample", "logprobs")


def request_key(fingerprint: str, request: Request) -> bytes:
    """16 bytes for everything that determines the answer: the weights and all of the request but its purpose."""
    kind = "complete" if isinstance(request, Completion) else "likelihood"
    fields = {name: getattr(request, name) for name in _FIELDS[type(request)]}
    for name in _LATER:  # not there yet when older ledgers were written: left out unless set
        if not fields.get(name, True):
            del fields[name]
    return key_of([kind, fingerprint, fields])


def batch_key(kind: str, keys: Sequence[bytes], *extra: Any) -> bytes:
    """16 bytes for a list of requests in this order: an in-process answer's floats depend on its neighbours."""
    return key_of([kind, [k.hex() for k in keys], *extra])


def key_of(value: Any) -> bytes:
    encoded = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(encoded, digest_size=KEY).digest()


def key_in_batch(key: bytes, row: int) -> bytes:
    """The key of one answer of a batch: the record's, and 4 bytes for the row."""
    return key + row.to_bytes(4, "big")


def written(key: bytes) -> str:
    """A key as tables name it: hex digits, and "/row" for one answer of a batch. Empty for no key."""
    row = f"/{int.from_bytes(key[KEY:], 'big')}" if len(key) > KEY else ""
    return key[:KEY].hex() + row


def read(text: str) -> tuple[bytes, int | None]:
    """(key of the record, row of the batch or None): the inverse of `written`. Raises ValueError for other text."""
    digits, slash, row = text.partition("/")
    key = bytes.fromhex(digits)
    if len(key) != KEY:
        raise ValueError(f"{len(key)} bytes")
    return key, int(row) if slash else None


def encode(answer: Answer) -> list[Any]:
    """An answer as a small JSON array; `decode` is its inverse. -inf is written as null."""
    if isinstance(answer, Reply):
        value = [answer.text, answer.finish, answer.prompt_tokens, answer.completion_tokens]
        return value if answer.logprobs is None else [*value, encode(answer.logprobs)]
    if answer.failed:
        return [None, [], answer.prompt_tokens]
    value = [list(answer.logprobs), list(answer.tokens)]
    return [*value, answer.prompt_tokens] if answer.prompt_tokens else value


def is_failed(value: Any) -> bool:
    """Whether an encoded answer says that there was none."""
    return (
        isinstance(value, list) and len(value) > 2 and (value[0] is None or (value[0] == "" and value[1] == "failed"))
    )


def decode(value: list[Any], key: bytes = b"") -> Answer:
    """key: where the ledger has it (see `key_in_batch`), for the record of where a row came from."""
    if isinstance(value[0], str):
        text, finish, prompt, written, *scores = value
        return Reply(text, finish, prompt, written, _log_probs(scores[0], b"") if scores else None, key)
    return _log_probs(value, key)


def _log_probs(value: list[Any], key: bytes) -> TokenLogProbs:
    prompt = value[2] if len(value) > 2 else 0
    if value[0] is None:
        return TokenLogProbs((), (), key, prompt, failed=True)
    return TokenLogProbs(tuple(float("-inf") if v is None else v for v in value[0]), tuple(value[1]), key, prompt)
