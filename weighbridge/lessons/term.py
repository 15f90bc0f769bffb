"""What a term is, and where all of them are: one file each in `terms/`, whose docstring is the page.

The first line is `name: what it is in one sentence.`; below stand sections from `SECTIONS`, in that order, each of paragraphs, bullets (`* `) and
formulas (four spaces). A module may have `ALSO` (other spellings), `numbers()` (what fills `{braces}` of the page) and `figure()` (data of a
picture).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from weighbridge.check.pages import SCHEMA

SECTIONS = ("What it is", "Who multiplies, who divides", "In numbers", "What goes wrong", "Often written, and wrong", "See also", "References")


@dataclass(frozen=True)
class Term:
    """A page as it stands in its file."""

    name: str
    says: str
    page: str
    also: tuple[str, ...] = ()
    numbers: Callable[[], dict[str, str]] | None = None
    figure: Callable[[], dict[str, Any]] | None = None


@cache
def terms() -> dict[str, Term]:
    """Every term by name. The folder is the list: a new file is a new term."""
    found = {}
    for path in sorted((Path(__file__).parent / "terms").glob("*.py")):
        if path.stem == "__init__":
            continue
        module: Any = import_module(f"weighbridge.lessons.terms.{path.stem}")
        name, _, says = (module.__doc__ or "").partition("\n")[0].partition(": ")
        found[name] = Term(name, says, module.__doc__ or "", tuple(getattr(module, "ALSO", ())), getattr(module, "numbers", None),
                           getattr(module, "figure", None))
    return dict(sorted(found.items(), key=lambda pair: plain(pair[0])))


def plain(word: str) -> str:
    """A word as it is looked up: lower case, `_` and space as `-`."""
    return word.strip().lower().replace("_", "-").replace(" ", "-")


def document(name: str) -> dict[str, Any]:
    """The page of a term with its numbers filled in: {what, says, also, sections: {heading: [block]}, see_also, references, figure?}.

    A block is {"kind": "paragraph" or "formula", "text"} or {"kind": "list", "items"}.
    """
    term = terms()[name]
    told = sections(term)
    made = {"schema": SCHEMA, "what": name, "kind": "term", "says": term.says.rstrip("."), "also": list(term.also),
            "sections": {heading: blocks(told[heading]) for heading in SECTIONS[:-2] if heading in told},
            "see_also": [word.strip() for word in told["See also"].split(",")], "references": " ".join(told["References"].split())}
    return made | ({"figure": term.figure()} if term.figure else {})


def sections(term: Term) -> dict[str, str]:
    """{heading: text} of a page, numbers filled in."""
    page = term.page.format_map(term.numbers()) if term.numbers else term.page
    found = {}
    for part in page.split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        found[heading.strip()] = body.strip("\n")
    return found


def blocks(body: str) -> list[dict[str, Any]]:
    """Paragraphs, lists and formulas of a section; a line that goes on is joined to the one before."""
    made: list[dict[str, Any]] = []
    fresh = True
    for line in body.split("\n"):
        if not line.strip():
            fresh = True
        elif line.startswith("    "):
            made.append({"kind": "formula", "text": line.strip()})
            fresh = True
        elif line.startswith("* "):
            if fresh or made[-1]["kind"] != "list":
                made.append({"kind": "list", "items": []})
            made[-1]["items"].append(line[2:])
            fresh = False
        elif fresh:
            made.append({"kind": "paragraph", "text": line})
            fresh = False
        elif made[-1]["kind"] == "list":
            made[-1]["items"][-1] += " " + line.strip()
        else:
            made[-1]["text"] += " " + line.strip()
    return made
