"""What the readers themselves said (`check --try`), beside what `check` says of them."""

from __future__ import annotations

import textwrap
from typing import Any

from weighbridge.errors import brief
from weighbridge.report.markdown import escaped
from weighbridge.report.units import count
from weighbridge.report.visible import visible

WIDTH = 118
SAID = 800  # characters of its words
SHOWN = 8  # names of a list; all of them are in the JSON


def text(one: dict[str, Any], document: dict[str, Any]) -> str:
    """One reader's answer."""
    lines = [f"tried {_head(one)}"]
    for name, value in _parts(one, document):
        wrapped = textwrap.wrap(visible(value), WIDTH - 12, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [f"  {name:<9} {wrapped[0]}", *(" " * 12 + line for line in wrapped[1:])]
    return "\n".join(lines)


def markdown(one: dict[str, Any], document: dict[str, Any]) -> str:
    return "\n".join([f"### tried {escaped(_head(one))}", "", *(f"- **{name}**: {escaped(value)}" for name, value in _parts(one, document))])


def sentence(one: dict[str, Any]) -> str:
    """All that it said, on one line."""
    said = [brief(one["error"], SAID) if one["error"] else "", *(f"{key}: {_names(one, key)}" for key in ("unfilled", "ignored") if one["counts"][key])]
    return ". ".join([_head(one), *(text for text in said if text)])


def _head(one: dict[str, Any]) -> str:
    version = f" {one['version']}" if one["version"] else ""
    return visible(f"{one['reader']}{version}: {one['outcome']}")


def _parts(one: dict[str, Any], document: dict[str, Any]) -> list[tuple[str, str]]:
    stage = f" (at {one['stage']})" if one["error"] and one["stage"] else ""
    parts = [("said", f"{brief(one['error'], SAID)}{stage}" if one["error"] else ""), ("unfilled", _names(one, "unfilled")), ("partly", "; ".join(one["partly"][:SHOWN])),
             ("ignored", _names(one, "ignored")), ("over", _over(one)), ("stand-ins", "; ".join(one["stand_ins"])), ("check", _beside(one, document))]
    return [(name, value) for name, value in parts if value]


def _names(one: dict[str, Any], key: str) -> str:
    total, names = one["counts"][key], one[key]
    if not total:
        return ""
    more = f" and {total - SHOWN:,} more" if total > SHOWN else ""
    return f"{count(total, 'parameter' if key == 'unfilled' else 'tensor')}: {', '.join(names[:SHOWN])}{more}"


def _over(one: dict[str, Any]) -> str:
    layers, ranks = one["layers"], one["ranks"]
    parts = [f"the first {layers['kept']} of {layers['of']} layers, which have one of each kind"] if layers else []
    if ranks and ranks["of"] > 1:
        parts.append(f"{'ranks' if len(ranks['loaded']) > 1 else 'rank'} {' and '.join(map(str, ranks['loaded']))} of {ranks['of']}")
    return ", ".join(parts)


def _beside(one: dict[str, Any], document: dict[str, Any]) -> str:
    """The prediction, where it is one for this reader and says the other thing."""
    named = [runtime.partition("@")[0] for runtime in document["runtimes"]]
    if one["reader"] not in named or one["outcome"] == "unavailable":
        return ""
    codes = sorted({f["code"] for f in document["findings"] if f["severity"] == "error" and f["runtime"] in (None, one["reader"])})
    passed = one["outcome"] == "loaded"
    if passed and codes:
        return f"differs: check has errors for {one['reader']} ({', '.join(codes)}), and this version loaded the skeleton"
    if not passed and not codes:
        return f"differs: check has no error for {one['reader']}"
    return "agrees"
