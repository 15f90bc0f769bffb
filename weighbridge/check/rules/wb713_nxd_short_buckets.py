"""WB713 nxd-short-buckets: a bucket of the context is too short for expert parallelism.

## What it does
Multiplies the tokens of the shortest context bucket by the experts per token and compares it with the kernel's block (512 unless set).

## Why it matters
Below it NxD takes other ways through the experts, neither of which is the one for expert parallelism.

## Example
A bucket of 32 tokens for MiniMax-M2 (8 experts per token): 256 < 512; 64 tokens are the least.

## How to mend
Use longer buckets.

## References
Rule R43 of docs/neuron.md: NxD modules/moe/expert_mlps_v2.py 1486-1497.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.nxd_settings import READ_IN, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB713", "nxd-short-buckets", "warning", ("neuron",), READ_IN)
BLOCK = 512


def find(case: Case, target: Target) -> Iterator[Finding]:
    n, top_k = nxd(case), case.sizes.top_k
    given = n.sizes("context_encoding_buckets")
    buckets = [b for b in given if b > 0] if given else [n.size("max_context_length")] if n.size("max_context_length") else []
    value = n.inner("blockwise_matmul_config").get("block_size")
    block = value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 20 else BLOCK
    if n.moe_ep <= 1 or not top_k or not case.sizes.experts or not buckets or min(buckets) * top_k >= block:
        return
    least = -(-block // top_k)
    key = "context_encoding_buckets" if given else "max_context_length"
    kept = [b for b in buckets if b >= least] or [least]
    yield RULE.finding(f"a context of {min(buckets)} tokens is too short for expert parallelism", n.where(key),
                       evidence=f"{min(buckets)} x {top_k} = {min(buckets) * top_k} < block {block}",
                       consequence="the experts take a way that knows no expert parallelism",
                       fix=Fix(f"buckets of {least} tokens or more", kept if given else least, (n.edit(key, kept if given else least),)),
                       runtime=target.runtime)
