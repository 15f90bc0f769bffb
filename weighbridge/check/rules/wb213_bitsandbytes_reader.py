"""WB213 bitsandbytes-reader: the files are quantized by bitsandbytes, and this reader cannot load such files.

## What it does
Looks for bitsandbytes' tensors (`SCB`, `absmax`, `quant_state`) and whether the reader, in the version that is asked for, takes them.

## Why it matters
The names of the helpers have no place: a KeyError after the download.

## Example
`weight.absmax` of a 4-bit model in a class of vLLM 0.6 that does not know bitsandbytes.

## How to mend
Use transformers, a newer vLLM with `--quantization bitsandbytes`, or the unquantized checkpoint.

## References
vllm-project/vllm#11803, #11010; llama.cpp master `dequant_model` (the text).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import claim_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB213", "bitsandbytes-reader", "error", ("vllm", "sglang", "neuron"),
            {"vllm": "vLLM main", "sglang": "SGLang main", "neuron": "NxD 2.29"})
EXPERTS_SINCE, CLASSES_SINCE = "0.10.1", "0.8"


def find(case: Case, target: Target) -> Iterator[Finding]:
    found = [s for s in claim_find.stored(case) if s.encoding == "bitsandbytes"]
    if not found:
        return
    suffix = found[0].pair.row.scale_suffix or ".SCB"
    severity, why = _why(case, target, any(".experts." in s.name for s in found))
    yield RULE.finding(f"bitsandbytes weights in {target.runtime}: {why}",
                       Where(tensor=folded(s.name for s in found), count=sum(s.pair.count for s in found)),
                       evidence=f"{found[0].pair.row.dtype} with {suffix}", severity=severity,
                       consequence=f"KeyError: '{found[0].name.removesuffix('.weight').removeprefix('model.')}{suffix}'",
                       fix="use transformers, a vLLM that knows the class, or the unquantized checkpoint", runtime=target.runtime)


def _why(case: Case, target: Target, experts: bool) -> tuple[str, str]:
    flag, vllm = case.settings.quantization, target.runtime == "vllm"
    if target.runtime == "neuron":
        return "error", "it does not know them"
    if vllm and experts and target.before(EXPERTS_SINCE):
        return "error", f"experts are read since {EXPERTS_SINCE}"
    if vllm and target.before(CLASSES_SINCE):
        return "error", f"before {CLASSES_SINCE} only some model classes know them"
    if flag and flag != "bitsandbytes":
        return "error", f"{case.settings.where('quantization')} is {flag:.40}"
    return "note", "a model class of your own may not know them"
