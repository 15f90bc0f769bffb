"""WB510 flags-unread: flags of the command line, or keys of a configuration file, that nothing here looks at.

## What it does
Lists what `check` does not read, as it was typed.

## Why it matters
Most such flags have nothing to do with the checkpoint. A misspelt one has: the reader refuses it, and `check` has judged the run without it.

## Example
`--tensor-paralel-size 8`: the sizes were checked for TP 1.

## How to mend
Look whether one of them is misspelt.

## References
The flags that are read stand in weighbridge/check/flags.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule

RULE = Rule("WB510", "flags-unread", "note")


def find(case: Case) -> Iterator[Finding]:
    for place, words in case.settings.sources.items():
        kind, _, file = place.partition(": ")
        if kind == "unread":
            yield RULE.finding("not everything that was given is looked at", Where(file=file, key="" if file else "the command line"),
                               evidence=words[:1000],
                               consequence="nothing, unless one of them is misspelt", fix="look whether one of them is misspelt")
