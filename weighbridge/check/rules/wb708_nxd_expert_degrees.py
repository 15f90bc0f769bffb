"""WB708 nxd-expert-degrees: the experts' degrees do not fit TP or the number of experts.

## What it does
Compares `moe_tp_degree` x `moe_ep_degree` with `tp_degree`, and the number of experts with `moe_ep_degree`; looks at the outer `ep_degree`.

## Why it matters
A product that does not divide TP is refused. A product smaller than TP passes, and the output is added up over all ranks, so experts count
several times. With `moe_ep_degree` 1 the setting `moe_tp_degree` is ignored: experts are cut TP ways. An outer
`ep_degree` above 1 multiplies the ranks.

## Example
TP 64 with 1 x 32: every expert counts twice, without a message.

## How to mend
Take a pair that the finding lists: at TP 64 for MiniMax-M2 1 x 64, and others without the contrib port's patches.

## References
Rules R12 (NxDI models/config.py 382-384), R28 (NxD parallel_layers/utils.py 91-100), R31 (parallel_state.py 582-589), R32 (modules/moe/model.py
242-245), R33 (NxDI modules/moe_v2.py 155-159), R34 (expert_mlps_v2.py 121-138) of docs/neuron.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.nxd_degrees import pair_fix
from weighbridge.check.nxd_settings import READ_IN, Nxd, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB708", "nxd-expert-degrees", "error", ("neuron",), READ_IN)
IGNORED = "no error: experts are cut TP ways"
SPLIT = "RuntimeError: split_size can only be 0 …"


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    if not n.tp:
        return
    if n.size("ep_degree") > 1:
        yield RULE.finding(f"ep_degree {n.size('ep_degree')} multiplies the ranks", n.where("ep_degree"),
                           evidence=f"world size = TP {n.tp} x EP {n.size('ep_degree')}; experts are dealt out by moe_ep_degree",
                           consequence="no error: so many times the ranks and shards", fix=Fix("set ep_degree to 1", 1, (n.edit("ep_degree", 1),)),
                           runtime=target.runtime)
    if not case.sizes.experts or not (n.quantized or n.values.get("moe_tp_degree") or n.values.get("moe_ep_degree") or case.settings.moe_ep):
        return
    for title, key, evidence, consequence in _faults(n, case.sizes.experts):
        yield RULE.finding(title, n.where(key), evidence=evidence, consequence=consequence, fix=pair_fix(n),
                           severity="warning" if consequence == IGNORED else "error", runtime=target.runtime)
    if n.moe_ep > 1 and n.flag("parallelize_token_to_block_mapping") is False:
        yield RULE.finding("expert parallelism needs the token-to-block mapping", n.where("parallelize_token_to_block_mapping"),
                           evidence=f"moe_ep_degree {n.moe_ep}",
                           consequence="AttributeError: spmd_rank",
                           fix=Fix("leave it at its default, true", True, (n.edit("parallelize_token_to_block_mapping", True),)),
                           runtime=target.runtime)


def _faults(n: Nxd, experts: int) -> Iterator[tuple[str, str, str, str]]:
    tp, mt, me = n.tp, n.moe_tp, n.moe_ep
    shown = f"moe_tp_degree {mt} x moe_ep_degree {me} = {mt * me}, tp_degree {tp}"
    if me == 1 and mt != tp:
        # The port spreads scales by moe_tp_degree and so fails; elsewhere the setting is only without effect.
        spread = n.contrib and n.blockwise
        if spread or n.size("moe_tp_degree") or n.case.settings.moe_tp:
            yield (f"moe_ep_degree 1 ignores moe_tp_degree {mt}: experts are cut {tp} ways", "moe_tp_degree", shown,
                   f"{SPLIT} with the default 1; else no error" if spread else IGNORED)
    elif tp % (mt * me):
        yield "the experts' degrees do not divide TP", "moe_ep_degree", shown, "RuntimeError: invalid implied expert data parallel degree"
    elif mt * me < tp:
        yield (f"experts are counted {tp // (mt * me)} times", "moe_ep_degree", shown,
               f"no error: the output is added up over all ranks, and every expert counts {tp // (mt * me)} times")
    if experts % me:
        yield (f"{experts} experts are not divisible by moe_ep_degree {me}", "moe_ep_degree", f"{experts} % {me} = {experts % me}",
               f"AssertionError: {experts} is not divisible by {me}")
