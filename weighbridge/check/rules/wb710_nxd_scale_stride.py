"""WB710 nxd-scale-stride: with the contrib port's patch, gate columns are multiplied by up's scales.

## What it does
Looks for experts that are cut by width (`moe_tp_degree` above 1) in a block-wise run.

## Why it matters
The contrib port's stride patch cuts the joined gate-and-up scale in one run while it cuts the weight in two. Every cut above 1 pairs gate with
up's scales: relative error 0.1 to 0.95, without a message. The unpatched library is right.

## Example
`moe_tp_degree: 2`, `moe_ep_degree: 4` at TP 8.

## How to mend
Deal whole experts out (`moe_tp_degree: 1`), or load without that patch.

## References
Rule R39 of docs/neuron.md: contrib modeling_minimax_m2.py 1457-1485.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.nxd_degrees import cut, pair_fix
from weighbridge.check.nxd_settings import READ_IN, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB710", "nxd-scale-stride", "warning", ("neuron",), READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    if not n.contrib or not n.blockwise or not n.tp or cut(n) <= 1 or not case.sizes.experts:
        return
    yield RULE.finding("with the contrib port's stride patch gate is read with up's scales", n.where("moe_tp_degree"),
                       evidence=f"experts are cut {cut(n)} ways",
                       consequence="no error with the patch: relative error 0.1 to 0.95; right without it", fix=pair_fix(n), runtime=target.runtime)
