"""WB420 scales-sampled: only a part of the scales was read.

## What it does
Says how many scale tensors the rules about values have seen, where that is not all.

## Why it matters
A fault in one expert's scale is found only where it is read. For a checkpoint elsewhere a sample is read: first, middle and last layer of each matrix.

## Example
64 of 47,864 scale tensors of a checkpoint that lies in a bucket.

## How to mend
Download the checkpoint and check it there.

## References
docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.scales import scales_of

RULE = Rule("WB420", "scales-sampled", "note")


def find(case: Case) -> Iterator[Finding]:
    if case.scale_bytes != "none" and scales_of(case).told:
        yield RULE.finding("Only a part of the scale values was read", evidence=scales_of(case).told, fix="check a local copy to have all values read")
