"""WB709 nxd-expert-width: the experts' width is cut through a scale block.

## What it does
Divides the experts' intermediate width by the ranks that cut it (`moe_tp_degree`; TP where `moe_ep_degree` is 1) and compares the share with
the block along that axis.

## Why it matters
NxD divides by floor division and checks nothing: rank t simply takes scale block t, relative error about 0.5, without a message. The contrib
port spreads scales for shares below one block, and its own asserts stop there. An odd number of scale blocks on a rank stops the unpatched library.

## Example
MiniMax-M2 with `moe_tp_degree: 64`: 24 rows for each rank. The text collapses after some 30 tokens where it runs at all.

## How to mend
Take a pair that the finding lists; `moe_tp_degree: 1` is right with and without the contrib port's patches.

## References
Rules R19, R20 (contrib modeling_minimax_m2.py 681-718), R28, R38 (NxD trace/trace.py 679) and R40 of docs/neuron.md; contrib MiniMax-M2 README.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.nxd_degrees import cut, pair_fix
from weighbridge.check.nxd_settings import READ_IN, Nxd, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB709", "nxd-expert-width", "error", ("neuron",), READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    width, ways = n.sizes_of_model["inter"], cut(n) if n.tp else 1
    if not width or ways <= 1:
        return
    block = n.expert_block
    if width % ways:
        said, consequence = f"{width}/{ways} is not whole", f"AssertionError: {width} is not divisible by {ways}"
    elif n.blockwise and block > 1 and (width // ways) % block:
        said, consequence = f"{width}/{ways} = {width // ways} rows for each rank, the block is {block}", _consequence(n, width, ways, block)
    else:
        return
    key = "moe_tp_degree" if n.moe_ep > 1 else "tp_degree"
    yield RULE.finding(f"the experts' width cannot be cut {ways} ways", n.where(key), evidence=said, consequence=consequence, fix=pair_fix(n),
                       runtime=target.runtime)


def _consequence(n: Nxd, width: int, ways: int, block: int) -> str:
    silent = "no error: rank t takes scale block t, relative error about 0.5"
    share, blocks = width // ways, width // block
    if 2 * blocks % ways == 0 and (2 * blocks // ways) % 2:  # gate and up are cut apart, each needs its half of the scale blocks
        odd = f"AssertionError: {2 * blocks // ways} is not divisible by 2"
        silent = f"{odd}; with the contrib port's stride patch {silent}" if n.contrib else odd
    if not n.contrib or share >= block:
        return silent
    rows = blocks * (block // share)
    if rows != ways:
        return f"AssertionError: down_proj.scale expansion produced {rows} rows, expected moe_tp={ways}; without the contrib port: {silent}"
    if ways % 2:
        return f"AssertionError: moe_tp={ways} must be even"
    return f"AssertionError: ranks_per_half={ways // 2} …" if (ways // 2) % blocks else silent
