"""WB414 indexer-scale-dropped: TensorRT-LLM drops the block scales of the sparse-attention indexer.

## What it does
Finds FP8 weights of an indexer (`indexer.wk`, DeepSeek-V3.2 and GLM-5) with block scales, for TensorRT-LLM.

## Why it matters
The projection is built unquantized there, and the codes are copied into it without their scale. The indexer then picks the wrong tokens,
without an error.

## Example
`self_attn.indexer.wk.weight` F8_E4M3 [128, 7168] with [1, 56] scales.

## How to mend
Use a version with the fix; or decode these weights to BF16 and put them on the list of modules that are not quantized.

## References
NVIDIA/TensorRT-LLM#18658 (read at 1.3.0rc25), #18665.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at
from weighbridge.check.settings import Target

RULE = Rule("WB414", "indexer-scale-dropped", "error", ("tensorrt-llm",), {"tensorrt-llm": "TensorRT-LLM 1.3.0rc25"})


def find(case: Case, target: Target) -> Iterator[Finding]:
    if not any(".indexer." in key for key in case.survey.keys):
        return
    # Only the key projection joins an unquantized weight there; the query projection is built quantized.
    found = [m for m in case.modules.all if ".indexer." in m.path and m.leaf in ("wk", "weights_proj") and m.quantized and m.scale is not None]
    if found:
        first = found[0]
        grid = list(first.scale.shape) if first.scale is not None else []
        yield RULE.finding("The block scales of the indexer are dropped", at(m.path + m.scale_suffix for m in found),
                           evidence=f"{first.weight.dtype} {list(first.weight.shape)} with a scale {grid}; the layer is built unquantized",
                           consequence="no error: the indexer picks the wrong tokens",
                           fix="use a TensorRT-LLM with #18665, or decode these weights to BF16 and list them as not quantized", runtime=target.runtime)
