"""WB603 fnuz-device: this device computes in FNUZ, and something of the checkpoint does not come over.

## What it does
For MI300, MI308 and MI325 (gfx94x) it looks at what readers must convert: E4M3 weights, scales in F8_E8M0, and codes 0x80.

## Why it matters
The bytes are kept and the scales doubled. Doubling an E8M0 scale is not implemented; some paths forget the weights and multiply E4M3 with FNUZ;
0x80, minus zero in E4M3, is NaN in FNUZ and must become 0.

## Example
DeepSeek-V4 with F8_E8M0 scales on MI300X.

## How to mend
Store the scales as F32; use a version that converts; or MI350, which computes in E4M3.

## References
sgl-project/sglang#35111; vllm-project/vllm#42247, #41961; causalflow-ai/petit-kernel#3; vLLM utils/quant_utils.py `get_fp8_min_max`.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.devices import is_fnuz
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.rule import Rule
from weighbridge.check.scale_codes import codes, told
from weighbridge.check.scale_forms import at
from weighbridge.check.settings import Target

RULE = Rule("WB603", "fnuz-device", "error", ("vllm", "sglang"), {"vllm": "vLLM#42247", "sglang": "sglang#35111"})


def find(case: Case, target: Target) -> Iterator[Finding]:
    device = case.settings.device
    if not is_fnuz(device):
        return
    fp8 = [m for m in case.modules.all if m.weight.dtype == "F8_E4M3" and m.scale is not None]
    exponents = [m for m in fp8 if m.scale is not None and m.scale.dtype == "F8_E8M0"]
    if exponents:
        yield RULE.finding(f"Scales are F8_E8M0, which cannot be doubled on {device}", at(m.path + m.scale_suffix for m in exponents),
                           evidence=f"{len(exponents):,} scales F8_E8M0", consequence="\"mul_cpu_reduced_float\" not implemented for 'Float8_e8m0fnu'",
                           fix=Fix("store the scales as F32: 2.0 ** (b - 127)", "F32"), runtime=target.runtime)
    plain = [m for m in fp8 if m.kind.strategy in ("tensor", "channel")]
    if plain and target.runtime == "sglang":
        yield RULE.finding(f"E4M3 weights meet FNUZ activations on {device}", at(m.weight.name for m in plain),
                           evidence=f"{len(plain):,} F8_E4M3 weights with one scale per tensor or row; {device} computes in F8_E4M3FNUZ",
                           consequence="HIPBLAS_STATUS_NOT_SUPPORTED in versions that convert the activations only", severity="warning",
                           fix="use a version that converts the weights at load", runtime=target.runtime)
    seen = codes(case)
    minus = [one for one in seen if one.minus_zero]
    if minus:
        yield RULE.finding("Codes 0x80 are NaN in FNUZ", at(one.module.weight.name for one in minus),
                           evidence=f"{sum(one.minus_zero for one in minus):,} codes 0x80; {told(seen, case)}",
                           consequence="NaN in kernels that keep the bytes; vLLM and SGLang write 0 at load", fix="write 0x00 for 0x80", severity="note",
                           runtime=target.runtime)
