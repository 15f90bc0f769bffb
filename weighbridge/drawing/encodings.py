"""How a leaf's values are held, as one dictionary for pictures and tables; and its shape in values."""

from __future__ import annotations

from math import prod
from typing import Any

from weighbridge.checkpoint.dtypes import BITS
from weighbridge.drawing.collect import Leaf
from weighbridge.encoding.kinds import kind_of

CODE_WORDS = {"fp4": "FP4", "int4": "4-bit", "int8": "8-bit"}


def codes_each(leaf: Leaf) -> int:
    """Values that one stored element holds."""
    stored = prod(leaf.shape)
    return max(1, leaf.kind.parameters // stored) if stored and leaf.what == "weight" else 1


def encoding(leaf: Leaf, helpers: tuple[str, ...] = ()) -> dict[str, Any]:
    """`helpers` are the other tensors that belong to the weight (zero points, global scales)."""
    kind, codes = leaf.kind, codes_each(leaf)
    name = kind_of(leaf.dtype, kind.quantized, codes)
    words = [f"{leaf.dtype} of {CODE_WORDS[name]} codes" if codes > 1 and name in CODE_WORDS else leaf.dtype]
    if kind.strategy == "block" and kind.block:
        words.append("block " + "x".join(map(str, kind.block)))
    elif kind.strategy == "group" and kind.block:
        words.append(f"group {max(kind.block)}")
    elif kind.strategy != "none":
        words.append({"tensor": "one scale", "channel": "per channel"}.get(kind.strategy, kind.strategy))
    if leaf.scale_dtype:
        words.append(f"{leaf.scale_dtype} scale{'' if kind.strategy == 'tensor' else 's'}")
    elif kind.quantized:
        words.append("no scale")
    return {"dtype": leaf.dtype, "bits": BITS[leaf.dtype] // codes, "strategy": kind.strategy, "block": list(kind.block) if kind.block else None,
            "scale_dtype": leaf.scale_dtype or None, "scale_suffix": leaf.scale_suffix or None, "kind": name,
            "text": ", ".join([*words, *helpers])}


def shape_in_values(leaf: Leaf) -> list[int]:
    """The stored shape with packed codes counted one by one, in the stored order of axes (AWQ and GPTQ store [in, out])."""
    shape, codes = list(leaf.shape), codes_each(leaf)
    if leaf.suffix == "_blocks" and len(shape) >= 2:
        return [*shape[:-2], shape[-2] * shape[-1] * codes]
    if codes == 1 or not shape:
        return shape
    if leaf.suffix == ".qweight" and len(shape) == 2 and leaf.scale_shape and leaf.scale_shape[-1] != shape[1] * codes:
        return [shape[0] * codes, shape[1]]  # GPTQ packs along the inputs
    return [*shape[:-1], shape[-1] * codes]
