"""COLLATE's data: instructions with rationales and answers, and how they are split. All a function of (data, seed)."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from gra_train.data.files import read_rows
from gra_train.data.formats import BadRow, detect, mapper
from gra_train.errors import UserError, nearest
from gra_train.locate import MINI
from gra_train.records import Record
from gra_train.schema import DataFile

log = logging.getLogger(__name__)
ANSWER_MARK = "####"
"""GSM8K's and the miniature's: what stands before it is the rationale, what stands behind it the answer."""

MINI_SETS = ("rationales", "tasks")
DEFAULT_MINI_ROWS = 600
_TASKS = 2_000_003  # the miniature's task data come from another stream than its rationale data


@dataclass(frozen=True, slots=True)
class Task(Record):
    """An instruction I with its gold answer A and, in rationale data, its gold rationale R. domain: "" if unknown."""

    id: str
    instruction: str
    answer: str
    rationale: str = ""
    domain: str = ""


def number(*parts: object) -> int:
    """31 bits that depend on all of `parts` (by their text) and on nothing else: a sampling seed."""
    return int.from_bytes(blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()) >> 33


def tasks(file: DataFile, *, seed: int, need_rationale: bool = False, what: str = "") -> list[Task]:
    """The tasks of a data set, in its order, with ids that no two share. what: how messages call it (else its path).

    A row's rationale is its `rationale` column, or what its response says before `####`; its answer is the rest.
    Raises UserError: no path, nothing there, a row without instruction or answer (or rationale, where it is needed).
    """
    if not file.path:
        raise UserError("COLLATE has no data: set collate.rationale_data.path and collate.task_data.path.")
    if file.path.startswith(MINI):
        return _miniature(file, seed)
    found: list[Task] = []
    skipped: list[str] = []
    to_fields = None
    for row in read_rows(file):
        if file.limit is not None and len(found) >= file.limit:
            break
        try:
            if row.problem or row.values is None:
                raise BadRow(row.problem)
            to_fields = to_fields or mapper(detect(row.values) if file.format == "auto" else file.format, file.fields)
            found.append(_task(f"{row.number}", row.values | to_fields(row.values), need_rationale))
        except BadRow as bad:
            if file.on_bad_row == "stop":
                raise UserError(f"{file.path}, {row.place}: {bad}. Mend it, or set on_bad_row=skip.") from None
            skipped.append(f"{row.place}: {bad}")
    name = what or file.path
    if skipped:
        log.warning("%s: skipped %d rows; the first: %s", name, len(skipped), skipped[0])
    if not found:
        needed = "an instruction, a rationale and an answer" if need_rationale else "an instruction and an answer"
        raise UserError(f"{name} has no usable rows: expected {needed} in each ({len(skipped)} were skipped).")
    return found


def split(items: Sequence[Task], count: int, seed: int) -> tuple[list[Task], list[Task]]:
    """(rest, validation): `count` random rows, kept to pick a provider by. UserError if nothing would be left."""
    if count >= len(items):
        raise UserError(
            f"collate.validation_rows={count}, but the rationale data have only {len(items)} rows: keep fewer for "
            "validation, or give more data."
        )
    order = list(items)
    random.Random(number("validation", seed)).shuffle(order)
    return order[count:], order[:count]


def parts(items: Sequence[Task], count: int, seed: int, *, by: str = "random") -> list[list[Task]]:
    """`count` parts that are together the items. by "random": of equal size (the first ones take the remainder).

    by "domain": whole domains; each goes to the part that is smallest so far, large domains first. Raises UserError for
    fewer domains than parts, for then some provider would have nothing to learn from.
    """
    order = list(items)
    random.Random(number("parts", seed)).shuffle(order)
    if by == "random":
        return [order[s::count] for s in range(count)]
    domains: dict[str, list[Task]] = {}
    for item in order:
        domains.setdefault(item.domain, []).append(item)
    if len(domains) < count:
        raise UserError(
            f"collate.split=domain: the data name {len(domains)} domains ({', '.join(sorted(domains))[:200]}), too few "
            f"for collate.providers={count}. Give the rows a `domain` column, or set collate.split=random."
        )
    found: list[list[Task]] = [[] for _ in range(count)]
    for name in sorted(domains, key=lambda name: (-len(domains[name]), name)):
        min(found, key=len).extend(domains[name])
    return found


def _task(name: str, fields: dict, need_rationale: bool) -> Task:
    response, answer = (str(fields[c]).strip() if fields.get(c) is not None else "" for c in ("response", "answer"))
    text = response if ANSWER_MARK in response else answer or response
    rationale = str(fields.get("rationale") or "").strip()
    if ANSWER_MARK in text:
        before, text = (part.strip() for part in text.rsplit(ANSWER_MARK, 1))
        rationale = rationale or before
    values = {"instruction": str(fields.get("instruction") or "").strip(), "answer": text}
    for key, value in (values | ({"rationale": rationale} if need_rationale else {})).items():
        if not value:
            raise BadRow(f"it has no {key}")
    return Task(name, **values, rationale=rationale, domain=str(fields.get("domain") or ""))


def _miniature(file: DataFile, seed: int) -> list[Task]:
    """mini:rationales and mini:tasks, of all domains or of one: mini:tasks:Math."""
    from gra_train.mini.data import rationale_rows, task_rows
    from gra_train.mini.language import DOMAINS

    name, _, domain = file.path.removeprefix(MINI).partition(":")
    if name not in MINI_SETS:
        known = [MINI + s for s in MINI_SETS]
        raise UserError(f"no miniature data {file.path!r}.{nearest(file.path, known)} Known: {', '.join(known)}.")
    if domain and domain not in DOMAINS:
        raise UserError(f"{file.path!r}: no domain {domain!r}.{nearest(domain, DOMAINS)} Known: {', '.join(DOMAINS)}.")
    count, only = file.limit or DEFAULT_MINI_ROWS, domain or None
    rows = rationale_rows(count, seed, only) if name == "rationales" else task_rows(count, seed + _TASKS, only)
    return [
        Task(str(i), r["instruction"], r["answer"], r.get("rationale", ""), r["domain"]) for i, r in enumerate(rows)
    ]
