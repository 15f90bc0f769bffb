"""WB403 scale-spelling: a scale has a name that no reader knows.

## What it does
Finds weights without a scale that have a neighbour whose name speaks of one (`scale_weight`, `weight_scales`).

## Why it matters
Readers look for `weight_scale_inv`, `weight_scale` or `scale`. Another spelling is left out without a word, and the codes are taken for
the weights.

## Example
`proj.scale_weight` beside an FP8 `proj.weight`: a white image, exit code 0.

## How to mend
Rename the tensors. The numbers stay as they are: all these names mean a multiplier.

## References
leejet/stable-diffusion.cpp#1898.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, form
from weighbridge.check.scale_names import misspelt

RULE = Rule("WB403", "scale-spelling", "error")


def find(case: Case) -> Iterator[Finding]:
    found = misspelt(case)
    if not found:
        return
    first = next(iter(found.values()))
    right = {"ct": "weight_scale", "modelopt": "weight_scale", "neuron": "scale"}.get(form(case).family, "weight_scale_inv" if case.claims.blocks else "weight_scale")
    yield RULE.finding("Scales have a name that no reader knows", at(found.values()),
                       evidence=f"{first.rpartition('.')[2]} beside {len(found):,} weights without weight_scale_inv, weight_scale or scale",
                       consequence="no error: the scale is not applied, the codes are taken for the weights",
                       fix=Fix(f"rename {first.rpartition('.')[2]} to {right} in the files", right))
