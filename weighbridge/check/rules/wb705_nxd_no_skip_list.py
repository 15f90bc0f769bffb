"""WB705 nxd-no-skip-list: a quantized run that does not say which modules stay unquantized.

## What it does
Looks for `modules_to_not_convert` beside `quantized: true`, and says the list that these files need.

## Why it matters
Without a list every module is built quantized, `lm_head` too. With a qkv kernel the configuration is refused; without one the load ends, tens
of minutes later, at the first weight that has no scale.

## Example
`quantized: true` and FP8 files with a BF16 `lm_head`.

## How to mend
Paste the list of the finding. It is matched by any part of the path's text, so `gate` would hit `gate_up_proj`.

## References
Rule R3 (NxDI models/config.py 553-562), R41 (NxD quantization_layers.py 443); matching: NxD quantization/quantize.py 122.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.nxd_settings import READ_IN, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB705", "nxd-no-skip-list", "warning", ("neuron",), READ_IN)
ASSERT = "Could not find modules_to_not_convert for quantized model."
WARNING = "Assuming all modules will be quantized"


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    if not n.quantized or isinstance(n.values.get("modules_to_not_convert"), list):
        return
    modules = {s.module: s.fp8 for s in n.stored if s.role.startswith(("attention.", "experts.", "mlp.", "shared_experts.", "lm_head"))
               and len(s.shape) > 1}
    plain = [module for module, fp8 in modules.items() if not fp8]
    kernel = next((key for key in ("qkv_kernel_enabled", "qkv_nki_kernel_enabled") if n.flag(key)), "")
    if not plain and not kernel:
        return
    right = n.right_list()
    yield RULE.finding("no list says which modules stay unquantized", n.where("modules_to_not_convert"),
                       evidence=f"{len(plain)} kinds of modules have no FP8 weight: {', '.join(plain[:3])}",
                       consequence=f"AssertionError: {ASSERT}" if kernel
                       else f"warning {WARNING!r}, then RuntimeError: Cannot find {plain[0]}.scale in state_dict",
                       severity="error", fix=Fix("give the list", right, (n.edit("modules_to_not_convert", right),)), runtime=target.runtime)
