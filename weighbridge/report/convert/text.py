"""A conversion, or its plan, for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weighbridge.report.convert import menu
from weighbridge.report.markdown import escaped
from weighbridge.report.table import markdown_table, text_table
from weighbridge.report.units import count, size


def plan_text(document: dict[str, Any], markdown: bool = False) -> str:
    """Cost, lossy steps, what the choices of attention cost, and findings, before anything is written."""
    table = markdown_table if markdown else text_table
    says = escaped if markdown else str
    lines = [f"{says(document['from'])} -> {says(document['to'])}: {count(document['pieces'], 'piece')} into {count(len(document['files']), 'file')}, "
             f"reads {size(document['bytes_read'])}, writes {size(document['bytes_written'])}, "
             f"{count(document['converted_scales'], 'FP8 scale')}", ""]
    lines = _choice(document, markdown) + lines
    lines += [_lossy(document["lossy"], table), ""]
    if document.get("attention"):
        head = ("--attention", "q/k/v", "o_proj", "bytes of all layers", "error, measured on Gaussian blocks", "chosen")
        rows = [(r["mode"], r["qkv"], r["o"], r["bytes"], r["error"], "*" if r["chosen"] else "") for r in document["attention"]]
        lines += ["What the forms of attention cost:", table(head, rows), ""]
    lines += _plain(document, says)
    lines += _notes(document, markdown)
    lines.append(findings(document.get("findings", []), markdown))
    return "\n".join(lines)


def result_text(document: dict[str, Any], markdown: bool = False) -> str:
    """What was done, in the words of the log that the first users waited for."""
    table = markdown_table if markdown else text_table
    if document.get("already_complete"):
        return f"Nothing to do: the output is complete already ({count(len(document['files']), 'file')})."
    speed = document["bytes_written"] / max(document["seconds"], 1e-9)
    says = escaped if markdown else str
    lines = [f"Converted {document['converted_scales']:,} FP8 scales ({says(document['from'])} -> {says(document['to'])})",
             f"Wrote {size(document['bytes_written'])} in {count(len(document['files']), 'file')} in {document['seconds']:.2f} s "
             f"({size(int(speed))}/s), peak memory {size(document['peak_memory_bytes'])}", "", _lossy(document["lossy"], table)]
    lines += [f"made anew: {row['file']} {row['why']}" for row in document.get("made_anew", [])]
    for name in ("copied", "rewritten", "dropped"):
        if document.get(name):
            lines.append(f"{name}: {', '.join(map(says, document[name]))}")
    lines += ["", *_plain(document, says)]
    return "\n".join([*_choice(document, markdown), *lines, *_notes(document, markdown)]).rstrip()


def _choice(document: dict[str, Any], markdown: bool) -> list[str]:
    return menu.chosen(document["choice"], markdown) if document.get("choice") else []


def _plain(document: dict[str, Any], says: Callable[[Any], str]) -> list[str]:
    """Weights that the layout cannot hold quantized, by reason: their values are stored plain."""
    rows = document.get("stay_plain") or []
    lines = [f"{count(row['count'], 'weight')} stored plain, the first is {says(row['first'])}: {says(row['why'])}" for row in rows[:5]]
    more = [f"and {count(len(rows) - 5, 'reason')} more"] if len(rows) > 5 else []
    return [*lines, *more, ""] if lines else []


def _notes(document: dict[str, Any], markdown: bool) -> list[str]:
    notes = document.get("notes")
    return ["Before you load it:", *(f"- {escaped(note)}" if markdown else f"  {note}" for note in notes), ""] if notes else []


def findings(rows: list[dict[str, Any]], markdown: bool = False) -> str:
    """Findings of a dry run, or that there are none."""
    if not rows:
        return "No findings: this plan can be carried out."
    item, says = ("- ", escaped) if markdown else ("  ", str)
    return "\n".join([f"{count(len(rows), 'finding')} that would stop it:"] + [
        f"{item}{says(r['code'])}: {says(r['where'])}: {says(r['message'])}" + (f"\n      {says(r['hint'])}" if r["hint"] else "") for r in rows[:20]
    ] + ([f"{item}and {len(rows) - 20:,} more"] if len(rows) > 20 else []))


def _lossy(rows: list[dict[str, Any]], table: Callable[..., str]) -> str:
    if not rows:
        return "Exact: no step loses anything."
    if "sqnr_db" not in rows[0]:
        return table(("lossy step", "tensors", "bound", "what it does"), [(r["step"], r["count"], r["bound"], r["says"]) for r in rows])
    return table(("lossy step", "tensors", "bound", "measured", "rounded codes"), [
        (r["step"], r["count"], r["bound"], _measured(r),
         _inexact(r)) for r in rows])


def _inexact(row: dict[str, Any]) -> str:
    if not row.get("inexact"):
        return ""
    return f"{row['inexact']:,} of {row['values']:,}" + (" changed: new scales" if row["step"] == "restore" else "")


def _measured(row: dict[str, Any]) -> str:
    if row["overflow"]:
        return "values overflow"
    if row["sqnr_db"] is None:
        return "nothing lost" if row["values"] else "not measured"
    return f"{row['sqnr_db']} dB on {100 * row['share']:.3g} % of the values"
