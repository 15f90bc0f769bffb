"""`hf-bf16`: the published names with every linear layer in BF16; what was not quantized stays as it is."""

from __future__ import annotations

from weighbridge.encoding.scheme import plain
from weighbridge.errors import Problem
from weighbridge.layouts.hf_fp8 import published
from weighbridge.layouts.options import Options
from weighbridge.layouts.placement import Stored
from weighbridge.models.inventory import Inventory


def stored(inventory: Inventory, options: Options) -> list[Stored]:
    """One stored tensor per logical weight, under its published name."""
    return published(inventory, plain("BF16"))


def requires(inventory: Inventory, options: Options) -> list[Problem]:
    """Nothing: BF16 has no grid."""
    return []
