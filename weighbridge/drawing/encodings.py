"""How a leaf's values are held, as one dictionary for pictures and tables; and its shape in values."""

from __future__ import annotations

from typing import Any

from weighbridge.checkpoint.dtypes import BITS
from weighbridge.drawing.collect import Leaf
from weighbridge.formats.kinds import code_words


def encoding(leaf: Leaf, helpers: tuple[str, ...] = ()) -> dict[str, Any]:
    """`helpers` are the other tensors that belong to the weight (zero points, global scales)."""
    kind = leaf.kind
    packed = code_words(kind.encoding) if kind.encoding is not None else ""
    words = [f"{leaf.dtype} of {packed} codes" if packed else leaf.dtype]
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
    bits = kind.encoding.code.packing.width if kind.packed and kind.encoding is not None else BITS[leaf.dtype]
    return {"dtype": leaf.dtype, "bits": bits, "strategy": kind.strategy, "block": list(kind.block) if kind.block else None, "scheme": kind.scheme or None,
            "scale_dtype": leaf.scale_dtype or None, "scale_suffix": leaf.scale_suffix or None, "kind": kind.word(leaf.dtype),
            "text": ", ".join([*words, *helpers])}


def shape_in_values(leaf: Leaf) -> list[int]:
    """The stored shape with packed codes counted one by one, in the stored order of axes (AWQ and GPTQ store [in, out])."""
    return list(leaf.kind.shape if leaf.what == "weight" and leaf.kind.packed else leaf.shape)
