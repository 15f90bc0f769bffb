"""WB711 nxd-one-expert-per-rank: with the contrib port's patch a rank must hold two experts or more.

## What it does
Compares `moe_ep_degree` with the number of experts.

## Why it matters
The contrib port's expert-parallel patch takes a scale whose first axis is 1 for a scale without experts and does not cut it.

## Example
8 experts at `moe_ep_degree: 8`.

## How to mend
Take a smaller `moe_ep_degree`, or load without that patch.

## References
Rule R37 of docs/neuron.md: contrib modeling_minimax_m2.py 1442.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.nxd_degrees import pair_fix
from weighbridge.check.nxd_settings import READ_IN, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB711", "nxd-one-expert-per-rank", "warning", ("neuron",), READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    if n.contrib and n.blockwise and n.moe_ep > 1 and n.moe_ep == case.sizes.experts:
        yield RULE.finding("one expert on each rank fails with the contrib port's expert-parallel patch", n.where("moe_ep_degree"),
                           evidence=f"{case.sizes.experts} experts, moe_ep_degree {n.moe_ep}",
                           consequence=f"RuntimeError: expected shape [1,…] but found [{case.sizes.experts},…]; right without the patch",
                           fix=pair_fix(n),
                           runtime=target.runtime)
