"""WB722 nxd-rank-files: the per-rank files do not belong to these degrees.

## What it does
Counts `weights/tp{rank}_sharded_checkpoint.safetensors` and compares them with `tp_degree`; looks at `skip_sharding`.

## Why it matters
Shards are tied to the degrees they were cut for, and nothing in the file says them. Without `skip_sharding` compile() cuts them again from a
checkpoint that is not there.

## Example
8 rank files and `tp_degree: 16`.

## How to mend
Take the degrees that the shards were cut for, or cut them again: `weighbridge convert SRC DST --to neuron --shards --tp N`.

## References
docs/neuron.md; NxDI models/application_base.py 241-265, 387-406.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix, Where
from weighbridge.check.nxd_settings import READ_IN, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB722", "nxd-rank-files", "error", ("neuron",), READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    n, ranks = nxd(case), case.checkpoint.ranks
    if not ranks or not n.stated:
        return
    wanted = n.tp * (n.size("pp_degree") or 1)
    local = n.size("local_ranks_size")
    if wanted and not local and ranks != list(range(wanted)):
        missing = [r for r in range(wanted) if r not in ranks]
        yield RULE.finding(f"{len(ranks)} rank files for TP {wanted}", Where(file="weights/", key="tp_degree"),
                           evidence=f"ranks {ranks[0]} to {ranks[-1]}" + (f", {len(missing)} are not here, the first is {missing[0]}" if missing
                                                                          else ""),
                           consequence="the load ends at the first rank without a file; with another number of ranks the shapes do not fit",
                           fix=Fix(f"tp_degree {len(ranks)}, or cut again: weighbridge convert SRC DST --to neuron --shards --tp {wanted}"),
                           runtime=target.runtime)
    if n.flag("skip_sharding") is not True:
        yield RULE.finding("compile() cuts the shards again", n.where("skip_sharding"),
                           evidence=f"{len(ranks)} rank files, skip_sharding is not true",
                           consequence="the files are written over, from a checkpoint that is not there", severity="warning",
                           fix=Fix("set skip_sharding", True, (n.edit("skip_sharding", True), n.edit("save_sharded_checkpoint", True))),
                           runtime=target.runtime)
