"""Text from outside as Markdown (CommonMark with GitHub's tables): it stays text, whatever it holds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from weighbridge.report.visible import visible

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# An underscore inside a word is no mark: names of tensors stay as they are.
_MARKS = re.compile(r"[\\`*\[\]{}~$|#]|(?<![^\W_])_|_(?![^\W_])")
_ADDRESS = re.compile(r":(?=//)|(?<=www)\.", re.IGNORECASE)  # what GitHub would make a link
_START = re.compile(r"^(\d{1,9}(?=[.)](?:\s|$))|(?=[-+](?:[-\s]|$)|[= ]))(.)")  # an item, a rule, a heading, code: at the start of a line


def escaped(text: str) -> str:
    """One line of text for a paragraph, a heading, an item or a cell of a table."""
    safe = re.sub("[&<>]", lambda m: _ENTITIES[m[0]], visible(text))
    safe = _ADDRESS.sub(lambda m: f"&#{ord(m[0])};", _MARKS.sub(lambda m: "\\" + m[0], safe))
    return _START.sub(lambda m: f"{m[1]}&#{ord(m[2])};", safe)


def code(text: str) -> str:
    """A name as code where that is safe, else escaped."""
    return escaped(text) if not text or set(text) & set("`|\\<>&") or text != text.strip() else f"`{visible(text)}`"


def fenced(body: str, language: str = "") -> str:
    """A block of code around lines that may hold a fence themselves."""
    longest = max((len(run) for run in re.findall("`{3,}", body)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{body}\n{fence}"


def rows(head: Sequence[str], right: Sequence[bool], cells: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already. `right` says which columns stand right."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["--:" if r else "---" for r in right], *cells))
