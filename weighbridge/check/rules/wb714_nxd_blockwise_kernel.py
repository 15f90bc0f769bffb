"""WB714 nxd-blockwise-kernel: the settings of the experts' kernel exclude each other, or its sizes do not fit.

## What it does
Reads `blockwise_matmul_config` and `logical_nc_config`, and the hidden width that the kernel takes (512 to 8192, a multiple of 512).

## Why it matters
With two logical cores and no shard flag the kernel does not exist in this version; with both flags it asserts. Other widths and block sizes
fall back to slow torch code without a word.

## Example
`logical_nc_config: 2` without `use_shard_on_block_dynamic_while`.

## How to mend
Set one of the two shard flags.

## References
Rules R44 (NxD modules/moe/blockwise.py 697-717), R45 (1009-1015, 267-269), R46 (927) of docs/neuron.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.nxd_settings import READ_IN, Nxd, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB714", "nxd-blockwise-kernel", "error", ("neuron",), READ_IN)
BLOCK, INTER = "use_shard_on_block_dynamic_while", "use_shard_on_intermediate_dynamic_while"


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    if not case.sizes.experts or not n.stated:
        return
    config = n.inner("blockwise_matmul_config")
    if config.get("use_torch_block_wise") is True:
        return
    on_block, on_inter = config.get(BLOCK) is True, config.get(INTER) is True
    where = n.where("blockwise_matmul_config")
    if on_block and on_inter:
        yield _finding(target, "both shard flags are set", where, f"{BLOCK} and {INTER}", "AssertionError: shard_on_I_dynamic_while and …",
                       _fix(n, config, False))
    elif n.size("logical_nc_config") == 2 and not on_block and not on_inter:
        yield _finding(target, "two logical cores need a shard flag", where, f"logical_nc_config 2, neither {BLOCK} nor {INTER}",
                       "NotImplementedError: _call_shard_hidden_kernel is not available…", _fix(n, config, True))
    hidden, block = case.sizes.hidden, config.get("block_size")
    odd = f"hidden width {hidden}; the kernel takes 512 to 8192 in steps of 512" if hidden and (hidden % 512 or not 512 <= hidden <= 8192) else ""
    if isinstance(block, int) and not isinstance(block, bool) and not 128 <= block <= 1024:
        odd = f"block_size {block:.0f}; the kernel takes 128 to 1024" if abs(block) < 1 << 60 else "block_size out of all bounds"
    if odd:
        yield RULE.finding("the experts' kernel is not used for these sizes", where, evidence=odd, consequence="no error: slow torch code instead",
                           severity="note" if hidden < 512 else "warning", fix="nothing mends the width; block_size can be 512",
                           runtime=target.runtime)


def _fix(n: Nxd, config: dict[str, Any], block: bool) -> Fix:
    value = {**config, BLOCK: True, "block_sharding_strategy": "PING_PONG"} if block else {k: v for k, v in config.items() if k != INTER}
    return Fix(f"set {BLOCK} alone", value, (n.edit("blockwise_matmul_config", value),))


def _finding(target: Target, title: str, where: Any, evidence: str, consequence: str, fix: Fix) -> Finding:
    return RULE.finding(title, where, evidence=evidence, consequence=consequence, fix=fix, runtime=target.runtime)
