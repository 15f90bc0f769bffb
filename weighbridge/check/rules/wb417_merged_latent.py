"""WB417 merged-latent: a joined latent projection gets one scale row too few.

## What it does
Finds block FP8 `q_a_proj` and `kv_a_proj_with_mqa` (DeepSeek-V3, Kimi-K2, GLM-5) that are joined on load to `fused_qkv_a_proj`, where one part is
no multiple of the block, for vLLM on Ascend devices.

## Why it matters
The plug-in divides the rows of each part by the block without rounding up: 576 rows get 4 scale rows instead of 5. The output is noise.

## Example
2048 + 576 rows at block 128: 16 + 4 rows are taken, 16 + 5 are in the files.

## How to mend
Use a version with the fix, or decode the two weights to BF16 and put them on the list of modules that are not quantized.

## References
vllm-project/vllm-ascend#15346.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at
from weighbridge.check.settings import Target

RULE = Rule("WB417", "merged-latent", "error", ("vllm",), {"vllm": "vllm-ascend#15346"})
PARTS = ("q_a_proj", "kv_a_proj_with_mqa")
DEVICES = ("ascend", "npu", "910", "atlas", "a2", "a3")


def find(case: Case, target: Target) -> Iterator[Finding]:
    if case.settings.device.lower() not in DEVICES and not case.settings.device.lower().startswith(DEVICES[:4]):
        return
    ragged = [m for m in case.modules.all if m.leaf in PARTS and m.kind.block and m.scale is not None and m.weight.shape[0] % m.kind.block[0]]
    if ragged:
        first = ragged[0]
        rows, block = first.weight.shape[0], (first.kind.block or (1, 1))[0]
        yield RULE.finding("A joined latent projection gets one scale row too few", at(m.path + m.scale_suffix for m in ragged),
                           evidence=f"{rows} rows at block {block}: {rows // block} scale rows are taken, {-(-rows // block)} are in the files",
                           consequence="no error: pure noise", fix="use a version with the fix, or keep the two projections in BF16 and list them",
                           runtime=target.runtime)
