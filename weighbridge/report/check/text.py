"""`check` for people: text and Markdown from its document."""

from __future__ import annotations

import json
import textwrap
from typing import Any
from weighbridge.report import jsontext
from weighbridge.report.check import tried
from weighbridge.report.markdown import escaped, fenced
from weighbridge.report.units import count
from weighbridge.report.visible import visible

WIDTH = 118
PAINT = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "note": "\x1b[1;36m"}
PLAIN = "\x1b[0m"


def text(document: dict[str, Any], colour: bool = False) -> str:
    """Each finding with its place, evidence, consequence and fix; the sum at the end."""
    blocks = [_finding(f, colour) for f in document["findings"]]
    blocks += [tried.text(one, document) for one in document.get("tried", ())]
    return "\n\n".join([*blocks, _sum(document)])


def markdown(document: dict[str, Any]) -> str:
    """The same as Markdown, for an issue or a pull request."""
    blocks = [f"## {escaped(_sum(document))}"]
    for f in document["findings"]:
        lines = [f"### {escaped(f['severity'])} {escaped(f['code'])}{escaped(_for(f))}: {escaped(f['title'])}", ""]
        lines += [f"- **{name}**: {escaped(value)}" for name, value in _parts(f)]
        value = f["fix"]["value"]
        if value is not None:
            lines += ["", fenced(_json(value, indent=None if _short(value) else 2), "json")]
        blocks.append("\n".join(lines))
    blocks += [tried.markdown(one, document) for one in document.get("tried", ())]
    return "\n\n".join(blocks)


def _finding(f: dict[str, Any], colour: bool) -> str:
    head = f"{f['severity']} {f['code']}"
    head = f"{PAINT[f['severity']]}{head}{PLAIN}" if colour else head
    lines = [f"{head}{_for(f)}: {visible(f['title'])}"]
    for name, value in _parts(f):
        lines += _wrapped(name, value)
    if f["fix"]["value"] is not None:
        lines += [" " * 12 + line for line in pasted(f["fix"]).split("\n")]
    return "\n".join(lines)


def _for(f: dict[str, Any]) -> str:
    if not f["runtime"]:
        return ""
    return f" {f['runtime']}" + (f" ({f['read_in']})" if f["read_in"] else "")


def _parts(f: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in (("where", _where(f["where"])), ("evidence", f["evidence"]), ("then", f["consequence"]),
                                              ("fix", f["fix"]["text"])) if value]


def _where(where: dict[str, Any]) -> str:
    place = ", ".join(where[key] for key in ("file", "tensor", "module", "key") if where[key])
    many = f" ({count(where['count'], 'place')})" if where["count"] > 1 and place else ""
    return place + many


def _wrapped(name: str, value: str) -> list[str]:
    wrapped = textwrap.wrap(visible(value), WIDTH - 12, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"  {name:<9} {wrapped[0]}", *(" " * 12 + line for line in wrapped[1:])]


def pasted(fix: dict[str, Any]) -> str:
    """What one pastes: a command as it is, the new value of a setting as JSON (on one line where it is short), or else the sentence."""
    value = fix["value"]
    if value is None:
        return visible(fix["text"])
    if isinstance(value, str) and not fix["edits"]:
        return visible(value)
    return _json(value, indent=None if _short(value) else 2)


def _json(value: Any, indent: int | None) -> str:
    """What a person pastes: the true names, in JSON's own escapes."""
    return jsontext.safe(json.dumps(value, ensure_ascii=False, indent=indent))


def _short(value: Any) -> bool:
    return len(json.dumps(value)) <= WIDTH - 12


def _sum(document: dict[str, Any]) -> str:
    counts = document["summary"]
    against = f" against {', '.join(document['runtimes'])}" if document["runtimes"] else ""
    told = ", ".join(count(n, severity) for severity, n in counts.items() if n) or "clean"
    return f"{document['source']}{against}: {told}"
