"""WB201 claim-missing: the files hold quantized weights, and no configuration says so.

## What it does
Looks for a quantization config in every place where one can stand, where the headers show codes.

## Why it matters
Without it every reader takes the codes for values and leaves the scales aside. Some refuse the scales' names; most say nothing.

## Example
`quantization_config` was taken out of MiniMax-M2's config.json to get past a check for a GPU, and never put back.

## How to mend
Put the publisher's `quantization_config` back. Where the headers allow one reading only, the finding prints it.

## References
whn09/neuronx-distributed-inference examples/minimax_m2_misc; ggml-org/llama.cpp#11991, #12341, #12644, #14781 (the text);
vllm-project/compressed-tensors#536, vllm-project/llm-compressor#1641 (quantizing such files again).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import claim_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule

RULE = Rule("WB201", "claim-missing", "error")


def find(case: Case) -> Iterator[Finding]:
    found = [] if case.stated or case.survey.neuron else list(claim_find.stored(case))
    if not found:
        return
    count = sum(s.pair.count for s in found)
    kinds = ", ".join(dict.fromkeys(claim_find.NAMES[s.encoding] for s in found))
    scale = next((s.name[: len(s.name) - len(s.key.suffix)] + (s.pair.row.scale_suffix or "") for s in found if s.pair.row.scale_suffix), "")
    yield RULE.finding(f"{count:,} weights are quantized, and no configuration says so",
                       Where("config.json", tensor=folded(s.name for s in found), key="quantization_config",
                                                                                           count=count),
                       evidence=f"{kinds} in the headers, no quantization_config",
                       consequence=f"codes are taken for values; llama.cpp: ValueError: Can not map tensor '{scale}'; quantizing again: "
                       "Promotion for Float8 Types is not supported", fix=_fix(case, found))


def _fix(case: Case, found: list[claim_find.StoredKind]) -> Fix:
    block = claim_find.fitting_block(case)
    if {s.encoding for s in found} != {"fp8"} or block is None or {s.pair.row.scale_suffix for s in found} != {".weight_scale_inv"}:
        return Fix("put the publisher's quantization_config back into config.json")
    value = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": list(block),
             "modules_to_not_convert": claim_find.plain_linears(case)}
    return Fix("put this into config.json, or better the publisher's own", value, (Edit("config.json", ("quantization_config",), value),))
