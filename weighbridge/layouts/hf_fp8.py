"""`hf-fp8`: as the makers publish it, linear layers in FP8 with one `weight_scale_inv` per block.

The scale is a multiplier in spite of its name (DeepSeek-V3 README_WEIGHTS, "Dequantization Formula");
its grid is the shape divided by `weight_block_size`, rounded up, and ragged last blocks are cut.
"""

from __future__ import annotations

from weighbridge.encoding.scheme import Encoding
from weighbridge.errors import Problem
from weighbridge.layouts import published as forms
from weighbridge.layouts.options import Options
from weighbridge.layouts.placement import Placement, Stored, whole
from weighbridge.models.inventory import Inventory, Weight
from weighbridge.models.roles import layer_of

SCALE_SUFFIX = ".weight_scale_inv"
STACK_SUFFIX = "_scale_inv"  # of a stack of experts, whose name has no `.weight` (transformers 5.24 `integrations/finegrained_fp8.py`)


def stored(inventory: Inventory, options: Options) -> list[Stored]:
    """One stored tensor per logical weight, under its published name."""
    encoding = Encoding("F8_E4M3", options.block, options.scale_dtype or "F32")
    return published(inventory, encoding)


def requires(inventory: Inventory, options: Options) -> list[Problem]:
    """A weight that lies in one tensor with others must begin at a border of blocks: the stored grid is one for all of them."""
    rows, cols = options.block
    linear = [form for form in forms.of_makers(inventory) if inventory[form.slices[0][0]].linear]
    cut = [(form, part) for form in linear for part in forms.placement(inventory, form).parts if part.at_row % rows or part.at_col % cols]
    if not cut:
        return []
    (first, part), tensors = cut[0], len({form.name for form, _ in cut})
    axis, at, block = ("row", part.at_row, rows) if part.at_row % rows else ("column", part.at_col, cols)
    return [Problem("joined-grid", f"{tensors} tensors hold several weights, and a block would lie over two of them: {part.weight} begins at {axis} {at}, "
                    f"a block has {block}", first.name, "name a block that divides it with --block, or convert to hf-bf16")]


def published(inventory: Inventory, linear: Encoding) -> list[Stored]:
    """Published names and forms, with `linear` for linear layers and the source's own encoding for the rest."""
    files = 1 + inventory.sizes["layers"]
    own = [_one(*forms.split(w.published), whole(w), w, linear, files) for w in inventory.weights.values() if w.published]
    return own + [_one(form.stem, form.suffix, forms.placement(inventory, form), inventory[form.slices[0][0]], linear, files)
                  for form in forms.of_makers(inventory)]


def _one(stem: str, suffix: str, placement: Placement, first: Weight, linear: Encoding, files: int) -> Stored:
    """`first` is the weight, or the first of those that lie in the tensor."""
    layer = layer_of(first.name)
    file = f"model-{layer + 2 if 0 <= layer < files - 1 else 1:05d}-of-{files:05d}.safetensors"
    return Stored(stem, suffix, SCALE_SUFFIX if suffix else STACK_SUFFIX, file, placement, linear if first.linear else None)
