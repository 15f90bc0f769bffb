"""WB702 nxd-attention-block-scales: attention has two-dimensional block scales, which NxD Inference cannot hold.

## What it does
Compares the first scale axis longer than 1 of every FP8 q, k, v and o weight with the weight's own axis, as `verify_scale_dimension` does.

## Why it matters
That check is a bare `assert`, without a message, after tens of minutes of compiling. It fires whatever the skip list says: with attention
converted in q/k/v, with `self_attn` on the list in the hook of o_proj, which reads the scale whatever the layer is. With one scale for each
row *and* `self_attn` on the list nothing fires at all: the FP8 bytes are cast to BF16, the scales are dropped, and the model speaks garbage.
So the list is not the cause, and taking `self_attn` off it is not the cure.

## Example
MiniMax-M2: scale [48, 24] beside q_proj [6144, 3072]; 48 is not 6144.

## How to mend
`weighbridge convert SRC DST --to neuron`: `--attention published` (q/k/v one scale per row, o_proj BF16), `row`, `bf16`, or `exact` (one
scale per 128 columns on every row: passes the check and loses nothing). The scale is a multiplier: `.scale = weight_scale_inv`, never its reciprocal.

## References
NxDI modules/attention/gqa.py 110-134, 650-675, 1088-1113; rule R23 of docs/neuron.md; the report that blamed the list:
whn09/neuronx-distributed-inference examples/minimax_m2_misc/SUMMARY.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix, Where
from weighbridge.check.nxd_settings import READ_IN, Nxd, NxdWeight, nxd, shown
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB702", "nxd-attention-block-scales", "error", ("neuron",), READ_IN)
SILENT = "no error: FP8 codes are cast to BF16, the scales are dropped as redundant keys, and q/k/v are 1/scale times too large"
FIX = "weighbridge convert SRC DST --to neuron --attention exact"


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    if not n.wants_fp8 or case.checkpoint.ranks:
        return
    fp8 = [s for s in n.attention if s.fp8]
    bad = [s for s in fp8 if not passes(s)]
    if bad:
        one = bad[0]
        row = next(k for k, size in enumerate(one.scale) if size > 1)
        yield RULE.finding("attention has 2-D block scales", Where(tensor=shown([s.name for s in bad], 4), count=sum(s.count for s in bad)),
                           evidence=f"scale {list(one.scale)} beside a weight {list(one.shape)}: {one.scale[row]} is not {one.shape[row]}",
                           consequence=_consequence(n, bad), fix=_fix(n), runtime=target.runtime)
    lost = [s for s in fp8 if s not in bad and n.quantized and n.listed(s) and s.scale_suffix in (".scale", ".weight_scale")]
    if lost:
        keep = n.right_list()
        yield RULE.finding("attention is FP8 in the files and on the skip list",
                           Where(tensor=shown([s.name for s in lost], 4), count=sum(s.count for s in lost)),
                           evidence=f"modules_to_not_convert {n.skip}; scale {list(lost[0].scale)} beside {lost[0].dtype} {list(lost[0].shape)}",
                           consequence=SILENT,
                           fix=Fix("take attention off the list", keep, (n.edit("modules_to_not_convert", keep),)), runtime=target.runtime)


def _fix(n: Nxd) -> Fix:
    exact, published = n.right_list(), n.right_list((".o_proj",))
    return Fix(f"{FIX} keeps all values, with modules_to_not_convert {exact}; the default form, reported to run, wants {published}",
               {"convert": FIX, "modules_to_not_convert": exact})


def passes(stored: NxdWeight) -> bool:
    """gqa.py `verify_scale_dimension`: the first scale axis longer than 1 is as long as the weight's."""
    first = next((k for k, size in enumerate(stored.scale) if size > 1), None)
    return first is None or (first < len(stored.shape) and stored.scale[first] == stored.shape[first])


def _consequence(n: Nxd, bad: list[NxdWeight]) -> str:
    listed = any(n.listed(s) for s in bad)
    place = "in the hook of o_proj, which reads the scale whatever the layer is" if listed else "while the scale of q_proj is set"
    text = f"AssertionError without a message (verify_scale_dimension), {place}"
    if any(s.scale_suffix.endswith("weight_scale_inv") for s in bad):
        text += "; that is with a loader that renames weight_scale_inv to .scale, without one the load ends before (WB701)"
    return text + ". The skip list is not the cause: the assert comes with self_attn on it and without"
