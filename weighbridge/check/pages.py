"""The pages that rules carry, as documents: one rule, the list of all, and the ways of matching skip lists."""

from __future__ import annotations

from typing import Any

from weighbridge.check.rule import SECTIONS, Loaded, rules
from weighbridge.errors import Usage
from weighbridge.runtimes.skip import RULES

SCHEMA = "weighbridge.explain/1"


def document(what: str) -> dict[str, Any]:
    """The page of `what`. Raises Usage with the nearest names for an unknown one."""
    every = rules()
    if what == "rules":
        return {"schema": SCHEMA, "what": "rules", "rules": [row(loaded) for loaded in every.values()]}
    if what == "skip-list":
        return {"schema": SCHEMA, "what": "skip-list", "readers": [{"reader": name, "way": rule.way, "read_in": rule.read_in} for name, rule in RULES.items()]}
    for code, loaded in every.items():
        if what.upper() == code or what == loaded.rule.name:
            return {"schema": SCHEMA, "what": code, **row(loaded), "sections": sections(loaded.page)}
    from difflib import get_close_matches

    near = [code for code in every if what and code.startswith(what.upper())][:8] or get_close_matches(what.upper(), every, 3) or get_close_matches(what, [loaded.rule.name for loaded in every.values()], 3)
    raise Usage(f"nothing is known of {what!r:.60}", "explain", f"near it: {', '.join(near)}" if near else "weighbridge explain rules lists all rules")


def row(loaded: Loaded) -> dict[str, Any]:
    rule = loaded.rule
    return {"code": rule.code, "name": rule.name, "group": rule.group, "severity": rule.severity, "runtimes": list(rule.runtimes),
            "read_in": rule.read_in, "says": summary(loaded.page)}


def summary(page: str) -> str:
    """The first line of a page without code and name."""
    return page.partition("\n")[0].partition(": ")[2]


def sections(page: str) -> dict[str, str]:
    """{heading: text} of a page. The headings of every page are `rule.SECTIONS`, in that order; a test holds it."""
    found: dict[str, str] = {}
    for part in page.split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        found[heading.strip()] = body.strip()
    return {heading: found.get(heading, "") for heading in SECTIONS}
