"""Reads the commands that a Markdown page shows, with the output that it shows for each, and compares that with what is printed.

A block of a page is a fence (three backquotes, with no word behind them or one of SHELLS). In it
* a line `$ weighbridge …` is a command; the lines up to the next `$` are what it prints;
* without any `$`, a line `weighbridge …` is a command, and no output is shown;
* `…` on a line of its own stands for any number of lines, and inside a line for any text;
* `# …` behind a command is a comment.
A fence `json` below a line that ends in a file's name, as in "With this `neuron_config.json`:", is that file.
Code between single backquotes that begins with `weighbridge` and a verb is a command, too; it is only parsed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

SHELLS = ("", "text", "console", "bash", "sh", "shell")
VERB = re.compile(r"weighbridge (?:-- )?[a-z]")

# What differs from run to run and from machine to machine: times, speeds, peak memory.
MEASURED = ((re.compile(r"(?:[\d.,]+|…) ?(?:[kMG]?B/s|tokens/s)"), "(speed)"), (re.compile(r"\b(in|after|of) (?:[\d.,]+|…) ?(?:ms|min|s)\b"), r"\1 (time)"),
            (re.compile(r"peak memory (?:[\d.,]+|…) ?[kMG]?B"), "peak memory (size)"))
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
SMALL = 1e-3  # rounding alone: it depends on the order of additions
BARS = re.compile(r"[▏▎▍▌▋▊▉█]+")


@dataclass(frozen=True)
class Command:
    """A command of a page: its words without `weighbridge`, and the lines that are shown below it (None: no output is shown)."""

    line: int
    words: tuple[str, ...]
    shown: tuple[str, ...] | None
    comment: str = ""

    def __str__(self) -> str:
        return "weighbridge " + shlex.join(self.words)


def of_page(text: str) -> list[Command]:
    """The commands in the fences of a page, in order."""
    return [command for kind, first, lines in fences(text) if kind in SHELLS for command in of_block(first, lines)]


def fences(text: str) -> Iterator[tuple[str, int, list[str]]]:
    """(word behind the backquotes, number of the first line inside, lines)."""
    kind, first, held = None, 0, []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.lstrip().startswith("```"):
            held.append(line)
        elif kind is None:
            kind, first, held = line.strip()[3:].strip(), number + 1, []
        else:
            yield kind, first, held
            kind = None


def files(text: str) -> dict[str, str]:
    """The files that a page gives in full: {name: content}."""
    above, found = text.splitlines(), {}
    for kind, first, lines in fences(text):
        told = next((line for line in reversed(above[: first - 2]) if line.strip()), "")
        named = re.search(r"`([\w.-]+\.json)`:$", told)
        if kind == "json" and named:
            found[named[1]] = "\n".join(lines)
    return found


def of_block(first: int, lines: list[str]) -> Iterator[Command]:
    if not any(line.startswith("$ ") for line in lines):
        yield from (command(number, line, None) for number, line in joined(first, lines) if VERB.match(line))
        return
    begins = [place for place, line in enumerate(lines) if line.startswith("$ ")] + [len(lines)]
    for begin, end in pairwise(begins):
        number, line = next(joined(first + begin, lines[begin:end]))
        if VERB.match(line[2:]):
            yield command(number, line[2:], lines[begin + 1 + line.count("\n"):end])


def joined(first: int, lines: list[str]) -> Iterator[tuple[int, str]]:
    """Lines with those that follow a backslash (a newline stays in them)."""
    held, begin = "", first
    for number, line in enumerate(lines, first):
        held, begin = (held + "\n" + line.strip(), begin) if held else (line, number)
        if line.endswith("\\"):
            held = held[:-1]
        else:
            yield begin, held
            held = ""
    if held:
        yield begin, held


def command(number: int, line: str, shown: list[str] | None) -> Command:
    lexer = shlex.shlex(line.replace("\n", " "), posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, "#"
    words = [word for word in list(lexer)[1:] if word != "[flags]"]
    printed = tuple(trimmed(shown)) if shown is not None else None
    return Command(number, tuple(words), printed or None, line.partition("  #")[2].strip())


def inline(text: str) -> Iterator[Command]:
    """Commands between single backquotes, outside of fences."""
    inside = {number for _, first, lines in fences(text) for number in range(first, first + len(lines))}
    for number, line in enumerate(text.splitlines(), 1):
        if number not in inside:
            # A verb alone is its name, not a command.
            yield from (command(number, span.replace("\\|", "|"), None) for span in re.findall(r"`(weighbridge [a-z]+ [^`]*)`", line))


def trimmed(lines: list[str]) -> list[str]:
    """Without blanks at the ends of lines and blank lines at the ends of the text."""
    return "\n".join(line.rstrip() for line in lines).strip("\n").split("\n") if any(line.strip() for line in lines) else []


def plain(line: str) -> str:
    for pattern, instead in MEASURED:
        line = pattern.sub(instead, line)
    return line


def difference(shown: list[str], printed: list[str], loose: bool = False) -> str:
    """"" where the shown lines are the printed ones, else the first shown line that is not, and what is printed there.

    `loose`: numbers may differ by 1 %, and below 0.001 at will; bars and the width of columns do not count.
    """
    shown, printed = [plain(line) for line in trimmed(list(shown))], [plain(line) for line in trimmed(list(printed))]
    at, free = 0, False
    for place, line in enumerate(shown):
        if line.strip() == "…":
            free = True
            continue
        found = next((i for i in range(at, len(printed) if free else min(at + 1, len(printed))) if alike(line, printed[i], loose)), None)
        if found is None:
            there = printed[at] if at < len(printed) else "(nothing more)"
            return f"line {place + 1} of the output is shown as\n    {line}\nand " + ("no later line is so; next after the last that fits is" if free else "printed is") + f"\n    {there}"
        at, free = found + 1, False
    return "" if free or at == len(printed) else f"the page ends, and printed is\n    {printed[at]}"


def alike(shown: str, printed: str, loose: bool) -> bool:
    if loose:
        shown, printed = (" ".join(BARS.sub(" ", line).split()) for line in (shown, printed))
    if "…" in shown and "…" not in printed:
        return re.fullmatch(".*".join(map(re.escape, shown.split("…"))), printed) is not None
    if shown == printed or not loose:
        return shown == printed
    left, right = (NUMBER.findall(line) for line in (shown, printed))
    return NUMBER.sub("#", shown) == NUMBER.sub("#", printed) and all(near(a, b) for a, b in zip(left, right, strict=True))


def near(a: str, b: str) -> bool:
    x, y = float(a.replace(",", "")), float(b.replace(",", ""))
    return abs(x - y) <= 0.01 * max(abs(x), abs(y)) or max(abs(x), abs(y)) < SMALL
