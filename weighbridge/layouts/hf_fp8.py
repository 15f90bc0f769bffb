"""`hf-fp8`: as the makers publish it, linear layers in FP8 with one `weight_scale_inv` per block.

The scale is a multiplier in spite of its name (DeepSeek-V3 README_WEIGHTS, "Dequantization Formula");
its grid is the shape divided by `weight_block_size`, rounded up, and ragged last blocks are cut.
"""

from __future__ import annotations

from weighbridge.encoding.scheme import Encoding
from weighbridge.errors import Problem
from weighbridge.layouts.options import Options
from weighbridge.layouts.placement import Stored, whole
from weighbridge.models.inventory import Inventory, Weight

SCALE_SUFFIX = ".weight_scale_inv"


def stored(inventory: Inventory, options: Options) -> list[Stored]:
    """One stored tensor per logical weight, under its published name."""
    encoding = Encoding("F8_E4M3", options.block, options.scale_dtype or "F32")
    return published(inventory, encoding)


def requires(inventory: Inventory, options: Options) -> list[Problem]:
    """Nothing: every shape has a block grid."""
    return []


def published(inventory: Inventory, linear: Encoding) -> list[Stored]:
    """Published names, with `linear` for linear layers and the source's own encoding for the rest."""
    files = 1 + inventory.sizes["layers"]
    return [_one(weight, linear, files) for weight in inventory.weights.values()]


def _one(weight: Weight, linear: Encoding, files: int) -> Stored:
    stem, suffix = (weight.published[:-7], ".weight") if weight.published.endswith(".weight") else (weight.published, "")
    number = int(weight.name.split(".", 2)[1]) + 2 if weight.name.startswith("layers.") else 1
    file = f"model-{number:05d}-of-{files:05d}.safetensors"
    return Stored(stem, suffix, SCALE_SUFFIX, file, whole(weight), linear if weight.linear else None)
