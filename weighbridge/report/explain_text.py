"""`explain` for people: pages of rules, and tables of them."""

from __future__ import annotations

from typing import Any

from weighbridge.report.table import markdown_table, text_table

RULE_HEAD = ("code", "name", "severity", "runtimes", "what it says")


def text(document: dict[str, Any]) -> str:
    if "rules" in document:
        return text_table(RULE_HEAD, _rules(document))
    if "readers" in document:
        return text_table(("reader", "an entry is", "read in"), [(r["reader"], r["way"], r["read_in"]) for r in document["readers"]])
    lines = [_title(document), _facts(document)]
    lines += [f"{heading}\n" + "\n".join("  " + line if line else "" for line in body.split("\n")) for heading, body in document["sections"].items()]
    return "\n\n".join(lines)


def markdown(document: dict[str, Any]) -> str:
    if "rules" in document:
        return markdown_table(RULE_HEAD, _rules(document))
    if "readers" in document:
        return markdown_table(("reader", "an entry is", "read in"), [(r["reader"], r["way"], r["read_in"]) for r in document["readers"]])
    lines = [f"# {_title(document)}", _facts(document)]
    lines += [f"## {heading}\n\n{body}" for heading, body in document["sections"].items()]
    return "\n\n".join(lines)


def _rules(document: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(r["code"], r["name"], r["severity"], ", ".join(r["runtimes"]) or "the files", r["says"]) for r in document["rules"]]


def _title(document: dict[str, Any]) -> str:
    return f"{document['code']} {document['name']}: {document['says']}"


def _facts(document: dict[str, Any]) -> str:
    read = "; ".join(f"{name}: {version}" for name, version in document["read_in"].items())
    against = ", ".join(document["runtimes"]) or "the files alone"
    return f"{document['severity']}, group {document['group']}, about {against}" + (f"; read in {read}" if read else "")
