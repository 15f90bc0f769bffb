"""WB108 duplicate-name: one tensor name lies twice in the files.

## What it does
Looks for names that stand twice in one header, or in the headers of two files of the checkpoint.

## Why it matters
Which of the two is loaded hangs on the order in which a reader opens the files.

## Example
`lm_head.weight` lies in `model-00001-of-00002.safetensors` and in `model-00002-of-00002.safetensors`.

## How to mend
Remove the file that is not of this checkpoint, or write the files again with one tensor for each name.

## References
safetensors README, "Format": duplicate keys are disallowed.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule

RULE = Rule("WB108", "duplicate-name", "error")


def find(case: Case) -> Iterator[Finding]:
    twice = [p for p in case.checkpoint.problems + case.checkpoint.fatal if p.code == "duplicate-name"]
    if twice:
        names = [p.where for p in twice]
        yield RULE.finding("A tensor name lies twice in the files", Where(tensor=folded(names), count=len(names)), evidence=twice[0].message,
                           consequence="no error: which one is loaded hangs on the order of the files", fix=twice[0].hint)
