"""A preview for a person: rich on a terminal, plain text elsewhere, HTML on request. Model text is shown, never obeyed.

Nothing that a model wrote reaches the terminal as a control: control characters, bidirectional overrides and the like
are made visible, and no text is read as markup.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gra_train.chat.protocol import Completion, Reply, TokenLogProbs
from gra_train.records import CRITERIA, FLAGS
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.preview import Exchange, Preview

PLAIN_WIDTH = 120
_LOOKS = {"rubric": "dim", "head": "bold", "call": "cyan", "answer": "green", "bad": "red", "note": "yellow", "": ""}

Line = tuple[str, str]
"""(look, text)"""


def visible(text: str) -> str:
    """`text` with every control and formatting character but newline and tab shown as <U+XXXX>."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else f"<U+{ord(c):04X}>"
        for c in text
    )


def show(made: Preview, html: Path | None) -> None:
    """Print it, and write `html` where that is given."""
    from rich.console import Console
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else PLAIN_WIDTH, highlight=False, record=html is not None)
    for look, text in lines(made):
        console.print(Text(visible(text), style=_LOOKS[look]), soft_wrap=not terminal)
    if html is not None:
        temporary = html.with_name(html.name + ".tmp")
        temporary.write_text(console.export_html(inline_styles=True), encoding="utf-8")
        temporary.replace(html)
        print(f"written: {html}")


def lines(made: Preview) -> Iterator[Line]:
    """The whole preview, one (look, text) per printed line. A prompt's rubric is shown the first time only."""
    rubrics: set[str] = set()
    if made.seed:
        sample, calls = made.seed
        yield "head", f"== the first seed, annotated: {sample.id} =="
        for number, call in enumerate(calls, 1):
            yield from _call(number, call, rubrics)
        yield "answer", f"  domain {sample.domain}; keywords {', '.join(sample.keywords)}; summary: {sample.summary}\n"
    for place, (candidate, calls) in enumerate(made.candidates, 1):
        yield "head", f"== sample {place} of {len(made.candidates)}: {candidate.id}, {candidate.domain} =="
        for number, call in enumerate(calls, 1):
            yield from _call(number, call, rubrics)
        yield from _read(candidate)
    for note in made.notes:
        yield "note", f"- {note}."
    total = made.usage["total"]
    yield "note", f"- {total['asked']} calls: {total['computed']} made now, {total['from_ledger']} from the ledger."
    read, written, scored = (total[f"{name}_tokens"] for name in ("prompt", "completion", "scored"))
    yield "note", f"- tokens: {read} read, {written} written, {scored} scored."


def _call(number: int, call: Exchange, rubrics: set[str]) -> Iterator[Line]:
    role, kind = call.request.purpose.split("/")
    yield "call", f"{number}. {kind}, by {role} {call.model}"
    for message in call.request.messages:
        if message["role"] == "system":
            known = message["content"] in rubrics
            rubrics.add(message["content"])
            if known:
                yield "rubric", f"  system: (the rubric of {kind}, as above)"
                continue
        yield "rubric" if message["role"] == "system" else "", _indented(message["role"], message["content"])
    if isinstance(call.answer, TokenLogProbs):
        assert not isinstance(call.request, Completion)
        if call.answer.failed:
            yield "bad", f"  read: {call.attempt.outcome}"
            return
        count = len(call.answer.logprobs)
        least = f", the least likely token {min(call.answer.logprobs):.2f}" if count else ""
        yield "", _indented("scored", call.request.continuation)
        yield "answer", f"  ln probability {call.answer.total:.2f} over {count} tokens{least}"
        return
    yield from _reply(call, call.answer)


def _reply(call: Exchange, reply: Reply) -> Iterator[Line]:
    yield "answer", _indented("answer", reply.text)
    how = call.attempt.outcome if call.attempt else "not read"
    bad = call.attempt is not None and call.attempt.failed
    yield (
        "bad" if bad else "rubric",
        (
            f"  read: {how}; {reply.prompt_tokens} tokens in, {reply.completion_tokens} out"
            + (", cut at max_tokens" if reply.finish == "length" else "")
        ),
    )


def _read(candidate: Candidate) -> Iterator[Line]:
    """What the parser made of the answers, and the decision."""
    yield "head", "  -- as it was read --"
    if candidate.keywords:
        yield "answer", f"  keywords: {', '.join(candidate.keywords)}"
    for name in ("instruction", "response"):
        if getattr(candidate, name):
            yield "answer", _indented(name, getattr(candidate, name))
    for flags in candidate.instruction_reviews:
        yield "answer", f"  {flags.reviewer}: {_named(FLAGS, flags.flags)}"
    for review in candidate.reviews:
        yield "answer", f"  {review.reviewer}: {_named(CRITERIA, review.scores)}; mean {review.mean:.3g}. {review.text}"
    if candidate.adjudication:
        own = candidate.adjudication
        yield "answer", f"  adjudicator {own.reviewer}: {_named(CRITERIA, own.scores)}; mean {own.mean:.3g}. {own.text}"
    scored = "" if candidate.mu is None else f" (mu {candidate.mu:.3f}, sigma {candidate.sigma:.3f})"
    at = f" at {candidate.failed_at}" if candidate.failed_at else ", before curation"
    checked = {None: "", True: "; the checker finds it correct", False: "; the checker finds it wrong"}
    yield "head", f"  fate: {candidate.fate.value}{at}{scored}{checked[candidate.correct]}\n"


def _named(names: Sequence[str], values: Sequence[Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def _indented(label: str, text: str) -> str:
    body = text.replace("\n", "\n    ")
    return f"  {label}: {body}" if "\n" not in text else f"  {label}:\n    {body}"
