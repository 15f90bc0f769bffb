"""WB604 dtype-unread: this reader does not take a dtype of the weights.

## What it does
Compares the dtypes of the stored weights with what the reader and the device compute with.

## Why it matters
A dtype that is not expected is cast: E5M2 to E4M3 overflows above 448, FP8 to BF16 loses its scale, microscaling formats need devices that have them.

## Example
F8_E5M2 weights for NxD Inference: cast to BF16 without their scales.

## How to mend
Convert to a dtype that the reader takes; the finding names it.

## References
NxDI models/application_base.py 644-657 (only E4M3 and names that end in `scale` escape the cast); aws-neuron/aws-neuron-sdk#1366 (microscaling on Trn3).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.modules import Module
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, stored
from weighbridge.check.settings import Target

RULE = Rule("WB604", "dtype-unread", "error", ("transformers", "vllm", "sglang", "neuron", "tensorrt-llm"),
            {"transformers": "transformers 5.23.0", "vllm": "vLLM main", "sglang": "sglang main", "neuron": "NxDI main", "tensorrt-llm": "TensorRT-LLM main"})
ODD = frozenset({"F8_E5M2", "F64", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8"})


def find(case: Case, target: Target) -> Iterator[Finding]:
    if not any(dtype in ODD for dtype, _, _ in stored(case)):
        return
    by_dtype: dict[str, list[Module]] = {}
    for module in case.modules.all:
        if module.weight.dtype in ODD:
            by_dtype.setdefault(module.weight.dtype, []).append(module)
    if "F8_E5M2" in by_dtype:
        neuron = target.runtime == "neuron"
        yield _finding(target, by_dtype["F8_E5M2"], "no error: cast to BF16 without their scales" if neuron else "no error: values above 448 become NaN where they are cast to E4M3",
                       "F8_E4M3, or BF16", "error" if neuron else "warning")
    if "F64" in by_dtype:
        yield _finding(target, by_dtype["F64"], "no error: cast at load, after twice the memory of F32", "F32 or BF16", "warning")
    micro = [m for dtype in ("F4", "F6_E2M3", "F6_E3M2", "U8", "I8") for m in by_dtype.get(dtype, []) if dtype.startswith("F") or _microscaling(m)]
    if micro and target.runtime == "neuron" and not case.settings.device.lower().startswith("trn3"):
        yield _finding(target, micro, "FP4 and microscaling need Trn3: the load ends, or the codes are cast to BF16", "F8_E4M3 with F32 scales, or BF16", "error")


def _microscaling(module: Module) -> bool:
    return module.scale is not None and module.scale.dtype in ("U8", "F8_E8M0", "F8_E4M3") and module.suffix in (".weight", ".weight_packed", "_blocks")


def _finding(target: Target, found: list[Module], consequence: str, right: str, severity: str) -> Finding:
    dtype = found[0].weight.dtype
    return RULE.finding(f"Weights are stored as {dtype}, which {target.runtime} does not compute with", at(m.weight.name for m in found),
                        evidence=f"{len(found):,} weights {dtype}", consequence=consequence, fix=Fix(f"store {right}", right), severity=severity, runtime=target.runtime)
