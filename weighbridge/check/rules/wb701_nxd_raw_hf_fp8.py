"""WB701 nxd-raw-hf-fp8: these FP8 files have the names of Hugging Face, and NxD Inference finds no scale in them.

## What it does
Finds FP8 weights whose scales are named `weight_scale_inv`, for a run on Neuron that does not say `quantized: false`. With `quantized: false`
it looks whether the config still says the block, by which the contrib port decodes to BF16.

## Why it matters
NxD renames only `.weight_scale` to `.scale` (the contrib port renames nothing). The load ends with a KeyError; what is on the skip list is
cast from FP8 to BF16 without its scale, with no error at all. The codes above 240 would be infinities on the device besides.

## Example
The published MiniMax-M2 folder as `quantized_checkpoints_path`: 47,864 weights, 47,864 `weight_scale_inv`.

## How to mend
`weighbridge convert SRC DST --to neuron` writes the names, the shapes, the codes and the neuron_config.json that NxD wants.

## References
Rule R17 (NxDI modules/attention/gqa.py 653) and R18 (contrib modeling_minimax_m2.py 156) of docs/neuron.md;
models/application_base.py for the renaming.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix, Where
from weighbridge.check.nxd_settings import READ_IN, Nxd, nxd, shown
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB701", "nxd-raw-hf-fp8", "error", ("neuron",), READ_IN)
FIX = "weighbridge convert SRC DST --to neuron"


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    raw = n.raw_scales
    if not raw:
        return
    count = sum(s.count for s in raw)
    where = Where(tensor=shown([s.name.removesuffix(".weight") + s.scale_suffix for s in raw]), count=count)
    if n.wants_fp8:
        yield RULE.finding("the scales have names that NxD Inference does not read", where,
                           evidence=f"{count:,} FP8 weights with weight_scale_inv, 0 with .scale" + _elsewhere(n),
                           consequence=_consequence(n), fix=Fix(f"{FIX}; or run in BF16 with quantized: false", FIX), runtime=target.runtime)
    elif n.contrib and not case.claims.blocks:
        yield RULE.finding("the contrib port cannot decode to BF16 without the block size",
                           Where(file="config.json", key="quantization_config.weight_block_size"),
                           evidence=f"{count:,} FP8 weights, no weight_block_size",
                           consequence="AttributeError or KeyError (modeling_minimax_m2.py 156)",
                           fix="put the quantization_config with weight_block_size back into config.json", runtime=target.runtime)


def _elsewhere(n: Nxd) -> str:
    """The weights are read from `quantized_checkpoints_path` alone: say so where that may be another folder."""
    path = n.text("quantized_checkpoints_path").rstrip("/")
    same = path in ("", ".") or path.rpartition("/")[2] == n.case.checkpoint.label.rstrip("/").rpartition("/")[2]
    return "" if same else f"; quantized_checkpoints_path says {path[:120]}: check that folder if it holds other files"


def _consequence(n: Nxd) -> str:
    attention = [s for s in n.attention if s.fp8]
    lost = "what the skip list names is cast to BF16 without its scale: no error, weights about 1/scale too large"
    read = next((s for s in attention if s.role != "attention.o" and not n.listed(s)), None)
    if read:
        return f"KeyError: '{read.module}.scale'"
    experts = next((s for s in n.stored if s.fp8 and not n.listed(s) and s.role.startswith("experts")), None)
    return (f"RuntimeError: Cannot find {experts.module}.scale in state_dict; and " if experts else "no KeyError with this skip list: ") + lost
