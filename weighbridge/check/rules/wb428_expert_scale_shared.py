"""WB428 expert-scale-shared: all experts of a layer have one scale.

## What it does
Looks for stacked experts whose scale has one place for all, and for experts whose scales are all equal.

## Why it matters
Experts differ in size. One averaged scale for all makes every one of them wrong, without an error.

## Example
`down_proj.weight` [256, 1536, 3072] with `down_proj.scale` [1, 1, 3072].

## How to mend
Keep the scale of each expert: `weighbridge convert SRC DST --to neuron` stacks them.

## References
aws-neuron/neuronx-distributed-inference#35.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at
from weighbridge.check.scale_values import averaged

RULE = Rule("WB428", "expert-scale-shared", "error")
CONVERT = "weighbridge convert SRC DST --to neuron"


def find(case: Case) -> Iterator[Finding]:
    groups: dict[str, tuple[list[str], str]] = {}
    for what, names, evidence in averaged(case):
        groups.setdefault(what, ([], evidence))[0].extend(names)
    for what, (names, evidence) in groups.items():
        by_shape = what == "shape"
        yield RULE.finding("All experts of a layer have one scale" if by_shape else "All experts of a layer have equal scales", at(names), evidence=evidence,
                           consequence="no error: near-zero accuracy", fix=Fix(f"keep the scale of each expert: {CONVERT}", CONVERT),
                           severity="error" if case.survey.neuron or not by_shape else "warning")
