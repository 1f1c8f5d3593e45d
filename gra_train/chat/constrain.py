"""Constrained decoding: an answer that must match a regular expression or a JSON schema, with xgrammar, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gra_train.chat.protocol import Completion
from gra_train.errors import UserError


class Constraints:
    """The state of each row's expression while a batch is decoded; rows whose request has none are free.

    vocabulary: width of the logits. end_ids: ids that end an answer.
    """

    def __init__(
        self, compiler: Compiler, requests: Sequence[Completion], vocabulary: int, end_ids: Sequence[int]
    ) -> None:
        import xgrammar

        self._xgrammar = xgrammar
        self._patterns = [r.regex if r.schema is None else r.schema for r in requests]
        self._matchers = [self._matcher(compiler, r, end_ids) for r in requests]
        self._bitmask = xgrammar.allocate_token_bitmask(len(requests), vocabulary)

    def _matcher(self, compiler: Compiler, request: Completion, end_ids: Sequence[int]) -> Any:
        if request.regex is None and request.schema is None:
            return None
        grammar = compiler.schema(request.schema) if request.regex is None else compiler.compile(request.regex)
        return self._xgrammar.GrammarMatcher(grammar, terminate_without_stop_token=not end_ids)

    def mask(self, logits: torch.Tensor) -> None:
        """Set the logits [rows, vocabulary] of forbidden tokens to -inf, in place."""
        self._bitmask.fill_(-1)
        for row, matcher in enumerate(self._matchers):
            if matcher is not None:
                matcher.fill_next_token_bitmask(self._bitmask, row)
                if not bool(self._bitmask[row].any()):
                    raise UserError(f"the tokenizer has no token that can go on matching {self._patterns[row]!r}")
        self._xgrammar.apply_token_bitmask_inplace(logits, self._bitmask.to(logits.device))

    def accept(self, row: int, token: int) -> bool:
        """Advance a row by its token; True when its answer is complete."""
        matcher = self._matchers[row]
        if matcher is None or (matcher.accept_token(token) and not matcher.is_terminated()):
            return False
        self._matchers[row] = None
        return True

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in this order."""
        self._patterns = [self._patterns[r] for r in rows]
        self._matchers = [self._matchers[r] for r in rows]
        self._bitmask = self._bitmask[list(rows)].clone()

    def join(self, other: Constraints) -> None:
        """Go on with another batch's rows behind these."""
        self._patterns += other._patterns
        self._matchers += other._matchers
        self._bitmask = torch.cat([self._bitmask, other._bitmask])


class Compiler:
    """Compiles expressions for one tokenizer; xgrammar caches the grammars."""

    def __init__(self, tokenizer: Any, vocabulary: int, end_ids: Sequence[int]) -> None:
        import xgrammar

        ends = list(end_ids) or None
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary, stop_token_ids=ends)
        decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
        if info.vocab_type == xgrammar.VocabType.RAW and type(decoder).__name__ == "Metaspace":
            # xgrammar takes such pieces literally where there are no byte tokens: write the space for its marker
            pieces = tokenizer.convert_ids_to_tokens(range(min(vocabulary, len(tokenizer))))
            pieces = [piece.replace("\u2581", " ") for piece in pieces] + [""] * (vocabulary - len(tokenizer))
            info = xgrammar.TokenizerInfo(pieces, vocab_size=vocabulary, stop_token_ids=ends, add_prefix_space=True)
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1)
        self._prefixed = info.add_prefix_space

    def compile(self, pattern: str) -> Any:
        """The grammar of an expression. The space that some tokenizers put before the first word does not count.

        Raises UserError for an expression that xgrammar does not understand.
        """
        try:
            return self._compiler.compile_regex(f" ?({pattern})" if self._prefixed else pattern)
        except RuntimeError as error:
            raise UserError(f"regular expression {pattern!r} cannot be used for constrained answers: {error}") from None

    def schema(self, schema: str | None) -> Any:
        """The grammar of a JSON schema, without free white space (small models would never stop writing it).

        Raises UserError for a schema that xgrammar does not understand.
        """
        try:
            return self._compiler.compile_json_schema(schema, any_whitespace=False)
        except RuntimeError as error:
            raise UserError(f"JSON schema {schema!r} cannot be used for constrained answers: {error}") from None
