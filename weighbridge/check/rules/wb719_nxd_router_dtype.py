"""WB719 nxd-router-dtype: the router and its bias become BF16 on the device.

## What it does
Finds float32 router weights and biases, and reads `cast_type`.

## Why it matters
With `cast_type: config` (the default) everything floating is cast, the router too. Bias values of MiniMax-M2 are 8 to 9.5, where a step of
BF16 is 1/16, and scores run from 0 to 1: other experts are chosen than the publisher's code chooses. With `as-declared` the gate stays float32,
the bias does not, and norms and head become float32 too.

## Example
`block_sparse_moe.e_score_correction_bias` F32 [256].

## How to mend
No file can mend it. Compare the experts that are chosen with a reference before you blame the weights.

## References
docs/neuron.md; contrib modeling_minimax_m2.py 277, NxDI models/model_wrapper.py 1452-1526.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.nxd_settings import READ_IN, nxd, shown
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB719", "nxd-router-dtype", "note", ("neuron",), READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    kept = n.text("cast_type") == "as-declared"
    routers = [s for s in n.stored if s.dtype == "F32" and (s.role == "router.bias" or (s.role == "router" and not kept))]
    if routers and n.contrib and not case.checkpoint.ranks:
        yield RULE.finding("the router's float32 becomes BF16 at load",
                           Where(tensor=shown([s.name for s in routers]), count=sum(s.count for s in routers)),
                           evidence=f"F32 in the files, cast_type {n.text('cast_type') or 'config'}",
                           consequence="no error: near ties choose other experts",
                           fix="no file can mend it: compare the chosen experts with a reference", runtime=target.runtime)
