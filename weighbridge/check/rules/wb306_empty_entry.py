"""WB306 empty-entry: the skip list holds an empty text.

## What it does
Looks for entries without a letter in them.

## Why it matters
The empty text is a part of every path and the end of every path: in readers that match so, nothing at all is quantized. In the others it does
nothing.

## Example
`SKIP="lm_head,"` split at the comma gives `["lm_head", ""]`.

## How to mend
Remove the entry.

## References
NxD 2.29 quantization/quantize.py 122; transformers 5.23.0 `should_convert_module` (`endswith`); AutoAWQ utils/module.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import skip_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.views import view_of

RULE = Rule("WB306", "empty-entry", "error", skip_find.READERS, skip_find.READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    view = view_of(case, target)
    empty = [entry for entry in view.entries if not entry.strip()] if view.reader else []
    if not empty:
        return
    hit = {b.path: b for entry in empty for b in skip_find.entry_hits(view, entry)}
    found = list(hit.values())
    yield RULE.finding("The skip list holds an empty entry" + (f", which names all {len(found):,} quantized modules" if found else ""),
                       Where(file=view.file, key=view.where, count=len(empty)), evidence=f"{empty[0]!r} among {len(view.entries):,} entries",
                       consequence=skip_find.listed_but_coded(case, view, found) if found else f"nothing in {target.runtime}",
                       fix=skip_find.right_list(case, view), severity="error" if found else "warning", runtime=target.runtime)
