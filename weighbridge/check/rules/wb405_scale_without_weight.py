"""WB405 scale-without-weight: a scale is in the files, and its weight is not.

## What it does
Finds scales beside which no weight lies.

## Why it matters
vLLM ends with a KeyError at a name that it does not know. A scale alone also tells of a weight that was lost, or stored under another name.

## Example
A converter wrote `mtp.fc.weight_scale_inv` and refused `mtp.fc.weight`.

## How to mend
Take the weight from the published checkpoint, or remove the scale.

## References
kekzl/imp#1450; vLLM `load_weights` of the model classes.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, odd

RULE = Rule("WB405", "scale-without-weight", "warning")


def find(case: Case) -> Iterator[Finding]:
    alone = sorted(odd(case, "scale-without-weight"))
    if alone:
        yield RULE.finding("Scales lie in the files without their weights", at(name for name, _ in alone), evidence=alone[0][1],
                           consequence=f"KeyError: '{alone[0][0].removeprefix('model.')}' in vLLM; other readers leave it out",
                           fix="take the weights from the published checkpoint, or remove the scales")
