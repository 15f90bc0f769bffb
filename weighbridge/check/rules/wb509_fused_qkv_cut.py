"""WB509 fused-qkv-cut: tensor parallelism cuts a stored qkv weight between two scale blocks of a key/value group.

## What it does
Takes q/k/v weights that lie fused in the file with block scales, and divides their rows by the ranks.

## Why it matters
The rows of a rank begin inside a block, so the scales cannot be split with the weight.

## Example
MiMo-V2.5: 14848 rows in 8 groups of 1856 = 14.5 blocks. At TP 8 a rank has 1856 rows and 14 scale rows, which cover 1792.

## How to mend
Take a size that the finding lists.

## References
vllm-project/vllm#53242 (the text).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import cuts
from weighbridge.check.case import Case
from weighbridge.check.cut_find import READ_IN
from weighbridge.check.finding import Finding, Fix, Where
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB509", "fused-qkv-cut", "error", ("vllm", "sglang"), READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    tp = cuts.degrees(case.settings, target).attention
    rows = {p.rows: p for p in cuts.parts(case) if p.role == "attention.qkv" and p.quantized and p.block and p.block[0] > 1}
    bad = {n: p for n, p in rows.items() if n % tp == 0 and (n // tp) % p.block[0]}  # type: ignore[index]
    if tp <= 1 or not bad:
        return
    part = next(iter(bad.values()))
    assert part.block
    share = part.rows // tp
    good = [n for n in range(1, cuts.LARGEST + 1) if cuts.heads_fit(case.sizes, n)
            and all(r % n == 0 and (r // n) % part.block[0] == 0 for r in rows)]
    yield RULE.finding(f"fused qkv cannot be cut {tp} ways: {part.rows}/{tp} = {share} rows, and the block is {part.block[0]}",
                       Where(module=part.name, count=part.count), evidence=f"{share} rows are {share / part.block[0]:.2f} blocks",
                       consequence=f"The size of tensor a ({share}) must match the size of tensor b ({share // part.block[0] * part.block[0]})",
                       fix=Fix(f"TP {cuts.listed(good)}", {"tp": good}), runtime=target.runtime)
