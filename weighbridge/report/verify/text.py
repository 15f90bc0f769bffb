"""The proof of a conversion, for people."""

from __future__ import annotations

from typing import Any

from weighbridge.report.markdown import escaped
from weighbridge.report.table import markdown_table, text_table
from weighbridge.report.units import count


def verify_text(document: dict[str, Any], markdown: bool = False) -> str:
    """Counts of grades, the worst weights, what is missing, and the verdict in one line."""
    table = markdown_table if markdown else text_table
    grades = document["grades"]
    says = escaped if markdown else str
    lines = [says(f"A: {document['a']} ({document['layouts'][0]})"), says(f"B: {document['b']} ({document['layouts'][1]})"), "",
             table(("grade", "weights", "meaning"), [
                 ("identical", grades["identical"], "same codes and scales"), ("exact", grades["exact"], "same real values"),
                 ("bounded", grades["bounded"], "within the bound of the step that made it"), ("wrong", grades["wrong"], "outside")])]
    worst = sorted(document["inexact"], key=lambda r: (r["grade"] != "wrong", r["sqnr_db"] if r["sqnr_db"] is not None else -1e9))[:5]
    if worst:
        lines += ["", "The least equal:", table(("weight", "grade", "SQNR dB", "largest relative", "equal"), [
            (r["name"], r["grade"], _number(r["sqnr_db"], ".2f"), _number(r["max_relative_error"], ".3g"), f"{100 * r['equal_share']:.4f} %") for r in worst])]
    for row in worst:
        if row["grade"] == "wrong" and row["first"]:
            lines.append(says(f"first wrong value of {row['name']}: {row['first']}"))
    for name in ("missing", "surplus"):
        if document[name]:
            lines.append(says(f"{name}: {', '.join(document[name][:5])}") + (f" and {len(document[name]) - 5:,} more" if len(document[name]) > 5 else ""))
    total = document["total_sqnr_db"]
    error = "no error at all" if total is None and document["ok"] else f"total SQNR {_number(total, '.2f')} dB"
    part = f" (a sample of {document['sampled']:,})" if document["sampled"] else ""
    lines += ["", f"{'OK' if document['ok'] else 'NOT THE SAME WEIGHTS'}: {count(document['weights'], 'weight')}{part}, {error}"]
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
