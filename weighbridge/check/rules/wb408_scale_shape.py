"""WB408 scale-shape: a scale grid does not fit its weight under the claimed block.

## What it does
Compares each scale's shape with ceil(rows / block) x ceil(columns / block) of the block that the claim states. The block is never derived from
the shapes. Grids that are turned, cut by floor division, or split into equal parts are named as such.

## Why it matters
A reader that broadcasts or divides evenly gives values the scale of their neighbours, without an error.

## Example
576 rows have 5 scale rows, not 4; a weight [1536, 3072] has a grid [12, 24], and [24, 12] belongs to its transpose.

## How to mend
Write the grid that the finding gives, or state the block that the files have.

## References
DeepSeek-V3 README_WEIGHTS.md (padding to whole blocks); vllm-project/vllm-ascend#15346; NVIDIA/TensorRT-LLM#17433 (4-D grids);
vllm-project/vllm#53242 (a fused qkv whose parts were blocked apart).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.claim_find import fitting_block
from weighbridge.check.finding import Finding, Fix, Where
from weighbridge.check.modules import Module
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at
from weighbridge.check.scale_grids import apart, bytes_in_u8, fits_other_block, judged

RULE = Rule("WB408", "scale-shape", "error")


def find(case: Case) -> Iterator[Finding]:
    if not (case.claims.blocks or case.claims.groups):
        return  # what is missing then is the claim
    other = fitting_block(case) if any(key[0] == "scale-shape" for key in case.survey.odd) else None
    wrong: dict[str, list[Module]] = {}
    parted: list[Module] = []
    for module in case.modules.all:
        if not module.kind.problem or module.scale is None or not module.quantized or bytes_in_u8(case, module) or fits_other_block(case, module, other):
            continue
        if apart(case, module):
            parted.append(module)
        else:
            wrong.setdefault(judged(case, module), []).append(module)
    for verdict, modules in wrong.items():
        first = modules[0]
        yield RULE.finding(f"Scale grids do not fit their weights{verdict}", at(m.path + m.scale_suffix for m in modules), evidence=first.kind.problem,
                           consequence="a shape assert, or no error in readers that broadcast or divide evenly: values get the scale of their neighbours",
                           fix=_fix(case, first))
    if parted:
        first = parted[0]
        rows = first.scale.shape[0] if first.scale is not None else 0
        yield RULE.finding("The parts of a fused qkv were blocked apart", Where(tensor=at(m.path + m.scale_suffix for m in parted).tensor, count=len(parted)),
                           evidence=f"{first.weight.shape[0]:,} rows have {rows:,} scale rows: q, k and v of each group of heads have their own blocks",
                           consequence="row r does not belong to scale row r // block: only readers that know this family read it right", severity="note")


def _fix(case: Case, module: Module) -> Fix:
    shape = module.weight.shape
    if case.claims.blocks and len(shape) >= 2 and module.suffix in (".weight", ""):
        rows, columns = case.claims.blocks[0]
        right = [*shape[:-2], -(-shape[-2] // rows), -(-shape[-1] // columns)]
        return Fix(f"the grid for block {rows}x{columns} is {right}; or state the block that the files were quantized with", right)
    return Fix("state the block or group that the files were quantized with, or quantize again")
