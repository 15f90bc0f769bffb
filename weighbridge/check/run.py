"""Run the rules over a case, and put the findings into one document."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Any

from weighbridge.version import __version__
from weighbridge.check.case import Case
from weighbridge.check.finding import SEVERITIES, Finding, Remove
from weighbridge.check.rule import RUNTIMES, Loaded, chosen
from weighbridge.check.settings import Target
from weighbridge.collector import paused
from weighbridge.errors import Usage

SCHEMA = "weighbridge.check/1"
FILES_UNREADABLE = "1"  # group of rules that run even where headers cannot be read


def targets(words: Iterable[str]) -> tuple[Target, ...]:
    """`vllm@0.11,neuron` as targets, each once."""
    found: dict[str, Target] = {}
    for word in (part.strip() for text in words for part in text.split(",")):
        name, _, version = word.partition("@")
        if name not in RUNTIMES:
            raise Usage(f"no runtime {name!r:.60}; known are {', '.join(RUNTIMES)}", "--runtime", "several at once: --runtime vllm,neuron")
        found[name] = Target(name, version)
    return tuple(found.values())


def one_target(word: str) -> Target:
    """The one reader that `word` names: a rank is one reader's."""
    named = targets([word])
    if len(named) != 1:
        raise Usage(f"{word!r:.60} is not one reader, and a rank is one reader's", "--runtime", "name one: --runtime vllm")
    return named[0]


def findings(case: Case, select: Iterable[str] = (), ignore: Iterable[str] = ()) -> list[Finding]:
    """All findings: errors first, then by code. Where headers cannot be read, only the rules about files run."""
    with paused():
        listed = chosen(select, ignore)
        if case.checkpoint.fatal:
            listed = [loaded for loaded in listed if loaded.rule.code[2] == FILES_UNREADABLE and not loaded.rule.runtimes]
        found = [finding for loaded in listed for finding in _run(loaded, case)]
    return sorted(found, key=lambda f: (SEVERITIES.index(f.severity), f.code, f.runtime or ""))


def _run(loaded: Loaded, case: Case) -> Iterable[Finding]:
    if not loaded.rule.runtimes:
        return loaded.find(case)
    return itertools.chain.from_iterable(loaded.find(case, target) for target in case.targets if target.runtime in loaded.rule.runtimes)


def document(case: Case, found: list[Finding]) -> dict[str, Any]:
    """`weighbridge.check/1` (docs/schema.md)."""
    counts = Counter(f.severity for f in found)
    return {
        "schema": SCHEMA, "version": __version__, "source": case.checkpoint.label, "model_type": case.checkpoint.model_type or None,
        "runtimes": [t.runtime + (f"@{t.version}" if t.version else "") for t in case.targets],
        "findings": [finding_document(f) for f in found],
        "summary": {severity: counts.get(severity, 0) for severity in SEVERITIES},
    }


def finding_document(f: Finding) -> dict[str, Any]:
    where = f.where
    return {
        "code": f.code, "severity": f.severity, "runtime": f.runtime, "title": f.title,
        "where": {"file": where.file or None, "tensor": where.tensor or None, "module": where.module or None, "key": where.key or None,
                  "count": where.count},
        "evidence": f.evidence, "consequence": f.consequence,
        "fix": {"text": f.fix.text, "value": f.fix.value,
                "edits": [{"file": e.file, "path": list(e.path), "remove": True} if e.value is Remove
                          else {"file": e.file, "path": list(e.path), "value": e.value} for e in f.fix.edits]},
        "read_in": f.read_in or None,
    }
