"""Paragraphs for the terminal."""

from __future__ import annotations

import textwrap

COLUMNS = 100


def wrapped(text: str, *, indent: int = 0, first: str | None = None, width: int = COLUMNS - 4) -> str:
    """`text` in lines of `width`; further lines are indented, the first begins with `first` (else with the indent)."""
    return textwrap.fill(" ".join(text.split()), width, initial_indent=" " * indent if first is None else first, subsequent_indent=" " * indent,
                         break_long_words=False, break_on_hyphens=False)
