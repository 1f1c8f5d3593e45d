"""`gra-train ledger stats|export|show|vacuum [FOLDER]`: what a ledger holds, and keeping it small."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from gra_train.errors import UserError

FOLDER = Path("runs/ledger")


def main(arguments: Sequence[str]) -> int:
    """Exit code 0; raises UserError for wrong arguments, a folder without a ledger, a full disk or a running writer."""
    parser = _Parser(prog="gra-train ledger", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    stats = actions.add_parser("stats", help="rows, tokens, bytes and dates per model, purpose and kind")
    export = actions.add_parser("export", help="all answers as one parquet file")
    show = actions.add_parser("show", help="the record under a key, as candidates.parquet names it")
    vacuum = actions.add_parser("vacuum", help="merge small segments; drop repeated and damaged records")
    show.add_argument("key", help="32 hex digits, and /row for one answer of a batch")
    for action in (stats, export, show, vacuum):
        action.add_argument("folder", type=Path, nargs="?", default=FOLDER, help=f"default: {FOLDER}")
    export.add_argument("--out", type=Path, required=True, help="FILE.parquet")
    vacuum.add_argument("--dry-run", action="store_true", help="only say what would be done")
    vacuum.add_argument(
        "--failed", action="store_true", help="also drop calls that no server answered: to ask them again"
    )
    words = parser.parse_args(list(arguments))
    if not words.folder.is_dir() or not any(words.folder.glob("*.seg")):
        raise UserError(
            f"there is no ledger in {str(words.folder)!r}: no folder with *.seg files. A run keeps its ledger in "
            "RUNS_DIR/ledger; name that folder."
        )
    {"stats": _stats, "export": _export, "show": _show, "vacuum": _vacuum}[words.action](words)
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{self.prog}: {message}. {' '.join(self.format_usage().split())}")


def _stats(words: argparse.Namespace) -> None:
    from gra_train.chat.ledger_reading import overview

    found = overview(words.folder)
    rows: list[tuple[str, ...]] = [
        (
            "model",
            "purpose",
            "kind",
            "answers",
            "prompt tokens",
            "written",
            "scored",
            "truncated",
            "failed",
            "MB",
            "first",
            "last",
        )
    ]
    for (model, purpose, kind), count in sorted(found.counts.items()):
        numbers = (count.answers, count.prompt_tokens, count.completion_tokens, count.scored_tokens, count.truncated,
                   count.failed)  # fmt: skip
        rows.append((model, purpose, kind, *(f"{n:,}" for n in numbers), f"{count.bytes / 1e6:.1f}",
                     _day(count.first), _day(count.last)))  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        print(
            "  ".join([*left, *(cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True))]).rstrip()
        )
    print(f"{found.keys:,} keys in {found.segments:,} segments, {found.size / 1e6:.1f} MB", end="")
    print(f"; {found.superseded:,} records are repetitions, {found.broken:,} bytes are damaged or torn")
    for name in found.foreign:
        print(f"{name}: written by another version; not counted")


def _export(words: argparse.Namespace) -> None:
    from gra_train.chat.ledger_reading import export

    rows = export(words.folder, words.out)
    print(f"{rows:,} answers in {words.out}")


def _show(words: argparse.Namespace) -> None:
    import orjson

    from gra_train.chat.keys import read
    from gra_train.chat.ledger import Ledger

    try:
        key, number = read(words.key)
    except ValueError:
        raise UserError(f"key {words.key!r}: expected 32 hex digits, and /row for one answer of a batch") from None
    with Ledger(words.folder) as ledger:
        record = ledger.record(key)
    if record is None:
        raise UserError(f"key {words.key!r} is not in {str(words.folder)!r}")
    found = record._asdict() | {"seconds": datetime.fromtimestamp(record.seconds, UTC).isoformat()}
    if number is not None:
        if record.kind != "batch" or not 0 <= number < len(record.value):
            raise UserError(f"key {words.key!r}: the record is a {record.kind} without a row {number}")
        found["value"] = record.value[number]
        found["purpose"] = record.purpose if isinstance(record.purpose, str) else record.purpose[number]
    print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())


def _vacuum(words: argparse.Namespace) -> None:
    from gra_train.chat.ledger_vacuum import vacuum

    done = vacuum(words.folder, dry_run=words.dry_run, failed=words.failed)
    would = "would be " if words.dry_run else ""
    print(
        f"{done.merged:,} segments {would}merged into {min(1, done.merged)}; {done.superseded:,} repeated records and "
        f"{done.broken:,} damaged or torn bytes"
        + f" and {done.failed:,} calls without an answer" * words.failed
        + f" {would}dropped; {done.before / 1e6:.1f} MB -> {done.after / 1e6:.1f} MB"
    )


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
