"""The report as one page: what `inspect`, `check`, `verify` and `draw` know of a checkpoint. Opens by a double click and asks nobody for anything.

The sections are markup that reads without JavaScript. The script gets only what it needs to answer questions: names of tensors, their ways, and the
bytes of a rank at each cut.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from weighbridge.report.check.text import pasted
from weighbridge.report.page import findings, forms, map, scales, tables
from weighbridge.report.page.head import head
from weighbridge.report.page.parts import absent, text_of
from weighbridge.report.webpage import page

ASSETS = Path(__file__).parent / "assets"
# One story each, in the order in which they need one another; start.js wakes them all.
SCRIPTS = ("dom.js", "units.js", "names.js", "ways.js", "rank.js", "copy.js", "boxes.js", "findings.js", "map.js", "scales.js", "memory.js", "search.js",
           "contents.js", "start.js")
NO_SCRIPT = "<noscript><style>.needs-script{display:none!important}</style></noscript>"


class Section(NamedTuple):
    """A section: its id, its title, what makes it, and the part of the document that it shows. `always`: a part that is null is told with its reason."""

    name: str
    title: str
    make: Callable[[dict[str, Any]], str]
    part: str
    always: bool = True


SECTIONS = (
    Section("findings", "Findings", findings.findings, "check"),
    Section("map", "Map", map.encoding_map, "map"),
    Section("architecture", "Architecture", tables.architecture, "draw", always=False),
    Section("memory", "Memory per rank", forms.memory, "memory"),
    Section("scales", "Scales", scales.scales, "scales"),
    Section("tensors", "Tensors", forms.tensors, "tensors"),
    Section("verify", "Verify", tables.verify, "verify", always=False),
    Section("inspect", "Weights by role", tables.weights, "inspect"),
    Section("claims", "What the config claims", tables.claims, "inspect"),
)


def html(document: dict[str, Any]) -> str:
    """The whole page from a document `weighbridge.report/1`. The same document gives the same bytes."""
    there = [s for s in SECTIONS if s.always or document[s.part] is not None or _told(document, s.part)]
    made = "".join(s.make(document) if document[s.part] is not None else absent(document, s.part, s.name, s.title) for s in there)
    body = f'{NO_SCRIPT}<div class="frame">{_contents(document, there)}<div class="sections">{head(document)}{made}</div></div>'
    return page(document["source"], body, style=asset("report.css"), script=script(), data=held(document),
                foot=f"Made by weighbridge {text_of(document['version'])}, from headers, settings and scales. This file is complete: it loads nothing.")


def asset(name: str) -> str:
    """One file of `assets/`, as text."""
    return (ASSETS / name).read_text(encoding="utf-8")


def script() -> str:
    """All scripts in one function: strict, and nothing of them outside of it."""
    return '(() => {\n"use strict";\n' + "\n".join(asset(name) for name in SCRIPTS) + "})();"


def held(document: dict[str, Any]) -> dict[str, Any]:
    """What the script reads: tensors, ways, and memory, with the text that each fix copies."""
    memory = document["memory"]
    if memory is not None:
        memory = {**memory, "messages": [{**m, "copy": pasted(m["fix"])} for m in memory["messages"]]}
    return {"tensors": document["tensors"], "ways": document["ways"], "memory": memory}


def _told(document: dict[str, Any], part: str) -> bool:
    return any(note["part"] == part for note in document.get("notes", ()))


def _contents(document: dict[str, Any], there: list[Section]) -> str:
    many = {"findings": len(document["check"]["findings"]), "tensors": (document["tensors"] or {}).get("total")}
    items = "".join(f'<li><a href="#{s.name}">{s.title}{f" <span>{many[s.name]:,}</span>" if many.get(s.name) else ""}</a></li>' for s in there)
    return f'<nav class="contents no-print" aria-label="Contents"><ul><li><a href="#summary">Summary</a></li>{items}</ul></nav>'
