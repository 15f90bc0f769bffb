"""WB309 entry-unmatched: entries of the skip list name nothing in this reader.

## What it does
Lists the entries that match no module of the reader. Entries that name parameters, norms, biases or routers are harmless: these are never
quantized. Entries that name nothing in the files at all are told apart.

## Why it matters
Most such entries do no harm. A misspelt one leaves out what it was meant for: then WB302 or WB308 speaks.

## Example
GLM-5 lists `self_attn.indexers_proj`; the files have `indexer.weights_proj`.

## How to mend
Nothing must be done.

## References
docs/skip-lists.md: what an entry matches in each reader.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import skip_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.views import view_of
from weighbridge.runtimes.skip import RULES

RULE = Rule("WB309", "entry-unmatched", "note", skip_find.READERS, skip_find.READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    view = view_of(case, target)
    if not view.reader:
        return
    silent = [e for e in view.entries if e.strip() and not view.hits(e) and not view.failure(e) and not view.refusal(e)]
    if not silent:
        return
    words = set()
    for built in view.built:
        for unit in built.units:
            words.update(unit.path.split("."))
    absent = [e for e in silent if not _known(e, words)]
    yield RULE.finding(f"{len(silent):,} of {len(view.entries):,} entries match no module in {target.runtime}",
                       Where(view.file, key=view.where, count=len(silent)),
                       evidence=f"{folded(absent)}: no such name in the files" if absent
                       else f"{folded(silent)}; {target.runtime} matches {RULES[view.reader].way}",
                       consequence="none by itself", fix="nothing must be done", runtime=target.runtime)


def _known(entry: str, words: set[str]) -> bool:
    """Whether the last word of an entry is one of the files' words; patterns are taken as known."""
    last = entry.rstrip(".").rpartition(".")[2]
    return last in words or any(c in entry for c in "*?[]()\\^$|")
