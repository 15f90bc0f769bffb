"""WB716 nxd-fused-qkv-names: with `fused_qkv` the port fuses q, k and v itself, and does not find them under these names.

## What it does
Looks for `self_attn.qkv_proj.…` and `Wqkv` names in the files of a run with `fused_qkv: true`.

## Why it matters
The contrib port reads `self_attn.q_proj`, `k_proj` and `v_proj` whatever the files hold.

## Example
Files in the names of the traced model: `layers.0.self_attn.qkv_proj.q_proj.weight`.

## How to mend
Keep the published attention names in the files (as `weighbridge convert --to neuron` writes them), or set `fused_qkv: false`.

## References
docs/neuron.md; contrib modeling_minimax_m2.py 113-144.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix, Where
from weighbridge.check.nxd_settings import READ_IN, nxd, shown
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB716", "nxd-fused-qkv-names", "error", ("neuron",), READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    if not n.contrib or n.flag("fused_qkv") is not True or case.checkpoint.ranks:
        return
    fused = [s for s in n.stored if ".self_attn.qkv_proj" in s.name or ".self_attn.Wqkv" in s.name]
    if fused:
        yield RULE.finding("fused_qkv reads q_proj, k_proj and v_proj, and the files hold other names", Where(tensor=shown([s.name for s in fused]),
                                                                                                          count=sum(s.count for s in fused)),
                           evidence=f"fused_qkv true, {fused[0].name}", consequence="KeyError: 'layers.0.self_attn.q_proj.weight'",
                           fix=Fix("set fused_qkv to false", False, (n.edit("fused_qkv", False),)), runtime=target.runtime)
