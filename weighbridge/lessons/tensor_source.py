"""Which stored tensor a name stands for, which scale goes with it, and who says what block they share. Headers only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.header import Tensor
from weighbridge.errors import WeighbridgeError
from weighbridge.formats.claim import Claims, read_claims
from weighbridge.inspection.encodings import HELPERS, SCALE_WORDS, SCALES, Kind, read_kind
from weighbridge.inspection.roles import role_of

if TYPE_CHECKING:
    from weighbridge.layouts.placement import Part
    from weighbridge.plan.bind import Source

SECOND = {"weight_scale_2": "x", "weight_global_scale": "/"}  # ModelOpt multiplies, compressed-tensors divides (NVFP4)
ENDINGS = tuple(dict.fromkeys([*(s for scales in SCALES.values() for s in scales), *(s for s in SCALES if s)]))
NEAR = 5  # names that an unknown one is told


class Found(NamedTuple):
    """One stored weight with its scale. `corner` is (matrix, row, column), in the stored axes, of what the name stands for."""

    key: str
    weight: Tensor
    suffix: str
    scale: Tensor | None
    scale_suffix: str
    second: Tensor | None
    kind: Kind
    claims: Claims
    neuron: bool
    says: str
    corner: tuple[int, int, int] = (0, 0, 0)
    also: tuple[str, ...] = ()
    way: str = ""

    @property
    def packing(self) -> str:
        """`pairs` of 4 bit codes in a byte, `words` of packed integers, or nothing."""
        each = self.kind.parameters // max(1, prod(self.weight.shape))
        return "words" if self.weight.dtype == "I32" and each > 1 else "pairs" if each == 2 else ""

    @property
    def role(self) -> str:
        module, _, leaf = (self.key[: len(self.key) - len(self.suffix)] if self.suffix else self.key).rpartition(".")
        return role_of(f"{module}.{leaf}" if self.suffix else module, "weight" if self.suffix else leaf)


def locate(checkpoint: Checkpoint, name: str, to: str = "neuron", block: tuple[int, int] | None = None) -> Found:
    """The stored weight that `name` stands for: a name of the source, of its scale, of its module, of the layout `to`, or a logical name.

    Raises WeighbridgeError: no such tensor (with names that are near), or a tensor that only helps to read another one.
    """
    key = next((k for k in _spellings(name) if k in checkpoint.tensors), None)
    if key is None or key.rpartition(".")[2] in SCALE_WORDS or key.endswith(("_scales", "_scale", "_scale_inv")):
        key = _weight_of(checkpoint, name) or key
    if key is not None:
        return _found(checkpoint, key, block)
    return _through_plan(checkpoint, name, to, block)


def stem(name: str) -> str:
    """The module of a name: without `model.` in front and without the ending of a weight or scale."""
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return name.removeprefix("model.")


def _spellings(name: str) -> Iterator[str]:
    yield name
    for rank in ("", "tp0/"):
        for prefix in ("", "model."):
            yield rank + prefix + name.removeprefix("model.")


def _weight_of(checkpoint: Checkpoint, name: str) -> str | None:
    """The weight of a module or of a scale, however its suffix is spelled."""
    module = stem(name)
    return next((key for suffix in SCALES for key in _spellings(module + suffix)
                 if key in checkpoint.tensors and key.rpartition(".")[2] not in SCALE_WORDS), None)


def _found(checkpoint: Checkpoint, key: str, block: tuple[int, int] | None) -> Found:
    weight = checkpoint.tensors[key]
    leaf = key.rpartition(".")[2]
    if leaf in HELPERS or leaf in SCALE_WORDS:
        what = "is a scale whose weight is not here" if leaf in SCALE_WORDS else "helps to read a weight and is none"
        raise WeighbridgeError("no-weight", f"{weight.dtype} {list(weight.shape)} {what}", f"{weight.file}: {key}", "name a weight")
    suffix = "." + leaf if "." + leaf in SCALES else "_blocks" if leaf.endswith("_blocks") else ""
    module = key[: len(key) - len(suffix)]
    scale_suffix = next((s for s in SCALES[suffix] if module + s in checkpoint.tensors), "")
    scale = checkpoint.tensors[module + scale_suffix] if scale_suffix else None
    claims = read_claims(checkpoint)
    if block is not None:
        claims = replace(claims, blocks=(block, *claims.blocks))
    neuron = bool(checkpoint.neuron_config or checkpoint.ranks) or ".mlp_op." in key
    beside = None if scale is None else (scale.dtype, scale.shape)
    kind = read_kind(weight.dtype, weight.shape, suffix, beside, scale_suffix, claims, neuron)
    second = next((t for s in SECOND if (t := checkpoint.tensors.get(f"{module}.{s}")) is not None), None)
    says = _says(checkpoint, kind, claims, block, scale)
    return Found(key, weight, suffix, scale, scale_suffix, second, kind, claims, neuron, says)


def _says(checkpoint: Checkpoint, kind: Kind, claims: Claims, given: tuple[int, int] | None, scale: Tensor | None) -> str:
    """Who says which block the scale has."""
    if scale is None:
        return ""
    if kind.block is None:
        return f"the shape of the scale, {list(scale.shape)}"
    if given in (kind.block, kind.block[::-1]):
        return "--block"
    if kind.block in claims.blocks or kind.block[::-1] in claims.blocks or (1 in kind.block and any(set(kind.block) & set(b) for b in claims.blocks)):
        return _block_key(checkpoint, claims)
    if max(kind.block) in claims.groups:
        return f"{claims.source}: group_size"
    return {32: "the format: OCP microscaling shares one scale among 32 values", 16: "the format: NVFP4 shares one scale among 16 values"}.get(
        max(kind.block), claims.source)


def _block_key(checkpoint: Checkpoint, claims: Claims) -> str:
    if claims.source == "neuron_config.json":
        return "weighbridge.json: options.block" if checkpoint.manifest.get("options") else "neuron_config.json: quantization_block_size"
    claim = checkpoint.config.get("quantization_config")
    key = "weight_block_size" if not isinstance(claim, dict) or "weight_block_size" in claim else "config_groups"
    return f"{claims.source}.{key}"


def _through_plan(checkpoint: Checkpoint, name: str, to: str, block: tuple[int, int] | None) -> Found:
    """Names of the destination and logical names, as `trace` finds them."""
    from weighbridge.convert.trace import find
    from weighbridge.layouts.options import Options
    from weighbridge.plan.bind import bind
    from weighbridge.plan.plan import make_plan

    try:
        source = bind(checkpoint, block)
        held = _by_inventory(source, name)
        if held is not None:
            key, part = held
            return _found(checkpoint, key, block)._replace(corner=(part.lead, part.at_row, part.at_col), way=part.weight)
        hits = find(make_plan(source, to, Options(block=block or source.options.block)), name)
    except WeighbridgeError as error:
        near = _near(checkpoint, name)
        raise WeighbridgeError("no-such-tensor", "is no tensor of the source, of the destination, and no logical weight", name,
                               f"near it: {', '.join(near)}" if near else "weighbridge inspect SRC --tensors lists all names") from error
    fragments = [(piece, fragment) for _, piece in hits for fragment in piece.fragments]
    names = list(dict.fromkeys(source.bound[f.source].weight.name for _, f in fragments))
    piece, first = fragments[0]
    key = _key(checkpoint, source.bound[first.source].weight)
    return _found(checkpoint, key, block)._replace(corner=(first.lead, first.row, first.col), also=tuple(names[1:]), way=piece.part.weight)


def _by_inventory(source: Source, name: str) -> tuple[str, Part] | None:
    """The stored tensor, and the place in it, of a name under which the model's makers publish a weight, or of a logical name."""
    wanted = stem(name)
    logical = next((w.name for w in source.inventory.weights.values() if wanted in (w.name, stem(w.published))), "")
    for number, part in source.holders.get(logical, ()):
        return _key(source.checkpoint, source.bound[number].weight), part
    return None


def _key(checkpoint: Checkpoint, weight: Tensor) -> str:
    return next(key for key, tensor in checkpoint.tensors.items() if tensor is weight)


def _near(checkpoint: Checkpoint, name: str) -> list[str]:
    """Modules like `name`: those with its last word first, else any with a like spelling."""
    from difflib import SequenceMatcher

    wanted = stem(name)
    modules = list(dict.fromkeys(stem(key) for key in checkpoint.tensors))
    like = [m for m in modules if m.rpartition(".")[2] == wanted.rpartition(".")[2]] or modules
    words = set(wanted.split("."))
    like.sort(key=lambda m: (-len(words & set(m.split("."))), len(m)))
    return sorted(like[:200], key=lambda m: -SequenceMatcher(None, wanted, m, autojunk=False).ratio())[:NEAR]
