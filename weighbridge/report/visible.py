r"""Text from outside (names, settings, paths, tokens) made harmless for whoever prints it.

What a terminal obeys or hides is written as an escape: `\x1b`, `\n`, `\u202e`. That is: control characters (C0, DEL, C1), marks that turn the
direction of writing, characters without width or ink, separators of lines and paragraphs, half surrogates, and code points without a character.
"""

from __future__ import annotations

import re
from typing import Any

LONGEST = 10_000  # characters of one text that people are shown; JSON has all of it
# Printable for Python, and yet nothing is seen (Unicode's Default_Ignorable_Code_Point, and the blank pattern of Braille).
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# A runner of GitHub Actions obeys `::error::` at the start of a line, and the older `##[error]` anywhere in it.
_COMMAND = re.compile(r"^([^\S\n]*:):|(##)\[", re.MULTILINE)
# The colours that our own texts use (report/check, report/draw). No other sequence passes.
_PAINT = re.compile("(\x1b\\[(?:0|1;3[136]|33|9[1-6])m)")


def visible(text: str) -> str:
    """One line: nothing in it moves a cursor, turns the writing or hides. A text of megabytes is cut, with its length."""
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}… ({len(text):,} characters)"
    return _escaped(text, "")


def for_people(value: Any) -> Any:
    """A document (plain data) in which every text is `visible`: what renderers for people get.

    The value of a fix stays as it is: it is printed as JSON, which has escapes of its own and must hold the true name.
    """
    if isinstance(value, str):
        return value if len(value) <= LONGEST and value.isascii() and value.isprintable() else visible(value)
    if isinstance(value, dict):
        return {for_people(k): v if k == "value" and "edits" in value else for_people(v) for k, v in value.items()}
    return [for_people(v) for v in value] if isinstance(value, list | tuple) else value


def lines(body: str, *, colour: bool = False, prose: bool = False) -> str:
    """A finished text for a terminal or a log: no line of it is a command to a CI runner.

    `colour` lets the colours of our own palette pass. `prose` is what a model wrote: tabs and the joiners of scripts and emoji stay.
    """
    kept = "\n\t\u200c\u200d\ufe0f" if prose else "\n"  # Persian, Hindi and emoji are not spelled without the last three
    parts = _PAINT.split(body) if colour else [body]
    text = "".join(part if place % 2 else _escaped(part, kept) for place, part in enumerate(parts))
    return _COMMAND.sub(_disarmed, text) if "::" in text or "##[" in text else text


class Flow:
    """`lines` of prose that comes in pieces: a command may begin in one piece and end in the next."""

    def __init__(self) -> None:
        self.line = ""  # the line so far, as it was printed; of a long one its end

    def __call__(self, piece: str) -> str:
        whole = lines(self.line + piece, prose=True)
        added, last = whole[len(self.line):], whole[whole.rfind("\n") + 1 :]
        self.line = last if len(last) < 100 else "x" + last[-2:]
        return added


def _escaped(text: str, kept: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return text.translate({ord(c): _escape(c) for c in set(text) if c not in kept and not seen(c)})


def seen(c: str) -> bool:
    """Whether a reader sees this character, and it does nothing else."""
    return c.isprintable() and not _BLANK.match(c)


def _escape(c: str) -> str:
    code = ord(c)
    return _SHORT.get(c) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def _disarmed(match: re.Match[str]) -> str:
    return f"{match[1]}\\x3a" if match[1] else "##\\x5b"
