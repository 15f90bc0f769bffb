"""WB802 kv-scales-absent: an FP8 key/value cache is asked for, and the files hold no scales for it.

## What it does
Looks for `k_scale` and `v_scale` (in all spellings) where the command line or the config asks for an E4M3 cache.

## Why it matters
The readers warn once and use 1.0: keys and values above 448 are cut off, small ones vanish, and accuracy is lost.

## Example
`--kv-cache-dtype fp8` with a checkpoint that was quantized without `kv_cache_scheme`.

## How to mend
Leave the option away, use `fp8_e5m2`, which needs no scales, or calibrate the cache when you quantize.

## References
sgl-project/sgl-cookbook#237; compressed-tensors 0.20 `kv_cache_scheme`; ModelOpt `kv_cache_quant_algo`.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import kv_cache
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB802", "kv-scales-absent", "warning", ("vllm", "sglang", "tensorrt-llm"),
            {"vllm": "vLLM main", "sglang": "SGLang main", "tensorrt-llm": "TensorRT-LLM main"})


def find(case: Case, target: Target) -> Iterator[Finding]:
    dtype, who = kv_cache.asked(case)
    if not dtype.startswith("fp8") or "e5m2" in dtype or not case.checkpoint.tensors or kv_cache.scale_names(case):
        return
    yield RULE.finding("an FP8 key/value cache without scales", Where(key=who), evidence=f"{who} {dtype}, 0 tensors k_scale or v_scale",
                       consequence="a warning only: the scales are 1.0, and accuracy is lost",
                       fix="leave the option away, use fp8_e5m2, or quantize again with a calibrated cache", runtime=target.runtime)
