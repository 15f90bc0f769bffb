"""WB304 matches-too-much: an entry that is meant for plain modules also names quantized ones in this reader.

## What it does
Matches every entry as the reader does. One entry means other things to each reader: a substring, a whole path, dotted words, a regular
expression, a shell pattern.

## Why it matters
What is hit beside the meant module is built for plain values and gets codes, often in silence.

## Example
`gate`, from MiniMax-M2's own list, means the router. To NxD Inference it also names `gate_up_proj`, the matrices of all experts: about 900 times
too large, no error. `model.layers.1` also names layers 10 to 19.

## How to mend
Write the list that the finding prints.

## References
sgl-project/sglang#23467; NxD quantization/quantize.py 122 (substring); docs/skip-lists.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import skip_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.views import view_of
from weighbridge.runtimes.skip import RULES

RULE = Rule("WB304", "matches-too-much", "error", skip_find.READERS, skip_find.READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    view = view_of(case, target)
    entries, modules, meant = [], {}, []
    for entry in view.entries if view.reader else ():
        hit = skip_find.entry_hits(view, entry)
        plain = skip_find.reaches_too_far(view, entry, hit) if hit and entry.strip() else None
        if plain is not None:
            entries.append(entry)
            meant += plain
            modules |= {b.path: b for b in hit}
    if modules:
        found = list(modules.values())
        yield RULE.finding(f"{folded(entries)} also names {len(found):,} quantized modules", skip_find.place(view, found),
                           evidence=(f"meant for {folded(dict.fromkeys(meant), 2)}" if meant
                                     else "it stands within longer words")
                           + f"; {target.runtime} matches {RULES[view.reader].way}",
                           consequence=skip_find.listed_but_coded(case, view, found), fix=skip_find.right_list(case, view), runtime=target.runtime)
