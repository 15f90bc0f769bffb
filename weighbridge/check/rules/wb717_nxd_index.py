"""WB717 nxd-index: the loader reads an index, or ignores it, other than these files need.

## What it does
Looks whether `model.safetensors.index.json` is there, and whether a `model.safetensors` lies beside it.

## Why it matters
The contrib port of MiniMax-M2 converts names and stacks experts only for checkpoints with an index: a single file is loaded plainly, without any
conversion. The library's own loader takes a single `model.safetensors` before the index, whatever it holds.

## Example
A small model in one file; an old `model.safetensors` beside 62 shards.

## How to mend
Write an index, also for one file (`--fix` does; `weighbridge convert --to neuron` always writes it). Move the stray file away.

## References
contrib modeling_minimax_m2.py 1615-1676; NxDI modules/checkpoint.py 49-56.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.index import INDEX, index_fix
from weighbridge.check.nxd_settings import READ_IN, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB717", "nxd-index", "error", ("neuron",), READ_IN)
SINGLE = "model.safetensors"


def find(case: Case, target: Target) -> Iterator[Finding]:
    n, files = nxd(case), case.checkpoint.files
    if case.checkpoint.ranks or not case.checkpoint.tensors:
        return
    if INDEX not in files:
        if n.contrib:
            yield RULE.finding("without an index the contrib port converts nothing", Where(file=INDEX),
                               evidence=f"{len(case.checkpoint.headers)} weight files, no index",
                               consequence="no conversion: names stay as they are, and every weight is dropped as a redundant key",
                               fix=index_fix(case),
                               runtime=target.runtime)
    elif SINGLE in files and any(file != SINGLE for file in case.checkpoint.headers):
        yield RULE.finding(f"{SINGLE} beside an index is taken instead of the shards", Where(file=SINGLE),
                           evidence=f"{len(case.checkpoint.headers)} files in the index",
                           consequence="the library's loader reads that file alone" + ("; the contrib port reads the index" if n.contrib else ""),
                           severity="warning" if n.contrib else "error", fix=f"move {SINGLE} away", runtime=target.runtime)
