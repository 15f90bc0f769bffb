"""WB305 entry-fails: the reader cannot read an entry of the skip list.

## What it does
Compiles every entry as the reader does. An entry that could take for ever is not tried, and named in a note; so are entries for
which no time is left (all lists of one question share two seconds of work), and nothing is said of modules that they may name.

## Why it matters
One such entry stops the load, though all others are right.

## Example
`*gate*` is a shell pattern; transformers takes it for a regular expression: `re.error: nothing to repeat at position 3`.

## How to mend
Write the entry in this reader's way of matching; the finding prints the whole list.

## References
transformers 5.23.0 quantizers/quantizers_utils.py `should_convert_module`; compressed-tensors 0.20.0 utils/match.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import skip_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.views import view_of
from weighbridge.runtimes import shown

RULE = Rule("WB305", "entry-fails", "error", skip_find.READERS, skip_find.READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    view = view_of(case, target)
    failing = {entry: view.failure(entry) for entry in view.entries if view.failure(entry)} if view.reader else {}
    if failing:
        first = next(iter(failing))
        yield RULE.finding(f"{target.runtime} cannot read {shown(first)}", Where(file=view.file, key=view.where, count=len(failing)),
                           evidence=", ".join(shown(entry) for entry in list(failing)[:4]), consequence=failing[first],
                           fix=skip_find.right_list(case, view), runtime=target.runtime)
    refused = [entry for entry in view.entries if view.refusal(entry)] if view.reader else []
    if refused:
        yield RULE.finding(f"{shown(refused[0])} was not tried", Where(file=view.file, key=view.where, count=len(refused)),
                           evidence=view.refusal(refused[0]),
                           severity="note", fix="write the entry without nested or many repeats", runtime=target.runtime)
    if view.problem:
        yield RULE.finding("The skip list was not matched", Where(file=view.file, key=view.where), evidence=view.problem, severity="warning",
                           fix="make the list shorter", runtime=target.runtime)
