"""WB803 kv-nvfp4-beside-block: TensorRT-LLM cannot hold an NVFP4 key/value cache beside block FP8 weights.

## What it does
Looks for an NVFP4 cache (asked for, or claimed by the config) with weights in block FP8.

## Why it matters
The linear layer of block FP8 has no place for the scales of that cache, and the load ends.

## Example
A block-FP8 checkpoint with `kv_cache_dtype: nvfp4`.

## How to mend
Use an FP8 or BF16 cache.

## References
NVIDIA/TensorRT-LLM#13576 (the text).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import cuts, kv_cache
from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix, Remove, Where
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB803", "kv-nvfp4-beside-block", "error", ("tensorrt-llm",), {"tensorrt-llm": "TensorRT-LLM main"})


def find(case: Case, target: Target) -> Iterator[Finding]:
    dtype, who = kv_cache.asked(case)
    block = next((p for p in cuts.parts(case) if p.quantized and p.dtype.startswith("F8") and p.block and p.block[0] > 1), None)
    if "fp4" not in dtype or block is None:
        return
    file, _, key = who.partition(": ")
    edits = (Edit(file, tuple(key.split(".")), Remove),) if file.endswith(".json") and key else ()
    yield RULE.finding("an NVFP4 key/value cache beside block FP8 weights", Where(key=who, module=block.name),
                       evidence=f"cache {dtype}; {block.role} {block.dtype} in blocks of {block.block}",
                       consequence="AttributeError: 'Linear' object has no attribute 'kv_scales'", fix=Fix("use an FP8 or BF16 cache", None, edits),
                       runtime=target.runtime)
