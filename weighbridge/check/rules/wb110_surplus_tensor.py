"""WB110 surplus-tensor: the files hold weights that the model does not have.

## What it does
Compares the headers with the inventory of the model, the other way round than WB109. Buffers that older libraries saved, biases, draft layers
and the towers of multimodal models are left out.

## Why it matters
vLLM ends with a KeyError at a name that it does not know; others drop it with a warning. A misspelt name is both: a surplus and a missing weight.

## Example
`model.layers.0.self_attn.q_proj.weight_format` was left by another tool.

## How to mend
Remove the tensors, or take the config.json that belongs to the files (the number of layers may be another).

## References
vLLM `load_weights` of the model classes; NxD trace/trace.py, warning "Removing redundant keys from checkpoint".
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.expected import expected
from weighbridge.check.finding import Finding, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule

RULE = Rule("WB110", "surplus-tensor", "warning")


def find(case: Case) -> Iterator[Finding]:
    surplus = expected(case).surplus
    if surplus:
        yield RULE.finding("The files hold weights that the model does not have", Where(module=folded(surplus), count=len(surplus)),
                           evidence=f"{len(surplus):,} modules are not in {expected(case).by}",
                           consequence="KeyError in vLLM; dropped in silence or with a warning elsewhere",
                           fix="remove them, or take the config.json that belongs to these files")
