"""The proof of a conversion, for people."""

from __future__ import annotations

from typing import Any

from weighbridge.report.markdown import escaped
from weighbridge.report.table import markdown_table, text_table
from weighbridge.report.units import count


def verify_text(document: dict[str, Any], markdown: bool = False) -> str:
    """Counts of grades, the worst weights, what is missing or not compared, and the verdict in one line."""
    if document["how"] == "bytes":
        return _bytes_text(document)
    table = markdown_table if markdown else text_table
    grades = document["grades"]
    says = escaped if markdown else str
    lines = [says(f"A: {document['a']} ({document['layouts'][0]})"), says(f"B: {document['b']} ({document['layouts'][1]})"), "",
             table(("grade", "weights", "meaning"), [
                 ("identical", grades["identical"], "same codes and scales"), ("exact", grades["exact"], "same real values"),
                 ("bounded", grades["bounded"], "within the bound of the step that made it"), ("wrong", grades["wrong"], "outside, or not what convert writes")])]
    worst = sorted(document["inexact"], key=lambda r: (r["grade"] != "wrong", r["sqnr_db"] if r["sqnr_db"] is not None else -1e9))[:5]
    if worst:
        lines += ["", "The least equal:", table(("weight", "grade", "SQNR dB", "largest relative", "equal"), [
            (r["name"], r["grade"], _number(r["sqnr_db"], ".2f"), _number(r["max_relative_error"], ".3g"), f"{100 * r['equal_share']:.4f} %") for r in worst])]
    for row in worst:
        if row["grade"] == "wrong" and row["first"]:
            lines.append(says(f"first wrong value of {row['name']}: {row['first']}"))
    lines += [says(f"{name}: {_names(document[name], len(document[name]))}") for name in ("missing", "surplus") if document[name]]
    lines += [says(line) for line in _beside(document["beside"]) + _reproduced(document)]
    lines += [says(f"not compared: {left['reason']}: {_names(left['names'], left['count'])}") for left in document["not_compared"]]
    total = document["total_sqnr_db"]
    error = "no error at all" if total is None and document["ok"] else f"total SQNR {_number(total, '.2f')} dB"
    part = f" (a sample of {document['sampled']:,})" if document["sampled"] else ""
    lines += ["", f"{'OK' if document['ok'] else 'NOT THE SAME WEIGHTS'}: {count(document['weights'], 'weight')}{part}, {error}"]
    return "\n".join(lines)


def _bytes_text(document: dict[str, Any]) -> str:
    return "\n".join([f"A: {document['a']}", f"B: {document['b']}", "",
                      "The values are in a form that is not read here, so bytes were compared: all are equal.",
                      f"OK: {count(document['weights'], 'tensor')}, byte for byte"])


def _names(names: list[str], total: int) -> str:
    return ", ".join(names[:5]) + (f" and {total - 5:,} more" if total > 5 else "")


def _beside(beside: dict[str, Any]) -> list[str]:
    """What holds no weight, in one line, and each of it that is not as it must be."""
    words = {"constants": "constant", "padded": "padded tensor", "bytes": "unexplained tensor"}
    said = [count(beside[key], word) for key, word in words.items() if beside[key]]
    lines = [f"beside the weights: {', '.join(said)}" + ("" if beside["wrong"] else ": as they must be")] if said else []
    lines += [f"wrong {fault['what']} in {fault['side']}: {fault['name']}: {fault['first']}" for fault in beside["wrong"][:5]]
    return lines + ([f"and {len(beside['wrong']) - 5:,} more"] if len(beside["wrong"]) > 5 else [])


def _reproduced(document: dict[str, Any]) -> list[str]:
    made = document["reproduced"]
    if not made["made"]:
        return [f"not reproduced: {made['why_not']}"] if made["why_not"] else []
    other = "B" if made["made"] == "A" else "A"
    same = "bit for bit what convert writes" if not made["different"] else f"not what convert writes in {made['different']:,} of them"
    return [f"reproduced: {made['made']} was made from {other}; {count(made['tensors'], 'tensor')}, {same}"]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
