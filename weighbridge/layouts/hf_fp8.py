"""`hf-fp8`: as the makers publish it, linear layers in FP8 with one `weight_scale_inv` per block.

The scale is a multiplier in spite of its name (DeepSeek-V3 README_WEIGHTS, "Dequantization Formula");
its grid is the shape divided by `weight_block_size`, rounded up, and ragged last blocks are cut.
"""

from __future__ import annotations

from weighbridge.encoding.scheme import Encoding
from weighbridge.errors import Problem
from weighbridge.layouts import published as forms
from weighbridge.layouts.options import Options
from weighbridge.layouts.placement import Stored
from weighbridge.models.inventory import Inventory

SCALE_SUFFIX = ".weight_scale_inv"


def stored(inventory: Inventory, options: Options) -> list[Stored]:
    """One stored tensor per logical weight, under its published name."""
    encoding = Encoding("F8_E4M3", options.block, options.scale_dtype or "F32")
    return published(inventory, encoding)


def requires(inventory: Inventory, options: Options) -> list[Problem]:
    """Nothing: every shape has a block grid."""
    return []


def published(inventory: Inventory, linear: Encoding) -> list[Stored]:
    """Published names and forms, with `linear` for linear layers and the source's own encoding for the rest."""
    files = 1 + inventory.sizes["layers"]
    return [_one(candidate, inventory, linear, files) for candidate in forms.published(inventory)]


def _one(candidate: forms.Candidate, inventory: Inventory, linear: Encoding, files: int) -> Stored:
    first = inventory[candidate.placement.parts[0].weight]
    number = forms.layer_of(first.name) + 2 if first.name.startswith("layers.") else 1
    file = f"model-{number:05d}-of-{files:05d}.safetensors"
    return Stored(candidate.stem, candidate.suffix, SCALE_SUFFIX, file, candidate.placement, linear if first.linear else None)
