"""WB503 block-cut: tensor parallelism cuts a dense layer, a shared expert or attention through a scale block.

## What it does
Divides the cut axis of every linear layer outside the routed experts by the ranks (key and value heads are repeated where they are fewer),
each part of a merged layer (q, k, v; gate, up) for itself, and compares the share with the scale block. The low-rank halves of latent
attention are held whole and cannot fail.

## Why it matters
The server stops while it makes the layer.

## Example
DeepSeek-R1 at TP 32: its three dense layers are 18432 wide, 18432/32 = 576, the block is 128. Key heads 64 wide with a block of 128.

## How to mend
Take a size that the finding lists. Beyond it, use pipeline or data parallelism.

## References
sgl-project/sglang#3345 and NVIDIA/TensorRT-LLM#2776 (18432/32), vllm-project/vllm#52997 (shares below one block).
vLLM layers/quantization/utils/fp8_utils.py `validate_fp8_block_shape`, main; SGLang's fp8.py has the same texts.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import cuts
from weighbridge.check.case import Case
from weighbridge.check.cut_find import READ_IN, block_findings
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB503", "block-cut", "error", cuts.READERS, READ_IN)
WHAT = {"attention": "attention", "mlp": "the dense layers", "shared_experts": "the shared experts"}


def find(case: Case, target: Target) -> Iterator[Finding]:
    for group, what in WHAT.items():
        yield from block_findings(RULE, case, target, (group,), what)
