"""WB502 expert-block-cut: tensor parallelism cuts the experts' width through a scale block.

## What it does
Divides the experts' intermediate width by the ranks that cut it (TP, or TP x DP in vLLM, or TP / EP in SGLang and TensorRT-LLM) and compares
the share with the scale block along that axis.

## Why it matters
A rank would hold a part of a block, and the scale of the block is one number. The readers refuse, some minutes into the start.
A share that is smaller than one block is refused too, although it could be padded.

## Example
MiniMax-M2, Qwen3-235B: 1536/8 = 192 rows for each rank, the block is 128.

## How to mend
Deal whole experts out instead of cutting them (expert parallelism), or take a smaller size. The finding lists all sizes up to 64.

## References
vllm-project/vllm#17569 and kvcache-ai/ktransformers#2036 (the text), vllm-project/vllm#52997 (shares below one block),
NVIDIA/TensorRT-LLM#14613 (the same limit of its kernels). vLLM layers/quantization/fp8.py `create_weights`, main.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import cuts
from weighbridge.check.case import Case
from weighbridge.check.cut_find import READ_IN, block_findings
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB502", "expert-block-cut", "error", cuts.READERS, READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    return block_findings(RULE, case, target, ("experts",), "the experts' width")
