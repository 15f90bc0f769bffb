"""The family of everything else: weights as the files have them, each stored tensor for itself, and what cannot be known said in words.

Names, shapes and orders are those of the files, so nothing is joined, cut, turned or renamed. A stack of quantized matrices (experts) is one
logical matrix for each, because its format has a grid for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from weighbridge.models.inventory import Collector, Inventory, PublishedForm, Weight
from weighbridge.models.roles import layer_of, role_of
from weighbridge.models.sizes import LAYERS, stated_sizes

# name of the weight without quantization -> (its shape in values, whether its format holds matrices: it is quantized).
Tensors = Mapping[str, tuple[tuple[int, ...], bool]]
# By these roles a two-dimensional weight is the matrix of a linear layer that readers quantize.
LINEAR = ("attention", "mlp", "experts", "shared_experts")
PROJECTION = re.compile(r"proj|linear|dense|fc\d|^w\d|^wq|^wk|^wv|^wo|^(query|key|value)$|qkv")
UNKNOWN = (
    "which weights a reader fuses (q, k and v; gate and up): scales that must be equal over fused partners are not made equal",
    "along which axis a weight may be cut for tensor parallelism, and into how many parts",
    "which weights are due: one that is missing is not missed",
)
STACKS = "the order of the axes of {count} stacks, {example} for one: they stay as they are, and are not quantized"


def generic(config: Mapping[str, Any], tensors: Tensors) -> Inventory:
    """The inventory of a model of which nothing but its headers is known.

    `tensors`: scales and other helpers are not in it, and packed weights have the shape of their values.
    """
    weights, forms = as_stored(tensors)
    sizes = stated_sizes(config)
    last = max((layer_of(name) for name in tensors), default=-1)
    sizes["layers"] = sizes["layers"] or min(last + 1, LAYERS)
    return Inventory(str(config.get("model_type") or "unknown"), sizes, weights, forms=forms, unknown=(*UNKNOWN, *_stacks(tensors)))


def as_stored(tensors: Tensors, names: Iterable[str] | None = None) -> tuple[dict[str, Weight], tuple[PublishedForm, ...]]:
    """Each tensor of `names` (all, if none are given) as a logical weight of the same name; a quantized stack as one for each slice."""
    into = Collector()
    for name in tensors if names is None else names:
        shape, matrices = tensors[name]
        module, _, leaf = name.rpartition(".")
        role = role_of(module, leaf)
        if len(shape) == 3 and matrices:
            slices = [(f"{name}.{number}",) for number in range(shape[0])]
            for (member,) in slices:
                into.weights[member] = Weight(member, "", (shape[1], shape[2]), ("rows", "columns"), role, True, False)
            stem, suffix = (module, ".weight") if leaf == "weight" else (name, "")
            into.form(stem, suffix, slices, role, stacked=True)
        else:
            into.weights[name] = _weight(name, shape, role, matrices or _is_projection(module, leaf, role, shape))
    return into.weights, tuple(into.forms)


def with_towers(inventory: Inventory, tensors: Tensors) -> Inventory:
    """The inventory of a known family, and what it calls foreign (towers) as the files have it: then every tensor of the files has its weight."""
    names = [name for name in tensors if inventory.foreign and name.startswith(inventory.foreign)]
    if not names:
        return inventory
    weights, forms = as_stored(tensors, names)
    return Inventory(inventory.model_type, inventory.sizes, {**inventory.weights, **weights}, inventory.promised, inventory.optional, (),
                     (*inventory.forms, *forms), inventory.unknown)


def _weight(name: str, shape: tuple[int, ...], role: str, linear: bool) -> Weight:
    """Two axes are [out, in]; one is a vector; other shapes are kept beside rows of the first axis."""
    if len(shape) == 1:
        return Weight(name, name, (1, shape[0]), ("elements",), role, False, True)
    if len(shape) == 2:
        return Weight(name, name, (shape[0], shape[1]), ("rows", "columns"), role, linear, False)
    rows = shape[0] if shape else 1
    return Weight(name, name, (rows, prod(shape[1:])), ("rows", "elements"), role, False, False, tuple(shape))


def _is_projection(module: str, leaf: str, role: str, shape: tuple[int, ...]) -> bool:
    """By the usual names; embeddings, heads, norms, routers and convolutions are none, and neither is what cannot be told."""
    if len(shape) != 2 or role.partition(".")[0] not in (*LINEAR, "other", "vision", "audio"):
        return False
    last = module.rpartition(".")[2] if leaf in ("weight", "bias") else leaf
    if leaf == "bias" or "norm" in last or "emb" in last:
        return False
    return role.partition(".")[0] in LINEAR and role != "attention.sinks" or PROJECTION.search(last) is not None


def _stacks(tensors: Tensors) -> list[str]:
    plain = [name for name, (shape, matrices) in tensors.items() if len(shape) == 3 and not matrices and "conv" not in name]
    return [STACKS.format(count=len(plain), example=plain[0])] if plain else []
