"""One tensor's way, for people."""

from __future__ import annotations

from typing import Any

from weighbridge.report.markdown import fenced
from weighbridge.report.table import text_table
from weighbridge.report.visible import visible


def trace_text(document: dict[str, Any], markdown: bool = False) -> str:
    """Source, numbered steps, destination, and one block before and after."""
    lines = [f"{document['name']}  ({document['weight']})  -> {document['to']}", "", "source"]
    lines += _tensors(document["source"])
    lines += ["", "steps"]
    lines += [f"  {i}. {s['op']:<14} {visible(s['detail'])}{'   [lossy]' if s['lossy'] else ''}" for i, s in enumerate(document["steps"], 1)]
    lines += ["", "destination"]
    lines += _tensors(document["destination"])
    if document["block"]:
        lines += ["", document["block"]["of"], _numbers(document["block"])]
    body = "\n".join(lines)
    return fenced(body) if markdown else body


def _tensors(rows: list[dict[str, Any]], most: int = 8) -> list[str]:
    lines = []
    for row in rows[:most]:
        part = " at [" + ", ".join(f"{a}:{b}" for a, b in row["slice"]) + "]" if "slice" in row else ""
        lines.append(f"  {visible(row['name'])}  {row['dtype']} {row['shape']}{part}  in {visible(row['file'])}")
    return lines + ([f"  and {len(rows) - most:,} more"] if len(rows) > most else [])


def _numbers(block: dict[str, Any]) -> str:
    before, after = block["before"], block["after"]
    head = ("", *(f"[{i}]" for i in range(len(before["values"]))))
    rows: list[tuple[str, ...]] = [("before: stored", *before["codes"])]
    if before["scale"] is not None:
        rows.append(("  x scale", f"{before['scale']:.9g}", *[""] * (len(before["values"]) - 1)))
    rows.append(("  = value", *(f"{v:.6g}" for v in before["values"])))
    rows.append(("after: stored", *after["codes"]))
    if after["scale"] is not None:
        rows.append(("  x scale", f"{after['scale']:.9g}", *[""] * (len(after["values"]) - 1)))
    rows.append(("  = value", *(f"{v:.6g}" for v in after["values"])))
    rows.append(("error", *(f"{a - b:.2g}" for a, b in zip(after["values"], before["values"], strict=True))))
    return text_table(head, rows)
