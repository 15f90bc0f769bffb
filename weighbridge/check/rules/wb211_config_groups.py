"""WB211 config-groups: the reader takes one quantization scheme for the whole model, and the config has several.

## What it does
Counts compressed-tensors' config_groups, and looks at the format, for llama.cpp's converter.

## Why it matters
The conversion stops at once.

## Example
NVFP4 experts and FP8 attention in two config_groups.

## How to mend
Decode the checkpoint first (`weighbridge convert --to hf-bf16` where the family is known), and convert that.

## References
unslothai/llama.cpp#195; llama.cpp master conversion/base.py `dequant_model` (the texts).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.claim_keys import read_by

RULE = Rule("WB211", "config-groups", "error", ("llama.cpp",), {"llama.cpp": "llama.cpp master"})
FORMATS = ("float-quantized", "int-quantized", "naive-quantized", "pack-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized")


def find(case: Case, target: Target) -> Iterator[Finding]:
    claim = read_by(case.stated, target.runtime)
    if claim is None or claim.family != "compressed-tensors" or not case.survey.quantized:
        return
    groups = claim.raw.get("config_groups")
    if isinstance(groups, dict) and len(groups) > 1:
        yield RULE.finding(f"The config has {len(groups)} config_groups, the converter takes one",
                           Where(claim.file, key=claim.key("config_groups"), count=len(groups)),
                           evidence=", ".join(f"{s.name}: {s.bits} bits {s.kind} {s.strategy}" for s in claim.schemes[:4]),
                           consequence="NotImplementedError: Can't handle multiple config groups for compressed-tensors yet",
                           fix="decode the checkpoint first, and convert that", runtime=target.runtime)
    elif claim.fmt and claim.fmt not in FORMATS:
        yield RULE.finding(f"The converter does not know the format {claim.fmt!r:.40}", Where(claim.file, key=claim.key("format")),
                           evidence=f"known are {', '.join(FORMATS)}",
                           consequence=f"NotImplementedError: Quant format {claim.fmt!r:.40} for method 'compressed-tensors' is not yet supported",
                           fix="decode the checkpoint first, and convert that", runtime=target.runtime)
