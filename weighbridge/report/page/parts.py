"""Parts that the sections of the report share. Text from files is escaped here and nowhere else: what is markup already says so by its type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from weighbridge.report.svg import attribute, classed, text_of


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Cell = str | int | None


def shown(cell: Cell) -> str:
    """A cell as markup: numbers with thousands separators, text escaped."""
    if isinstance(cell, Markup):
        return cell
    if isinstance(cell, int):
        return f"{cell:,}"
    return "" if cell is None else text_of(cell)


def section(name: str, title: str, body: str, command: str = "", intro: str = "") -> str:
    """One section with its heading; `intro` is markup, `command` the line that prints the same in a terminal."""
    told = f"<p class=intro>{intro}</p>" if intro else ""
    same = f'<p class="same no-print">In the terminal: <code>{text_of(command)}</code></p>' if command else ""
    return f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{text_of(title)}</h2>{told}{body}{same}</section>'


def absent(document: dict[str, Any], part: str, name: str, title: str) -> str:
    """The section of a part that could not be made, with the reason that the document gives."""
    reasons = [note["reason"] for note in document.get("notes", ()) if note["part"] == part]
    return section(name, title, f"<p>{text_of('; '.join(reasons) or 'This part is not there.')}</p>")


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]], label: str, numbers: Sequence[int] = (), total: Sequence[Cell] | None = None) -> str:
    """A table in a box of its own that scrolls. `numbers` are the columns that stand right; the first column names the row."""
    def line(cells: Sequence[Cell], tag: str = "") -> str:
        out = []
        for place, cell in enumerate(cells):
            n = " class=n" if place in numbers else ""
            out.append(f"<th scope=row{n}>{shown(cell)}</th>" if place == 0 else f"<td{n}>{shown(cell)}</td>")
        return f"<tr{tag}>{''.join(out)}</tr>"

    top = "".join(f"<th scope=col{' class=n' if place in numbers else ''}>{text_of(word)}</th>" for place, word in enumerate(head))
    foot = f"<tfoot>{line(total)}</tfoot>" if total is not None else ""
    return wide(label, f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(map(line, rows))}</tbody>{foot}</table>")


def wide(label: str, body: str) -> str:
    """A box that scrolls sideways; the keyboard reaches it."""
    return f'<div class="wide" role="region" tabindex="0" aria-label={attribute(label)}>{body}</div>'


def details(summary: str, body: str, paper: bool = True) -> str:
    """A part that is folded on a screen; on paper it is open, or not there."""
    return f"<details{'' if paper else ' class=no-print'}><summary>{text_of(summary)}</summary>{body}</details>"


def copied(text: str, label: str, prose: bool = False) -> str:
    """A block of text with a button that copies exactly it. A break after the tag would be eaten: the text begins on the same line."""
    return (f'<div class="copied"><pre class="fix{" prose" if prose else ""}" tabindex="0">{escaped_lines(text)}</pre>'
            f'<button type="button" class="copy needs-script no-print" aria-label={attribute("Copy: " + label)}>Copy</button></div>')


def escaped_lines(text: str) -> str:
    """Text of several lines, each made clean: a line end is no control character here."""
    return "\n".join(text_of(line) for line in text.split("\n"))


_SHAPES = {
    "error": '<path d="M5.6 1h4.8L15 5.6v4.8L10.4 15H5.6L1 10.4V5.6z"/><path class="cut" d="M5 5l6 6M11 5l-6 6"/>',
    "warning": '<path d="M8 1l7.4 13.4H.6z"/><path class="cut" d="M8 5.6v4.2M8 11.6v1.2"/>',
    "note": '<circle cx="8" cy="8" r="7"/><path class="cut" d="M8 7v5M8 4v1.2"/>',
    "good": '<circle cx="8" cy="8" r="7"/><path class="cut" d="M4.6 8.4l2.3 2.4 4.6-5.2"/>',
}


def icon(severity: str) -> str:
    """Severity as a shape: octagon, triangle, circle. The word always stands beside it."""
    return f'<svg class="icon i-{severity}" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">{_SHAPES[severity]}</svg>'


def chip(kind: str, words: str) -> str:
    """An encoding's name upon its colour."""
    return f'<span class={classed("chip b-" + kind)}>{text_of(words)}</span>'
