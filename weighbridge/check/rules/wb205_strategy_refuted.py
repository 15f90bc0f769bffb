"""WB205 strategy-refuted: scales are claimed for the whole tensor, for rows or for blocks, and the tensors have another kind.

## What it does
Compares `weight_block_size` and the `strategy` of config_groups with the shapes of the scales.

## Why it matters
The scale parameter is made by the claim. A grid in the place of one value is a shape error at best; a column of block scales that is taken for
row scales is not even that.

## Example
`weight_block_size: null`, and every weight has a grid of block scales.

## How to mend
Write the block or strategy that the finding names.

## References
vllm-project/compressed-tensors#873; vLLM fp8.py `create_weights`; transformers 5.23.0 integrations/finegrained_fp8.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import claim_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule
from weighbridge.formats.stated import Stated

RULE = Rule("WB205", "strategy-refuted", "error")


def find(case: Case) -> Iterator[Finding]:
    claim = claim_find.main_claim(case)
    if claim is None or case.survey.neuron:
        return
    wanted = _strategies(claim)
    wrong = [s for s in claim_find.stored(case) if s.encoding == "fp8" and wanted and (found := _strategy(s)) and found not in wanted]
    if not wrong:
        return
    count, strategy = sum(s.pair.count for s in wrong), _strategy(wrong[0])
    key = "weight_block_size" if claim.family == "fp8" else "config_groups"
    yield RULE.finding(f"Scales are claimed for each {' or '.join(sorted(wanted))}, and {count:,} weights have them for each {strategy}",
                       Where(claim.file, tensor=folded(s.name for s in wrong), key=claim.key(key), count=count),
                       evidence=f"scale {list(wrong[0].scale_shape)} beside {list(wrong[0].shape)} at {wrong[0].name}",
                       consequence="a shape error at the first such scale, or scales of other rows, without an error",
                       fix=_fix(case, claim, strategy))


def _strategies(claim: Stated) -> set[str]:
    if claim.family == "fp8":
        return {"block"} if claim.block else {"tensor"} if not claim.block_text else set()
    if claim.family == "compressed-tensors" and claim.schemes:
        found = {s.strategy for s in claim.schemes}
        return found if "" not in found and found <= {"tensor", "channel", "block"} else set()
    return {"FP8": {"tensor"}, "FP8_PER_CHANNEL_PER_TOKEN": {"channel"}, "FP8_PB_WO": {"block"}}.get(claim.algo,
                                                                                                     set()) if claim.family == "modelopt" else set()


def _strategy(s: claim_find.StoredKind) -> str:
    """By the scale's shape alone: one value, a column of rows, or a grid. Empty where that leaves two readings."""
    rows, columns = s.shape[-2:] if len(s.shape) >= 2 else (1, 1)
    grid = tuple(n for n in s.scale_shape[-2:])
    size = 1
    for n in s.scale_shape:
        size *= n
    if not s.pair.row.scale_suffix or s.pair.row.scale_dtype in ("U8", "F8_E8M0"):
        return ""
    if len(s.shape) > 2:
        return "block" if len(grid) == 2 and grid[0] > 1 and grid[1] > 1 and grid[0] < rows else ""
    if size == 1:
        return "tensor" if rows > 256 or columns > 256 else ""
    if size == rows and (len(grid) < 2 or grid[1] == 1):
        return "channel"
    return "block" if len(s.scale_shape) in (2, 4) and size < rows * columns // 64 else ""


def _fix(case: Case, claim: Stated, strategy: str) -> Fix:
    block = claim_find.fitting_block(case)
    if claim.family == "fp8" and strategy == "block" and block:
        return Fix(f"write weight_block_size {list(block)}", list(block), (Edit(claim.file, (*claim.path, "weight_block_size"), list(block)),))
    if claim.family == "fp8" and strategy == "tensor":
        return Fix("write weight_block_size: null", None, (Edit(claim.file, (*claim.path, "weight_block_size"), None),))
    return Fix(f"write strategy {strategy}" + (f" with block_structure {list(block)}" if strategy == "block" and block else ""), strategy)
