"""WB712 nxd-batch: the batch is too small for expert parallelism in token generation.

## What it does
Multiplies the batch of token generation by the experts per token and compares it with the number of experts.

## Why it matters
Below it NxD loads only the chosen experts, and that way does not exist for expert parallelism: the compilation ends.

## Example
MiniMax-M2 chooses 8 of 256 experts: 32 sequences at least.

## How to mend
Use the batch that the finding says, or cut the experts by width instead (`moe_ep_degree: 1`).

## References
Rule R42 of docs/neuron.md: NxD modules/moe/expert_mlps_v2.py 1470-1481, model_utils.py 93; contrib MiniMax-M2 README.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.nxd_settings import READ_IN, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB712", "nxd-batch", "error", ("neuron",), READ_IN)
TEXT = "NotImplementedError: Selective Loading with Expert parallelism is not supported in token generation."


def find(case: Case, target: Target) -> Iterator[Finding]:
    n, sizes = nxd(case), case.sizes
    if n.moe_ep <= 1 or not n.batch or not sizes.experts or not sizes.top_k or n.batch * sizes.top_k >= sizes.experts:
        return
    least = -(-sizes.experts // sizes.top_k)
    key = next((k for k in ("tkg_batch_size", "batch_size") if n.size(k)), "batch_size")
    yield RULE.finding(f"batch {n.batch} is too small for expert parallelism", n.where(key),
                       evidence=f"{n.batch} x {sizes.top_k} experts per token = {n.batch * sizes.top_k} < {sizes.experts} experts", consequence=TEXT,
                       fix=Fix(f"use batch {least} or more", least,
                               tuple(n.edit(k, least) for k in ("batch_size", "tkg_batch_size") if n.size(k)) or (n.edit("batch_size", least),)),
                       runtime=target.runtime)
