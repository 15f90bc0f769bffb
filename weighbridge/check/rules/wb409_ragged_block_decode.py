"""WB409 ragged-block-decode: transformers derives the block from the shapes when it decodes, and the last block is partial.

## What it does
Finds block FP8 weights whose rows or columns are no multiple of the block, for transformers.

## Why it matters
Where transformers decodes FP8 (on a CPU, on GPUs before compute capability 8.9, or with `dequantize=True`) it takes rows / scale rows for the block.
576 rows with 5 scale rows are refused. 192 rows with 2 scale rows are accepted as blocks of 96: rows 96 to 127 get the wrong scale, without an error.

## Example
DeepSeek-V3's `kv_a_proj_with_mqa`: [576, 7168] with [5, 56] scales.

## How to mend
`weighbridge convert SRC DST --to hf-bf16` decodes by the claimed block. Or run where the FP8 kernels take the block from the config.

## References
transformers 5.23.0 integrations/finegrained_fp8.py `Fp8Dequantize._dequantize_one`; vllm-project/llm-compressor#2286.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.modules import Module
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at
from weighbridge.check.settings import Target

RULE = Rule("WB409", "ragged-block-decode", "warning", ("transformers",), {"transformers": "transformers 5.23.0"})
DECODES = ("cpu", "a100", "a10", "v100", "t4", "rtx30", "mps")  # devices without FP8 kernels
CONVERT = "weighbridge convert SRC DST --to hf-bf16"


def find(case: Case, target: Target) -> Iterator[Finding]:
    if not any(_ragged(pair.kind.block, pair.shape) for key in case.survey.keys.values() for pair in key.pairs.values() if pair.kind.block):
        return
    refused: list[Module] = []
    silent: list[Module] = []
    for module in case.modules.all:
        block, scale, shape = module.kind.block, module.scale, module.weight.shape
        if block is None or scale is None or module.weight.dtype != "F8_E4M3" or len(shape) != 2 or len(scale.shape) != 2 or 0 in scale.shape:
            continue
        if shape[0] % scale.shape[0] or shape[1] % scale.shape[1]:
            refused.append(module)
        elif (shape[0] % block[0] and scale.shape[0] > 1) or (shape[1] % block[1] and scale.shape[1] > 1):
            silent.append(module)
    sure = case.settings.device.lower().startswith(DECODES)
    for modules, title in ((silent, "A partial block is decoded with the wrong scale"), (refused, "A partial block cannot be decoded")):
        if modules:
            yield _finding(modules, title, modules is silent, "error" if sure else "warning")


def _ragged(block: tuple[int, int] | None, shape: tuple[int, ...]) -> bool:
    """Whether a shape has rows or columns that are no multiple of its block."""
    return block is not None and len(shape) == 2 and bool(shape[0] % block[0] or shape[1] % block[1])


def _finding(modules: list[Module], title: str, silent: bool, severity: str) -> Finding:
    first = modules[0]
    shape, grid = first.weight.shape, first.scale.shape if first.scale is not None else ()
    block = first.kind.block or (0, 0)
    text = (f"no error: blocks of {shape[0] // grid[0]}x{shape[1] // grid[1]} are taken instead of {block[0]}x{block[1]}" if silent else
            f"ValueError: Weight shape ({shape[0]}, {shape[1]}) not divisible by scale grid ({grid[0]}, {grid[1]}).")
    return RULE.finding(f"{title} in transformers", at(m.weight.name for m in modules), evidence=f"weight {list(shape)}, block {list(block)}, scale {list(grid)}",
                        consequence=f"where FP8 is decoded (CPU, GPUs before 8.9, dequantize=True): {text}", severity=severity,
                        fix=Fix(f"decode by the claimed block: {CONVERT}", CONVERT), runtime="transformers")
