"""A rendered table as blocks (headings, paragraphs, lists, grids), written as Markdown or as LaTeX with booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gra_train.reporting.markup import grid, one_line


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Bullets:
    items: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A table of texts. caption: of its LaTeX float; Markdown has the heading above it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure's file beside the text, without its ending."""

    name: str
    caption: str


Block = Heading | Paragraph | Bullets | Grid | Picture


def make_grid(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> Grid:
    return Grid(tuple(columns), tuple(tuple(row) for row in rows), caption)


def to_markdown(blocks: Sequence[Block]) -> str:
    return "\n".join(_markdown(block) for block in blocks)


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}\n"
        case Paragraph(text):
            return f"{text}\n"
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items) + "\n"
        case Picture(name, caption):
            return f"![{caption}]({name}.svg)\n"
        case Grid(columns, rows):
            return grid(columns, rows)


def to_latex(blocks: Sequence[Block], *, label: str) -> str:
    r"""Floats and paragraphs for \input into a document with booktabs, graphicx (and svg or the PNG for figures)."""
    head = "% Made by gra-train table. Needs \\usepackage{booktabs,graphicx}."
    parts, tables = [head], 0
    for block in blocks:
        if isinstance(block, Grid):
            tables += 1
        parts.append(_latex(block, f"{label}:{tables}"))
    return "\n".join(parts)


def _latex(block: Block, label: str) -> str:
    match block:
        case Heading(text, level):
            return f"\\{('section', 'subsection', 'paragraph')[min(level, 3) - 1]}*{{{escape(text)}}}\n"
        case Paragraph(text):
            return f"{escape(text)}\n"
        case Bullets(items):
            lines = [f"  \\item {escape(item)}" for item in items]
            return "\n".join(["\\begin{itemize}", *lines, "\\end{itemize}\n"])
        case Picture(name, caption):
            return "\n".join([
                "\\begin{figure}[htbp]", "  \\centering", f"  \\includegraphics[width=\\linewidth]{{{name}}}",
                f"  \\caption{{{escape(caption)}}}", "\\end{figure}\n",
            ])  # fmt: skip
        case Grid(columns, rows, caption):
            body = [f"    {_line(row)}" for row in rows]
            return "\n".join([
                "\\begin{table}[htbp]", "  \\centering", f"  \\caption{{{escape(caption)}}}", f"  \\label{{{label}}}",
                "  \\resizebox{\\linewidth}{!}{%", f"  \\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
                "    \\toprule", f"    {_line(columns)}", "    \\midrule", *body, "    \\bottomrule",
                "  \\end{tabular}}", "\\end{table}\n",
            ])  # fmt: skip


def _line(cells: Sequence[str]) -> str:
    return " & ".join(escape(one_line(cell)) for cell in cells) + r" \\"


SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "[": "{[}", "]": "{]}",
}  # fmt: skip


def escape(text: str) -> str:
    """Text for LaTeX. Markdown's `code` and **bold** become their commands; [ ] are protected after a line's end."""
    plain = "".join(SPECIAL.get(c, c) for c in text)
    plain = re.sub(r"`([^`]+)`", r"\\texttt{\1}", plain)
    return re.sub(r"\*\*([^*]+)\*\*", r"\\textbf{\1}", plain)
