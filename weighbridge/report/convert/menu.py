"""The menu of ways, for people."""

from __future__ import annotations

import textwrap
from typing import Any

from weighbridge.report.markdown import escaped
from weighbridge.report.table import markdown_table, text_table
from weighbridge.report.units import size

WIDTH = 80


def text(document: dict[str, Any], markdown: bool = False) -> str:
    """Open ways in a table, then who reads them, then what is refused and why, then the command."""
    ways = document["ways"]
    there = [w for w in ways if w["refused"] is None]
    refused = [w for w in ways if w["refused"] is not None]
    table = markdown_table if markdown else text_table
    says = escaped if markdown else str
    lines = [f"{says(document['from'])}, {size(document['bytes'])}. Its weights can go to:", ""]
    lines += [table(("--to", "bytes", "loss", "steps"), [(w["to"], size(w["bytes"]), _loss(w), ", ".join(w["steps"])) for w in there]), ""]
    for note in sorted({w["measured"] for w in there if w["measured"].startswith(("not measured", "no error"))}):
        lines += _wrapped(note, markdown)
    lines += [*([""] if lines[-1] else []), "Who loads them (from readers' source; what is not listed is not known):", ""]
    for way in there:
        readers = [r + (f" ({way['conditions'][r]})" if r in way["conditions"] else "") for r in way["readers"]]
        lines += _wrapped(f"{way['to']}: {', '.join(readers) or 'nobody'}", markdown)
    if refused:
        lines += ["", "Refused:", ""]
        for way in refused:
            lines += _wrapped(f"{way['to']}: {way['refused']}", markdown)
    if there:
        lines += ["", "The command (--dry-run shows what it costs):", ""]
        lines += [f"    {there[0]['command']}"] + ["    weighbridge convert SRC DST --for READER --device DEVICE   chooses one"]
    return "\n".join(lines)


def chosen(choice: dict[str, Any], markdown: bool = False) -> list[str]:
    """What `--for` chose, and why not the others."""
    place = f" on {choice['device']}" if choice["device"] else ""
    lines = _wrapped(f"For {choice['for']}{place}: {choice['to']}: {choice['why']}", markdown)
    for name, why in choice["others"].items():
        lines += _wrapped(f"not {name}: {why}", markdown)
    return [*lines, ""]


def _loss(way: dict[str, Any]) -> str:
    if way["exact"]:
        return "exact"
    return f"{way['sqnr_db']:.1f} dB" if way["sqnr_db"] is not None else "not measured" if way["measured"].startswith("not") else "none seen"


def _wrapped(line: str, markdown: bool) -> list[str]:
    if markdown:
        return [f"- {escaped(line)}"]
    return textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
