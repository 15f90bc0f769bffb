"""WB206 block-size-wrong: the claimed block does not give the stored grids, and another one gives them all.

## What it does
Divides the shapes of all block-quantized weights by the claimed block, rounding up, and compares with the grids. Where none or few fit, it tries the
usual blocks on all of them. Single odd grids are WB4's.

## Why it matters
The reader makes its scale parameter by the claim; a shape error follows, or each block gets its neighbour's scale.

## Example
`weight_block_size: [64, 64]`, and a weight [512, 512] has a grid of [4, 4].

## How to mend
Write the block that the finding names.

## References
DeepSeek-V3 README_WEIGHTS.md; vLLM fp8.py `create_weights`.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import claim_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule

RULE = Rule("WB206", "block-size-wrong", "error")


def find(case: Case) -> Iterator[Finding]:
    claim = claim_find.main_claim(case)
    if claim is None or not claim.block or case.survey.neuron:
        return
    found = [s for s in claim_find.stored(case) if s.encoding == "fp8" and len(s.shape) == 2 and len(s.scale_shape) == 2 and min(s.scale_shape) > 1]
    odd = [s for s in found if s.scale_shape != (-(-s.shape[0] // claim.block[0]), -(-s.shape[1] // claim.block[1]))]
    block = claim_find.fitting_block(case)
    if not odd or 2 * len(odd) < len(found) or block is None or block == claim.block:
        return
    first = odd[0]
    due = [-(-first.shape[0] // claim.block[0]), -(-first.shape[1] // claim.block[1])]
    path = (*claim.path, "weight_block_size") if claim.family != "compressed-tensors" else ()
    yield RULE.finding(f"The claimed block {list(claim.block)} does not give the stored grids, {list(block)} does",
                       Where(claim.file, tensor=folded(s.name for s in odd), key=claim.key("weight_block_size" if path else "config_groups"),
                             count=sum(s.pair.count for s in odd)),
                       evidence=f"{list(first.shape)} by {list(claim.block)} is {due}, "
                       f"stored is {list(first.scale_shape)} at {first.name}",
                       consequence="a shape error at the first scale, or each block gets another one's scale",
                       fix=Fix(f"write {list(block)}", list(block), (Edit(claim.file, path, list(block)),) if path else ()))
