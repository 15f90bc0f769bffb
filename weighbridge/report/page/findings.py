"""Section of findings: what is wrong, the numbers that say so, what follows, and the fix ready to be copied."""

from __future__ import annotations

from typing import Any

from weighbridge.report.check.text import pasted
from weighbridge.report.page.parts import copied, icon, section, text_of
from weighbridge.report.svg import attribute
from weighbridge.report.units import count

SEVERITIES = ("error", "warning", "note")
FILES = "files"  # the reader of a finding that is about the files alone


def findings(document: dict[str, Any]) -> str:
    """All findings of the document of `check`, in its order: errors first."""
    check = document["check"]
    body = "".join(_article(place, f) for place, f in enumerate(check["findings"]))
    if not check["runtimes"]:
        intro = "No reader was named: these are findings of the files alone. Name readers with <code>--runtime</code> to hear what each of them does."
    else:
        intro = f"Findings of the files, and of {text_of(', '.join(check['runtimes']))}."
    nothing = f'<p class="clean">{icon("good")} No finding.</p>' if not body else ""
    return section("findings", "Findings", nothing + _filter(check["findings"]) + body, document["commands"].get("check", ""), intro)


def reader(finding: dict[str, Any]) -> str:
    return finding["runtime"] or FILES


def place(where: dict[str, Any]) -> str:
    """File, tensor, module and key of a finding, and how many places there are."""
    named = ", ".join(where[key] for key in ("file", "tensor", "module", "key") if where[key])
    return named + (f" ({count(where['count'], 'place')})" if where["count"] > 1 and named else "")


def _filter(found: list[dict[str, Any]]) -> str:
    """Check boxes for severities and readers; only where there is a choice."""
    if len(found) < 2:
        return ""
    levels = [s for s in SEVERITIES if any(f["severity"] == s for f in found)]
    readers = list(dict.fromkeys(sorted((reader(f) for f in found), key=lambda r: (r != FILES, r))))
    groups = [("Severity", "severity", levels), ("About", "reader", readers)]
    boxes = "".join(_boxes(found, *group) for group in groups if len(group[2]) > 1)
    told = f'<p id="findings-count" class="quiet-text" role="status">{count(len(found), "finding")}</p>'
    return f'<div class="filter needs-script no-print">{boxes}{told}</div>' if boxes else ""


def _boxes(found: list[dict[str, Any]], title: str, key: str, values: list[str]) -> str:
    def box(value: str) -> str:
        many = sum((f["severity"] if key == "severity" else reader(f)) == value for f in found)
        sign = icon(value) if key == "severity" else ""
        return (f'<label class="tick"><input type="checkbox" checked data-filter="{key}" value={attribute(value)}>{sign} {text_of(value)} '
                f'<span class="quiet-text">{many}</span></label>')

    return f"<fieldset><legend>{title}</legend>{''.join(map(box, values))}</fieldset>"


def _article(number: int, f: dict[str, Any]) -> str:
    about = f"{f['runtime']} ({f['read_in']})" if f["runtime"] and f["read_in"] else f["runtime"] or "the files"
    head = (f'<p class="kicker">{icon(f["severity"])} <strong class="{f["severity"]}-text">{f["severity"]}</strong> '
            f'<span class="mono">{text_of(f["code"])}</span> <span class="quiet-text">{text_of(about)}</span></p>')
    rows = [("Where", place(f["where"]), " class=mono"), ("Evidence", f["evidence"], ""), ("Then", f["consequence"], "")]
    told = "".join(f"<dt>{name}</dt><dd{kind}>{text_of(words)}</dd>" for name, words, kind in rows if words)
    told += f"<dt>Fix</dt><dd>{_fix(f)}</dd>" if pasted(f["fix"]) else ""
    return (f'<article id="finding-{number}" class="finding f-{f["severity"]}" data-code={attribute(f["code"])} data-severity="{f["severity"]}" '
            f'data-reader={attribute(reader(f))} aria-labelledby="finding-{number}-h">{head}<h3 id="finding-{number}-h">{text_of(f["title"])}</h3>'
            f'<dl class="told">{told}</dl></article>')


def _fix(f: dict[str, Any]) -> str:
    """The sentence, and the new value to copy; where there is no value, the sentence is what one copies. Nobody copies that there is nothing to do."""
    fix = f["fix"]
    if fix["value"] is None and f["severity"] == "note":
        return text_of(fix["text"])
    block = copied(pasted(fix), f"the fix of {f['code']}", prose=fix["value"] is None)
    return block if fix["value"] is None else f"<p>{text_of(fix['text'])}</p>{block}"
