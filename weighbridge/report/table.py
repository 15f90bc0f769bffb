"""Aligned text tables and Markdown tables. Numbers stand right and carry thousands separators."""

from __future__ import annotations

from collections.abc import Sequence

from weighbridge.report import markdown
from weighbridge.report.visible import visible

Cell = str | int | None


def text_table(head: Sequence[str], rows: Sequence[Sequence[Cell]], total: Sequence[Cell] | None = None) -> str:
    """Columns two spaces apart, a rule below the head, and one above `total` where it is given."""
    body = [*rows, total] if total is not None else list(rows)
    numeric = _numeric(len(head), body)
    lines = [[str(h) for h in head], *([_shown(cell) for cell in row] for row in body)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    rule = "  ".join("-" * width for width in widths)
    drawn = [_line(line, widths, numeric) for line in lines]
    drawn.insert(1, rule)
    if total is not None:
        drawn.insert(len(drawn) - 1, rule)
    return "\n".join(drawn)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[Cell]], total: Sequence[Cell] | None = None) -> str:
    """The same as a Markdown table. Cells are text: tensor names are other people's, and none of it becomes markup."""
    body = [*rows, total] if total is not None else list(rows)
    cells = [["-" if cell == "-" else markdown.escaped(_shown(cell)) for cell in row] for row in body]  # a dash alone is no item of a list here
    return markdown.rows([markdown.escaped(h) for h in head], _numeric(len(head), body), cells)


def _shown(cell: Cell) -> str:
    if isinstance(cell, int):
        return f"{cell:,}"
    return "" if cell is None else visible(cell)


def _numeric(columns: int, rows: Sequence[Sequence[Cell]]) -> list[bool]:
    """A column stands right where every filled cell is a number."""
    return [any(isinstance(row[i], int) for row in rows) and all(isinstance(row[i], int) or not row[i] for row in rows)
            for i in range(columns)]


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    return "  ".join(c.rjust(w) if right else c.ljust(w) for c, w, right in zip(cells, widths, numeric, strict=True)).rstrip()
