"""A layout met by headers: every stored tensor found, its encoding read, everything odd listed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import NamedTuple

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.header import Tensor
from weighbridge.encoding.scheme import Encoding, is_code, plain
from weighbridge.errors import Problem
from weighbridge.layouts import layout as layout_module
from weighbridge.layouts.options import Options
from weighbridge.layouts.placement import Part, Stored
from weighbridge.models import Inventory, inventory


class Bound(NamedTuple):
    """A stored weight with its place in the checkpoint and its real encoding."""

    stored: Stored
    encoding: Encoding
    weight: Tensor
    scale: Tensor | None


@dataclass(frozen=True)
class Source:
    """A checkpoint seen through its own layout."""

    checkpoint: Checkpoint
    layout: str
    options: Options
    inventory: Inventory
    bound: list[Bound]
    problems: list[Problem]

    @cached_property
    def holders(self) -> dict[str, list[tuple[int, Part]]]:
        """For each logical weight, the rectangles of it that are stored, with the number of their tensor in `bound`."""
        found: dict[str, list[tuple[int, Part]]] = {}
        for number, bound in enumerate(self.bound):
            for part in bound.stored.placement.parts:
                found.setdefault(part.weight, []).append((number, part))
        return found

    @property
    def scales(self) -> int:
        return sum(1 for b in self.bound if b.scale is not None)


def detect(checkpoint: Checkpoint) -> str:
    """The layout that the stored names belong to."""
    if checkpoint.ranks:
        return "neuron-shards"
    names = checkpoint.tensors
    if any(name.endswith(".expert_mlps.mlp_op.gate_up_proj.weight") for name in names):
        return "neuron"
    return "hf-fp8" if any(is_code(t.dtype) for t in names.values()) else "hf-bf16"


def source_options(checkpoint: Checkpoint, name: str, block: tuple[int, int] | None = None) -> tuple[Options, list[Problem]]:
    """Options under which a checkpoint was written, from its config (never from its shapes)."""
    if name.startswith("neuron"):
        return _neuron_options(checkpoint, block)
    claimed = block or _claimed_block(checkpoint)
    if claimed is None and name == "hf-fp8":
        return Options(), [Problem("no-block-size", "FP8 weights, and quantization_config.weight_block_size is missing",
                                   "config.json: quantization_config", "name the block with --block 128,128, or restore quantization_config")]
    return Options(block=claimed or (128, 128)), []


def _claimed_block(checkpoint: Checkpoint) -> tuple[int, int] | None:
    claim = checkpoint.config.get("quantization_config")
    size = claim.get("weight_block_size") if isinstance(claim, dict) else None
    good = isinstance(size, list) and len(size) == 2 and all(isinstance(s, int) and 0 < s <= 1 << 20 for s in size)
    return (size[0], size[1]) if good else None


def _neuron_options(checkpoint: Checkpoint, block: tuple[int, int] | None) -> tuple[Options, list[Problem]]:
    settings = checkpoint.neuron_config
    options = Options(
        block=block or _manifest_block(checkpoint) or _claimed_block(checkpoint) or (128, 128),
        tp=_degree(settings, "tp_degree"), moe_tp=_degree(settings, "moe_tp_degree"), moe_ep=_degree(settings, "moe_ep_degree"))
    axes = settings.get("quantization_block_axis")
    attention = "exact" if axes == [-2, -1] else "published"
    problems = []
    if checkpoint.ranks and options.tp != len(checkpoint.ranks):
        problems.append(Problem("ranks", f"{len(checkpoint.ranks)} rank files, neuron_config.json says tp_degree {options.tp or 'nothing'}",
                                checkpoint.label, "put the neuron_config.json of these shards beside the folder weights/"))
    return replace(options, attention=attention), problems


def _manifest_block(checkpoint: Checkpoint) -> tuple[int, int] | None:
    stated = checkpoint.manifest.get("options")
    size = stated.get("block") if isinstance(stated, dict) else None
    good = isinstance(size, list) and len(size) == 2 and all(isinstance(s, int) and 0 < s <= 1 << 20 for s in size)
    return (size[0], size[1]) if good else None


def _degree(settings: dict[str, object], key: str) -> int:
    value = settings.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 4096 else 0


def bind(checkpoint: Checkpoint, block: tuple[int, int] | None = None, weights: Inventory | None = None) -> Source:
    """See a checkpoint through its own layout. Problems are collected, not raised. `weights` is its inventory, where one was made already."""
    name = detect(checkpoint)
    weights = weights or inventory(checkpoint.config)
    options, problems = source_options(checkpoint, name, block)
    problems = list(checkpoint.problems) + problems
    bound: list[Bound] = []
    used: set[str] = set()
    peak = 240.0 if name.startswith("neuron") else 448.0
    for stored in layout_module(name).stored(weights, options):
        found = _find(checkpoint, stored)
        if found is None:
            problems.append(_missing(checkpoint, stored))
            continue
        stored, weight, scale = found
        used.add(stored.name)
        if scale is not None:
            used.add(stored.scale_name)
        if stored.constant is not None:
            continue
        encoding, wrong = _encoding(stored, weight, scale, options, peak)
        problems += wrong
        if encoding is not None:
            if scale is not None and stored.scale_slots and scale.shape != stored.scale_shape(encoding):
                stored = stored._replace(scale_slots=None)
            bound.append(Bound(stored, encoding, weight, scale))
    problems += _surplus(checkpoint, used)
    return Source(checkpoint, name, options, weights, bound, problems)


def _find(checkpoint: Checkpoint, stored: Stored) -> tuple[Stored, Tensor, Tensor | None] | None:
    """The tensors of a stored weight; NxD strips `model.` and takes either spelling of attention names."""
    tensors = checkpoint.tensors
    weight = tensors.get(stored.name)
    if weight is not None:
        return stored, weight, tensors.get(stored.scale_name) if _may_have_scale(stored) else None
    for stem in ("model." + stored.stem, stored.stem.replace(".self_attn.", ".self_attn.qkv_proj."),
                 stored.stem.replace(".o_proj", ".o_proj.o_proj")):
        weight = tensors.get(stem + stored.suffix)
        if weight is not None:
            renamed = stored._replace(stem=stem)
            return renamed, weight, tensors.get(renamed.scale_name) if _may_have_scale(stored) else None
    return None


def _may_have_scale(stored: Stored) -> bool:
    """A `.weight`, or a stack of experts, which has no suffix; biases and sinks have none."""
    return bool(stored.suffix) or stored.encoding is not None


def _missing(checkpoint: Checkpoint, stored: Stored) -> Problem:
    if stored.scale_name in checkpoint.tensors:
        scale = checkpoint.tensors[stored.scale_name]
        return Problem("scale-without-weight", f"a scale {list(scale.shape)} is here, its weight {stored.name} is not",
                       f"{scale.file}: {stored.scale_name}", "download the checkpoint again")
    return Problem("missing-tensor", f"no shard holds it; the config asks for {list(stored.shape)}", stored.name,
                   "download the checkpoint again; a runtime would leave this weight at random")


def _encoding(stored: Stored, weight: Tensor, scale: Tensor | None, options: Options, peak: float) -> tuple[Encoding | None, list[Problem]]:
    if weight.shape == stored.shape and weight.dtype == "F8_E4M3" and scale is not None and scale.dtype in ("F32", "BF16"):
        return _match_grid(stored, scale, options, peak)
    where = f"{weight.file}: {stored.name}"
    if weight.shape != stored.shape:
        axis = next((i for i, (a, b) in enumerate(zip(weight.shape, stored.shape, strict=False)) if a != b), len(stored.shape))
        return None, [Problem("shape", f"{list(weight.shape)}, the config asks for {list(stored.shape)} (axis {axis} differs)", where,
                              "config.json is not of these weights, or the file is damaged")]
    if not is_code(weight.dtype):
        if scale is not None:
            return None, [Problem("scale-beside-float", f"{weight.dtype} weight with a scale {list(scale.shape)} beside it: is it decoded already?",
                                  where, "remove the scale if the weight holds real values")]
        return _float(weight.dtype), []
    if weight.dtype != "F8_E4M3":
        return None, [Problem("encoding", f"{weight.dtype} codes; this layout holds F8_E4M3", where)]
    if scale is None:
        return None, [Problem("weight-without-scale", f"{weight.dtype} {list(weight.shape)} without {stored.scale_name.rsplit('.', 1)[1]}",
                              where, "download the checkpoint again: codes mean nothing without their scale")]
    return None, [Problem("scale-dtype", f"scale is {scale.dtype}; F32 or BF16 is what this layout holds", f"{scale.file}: {stored.scale_name}")]


@cache
def _float(dtype: str) -> Encoding:
    return plain(dtype)


@cache
def _codes(block: tuple[int, int], scale_dtype: str, peak: float) -> Encoding:
    """One object for each encoding: plans look steps up by it, tens of thousands of times."""
    return Encoding("F8_E4M3", block, scale_dtype, peak)


def _match_grid(stored: Stored, scale: Tensor, options: Options, peak: float) -> tuple[Encoding | None, list[Problem]]:
    """The encoding whose grid has the shape of the scale, among those that the layout knows for this tensor."""
    rows, columns = options.block
    blocks = [(rows, columns)]
    if peak == 240.0:
        whole = stored.encoding.block[1] if stored.encoding and stored.encoding.block else stored.placement.cols
        blocks = [(columns, rows), (1, rows)] if stored.placement.stacked else [(1, max(whole, stored.placement.cols)), (1, columns)]
    tried = []
    for block in blocks:
        encoding = _codes(block, scale.dtype, peak)
        if scale.shape == stored.scale_shape(encoding) or scale.shape == encoding.grid(stored.shape):
            return encoding, []
        tried.append(f"{list(stored.scale_shape(encoding))} (block {block[0]}x{block[1]})")
    return None, [Problem("scale-shape", f"scale is {list(scale.shape)}, a weight {list(stored.shape)} needs {' or '.join(tried)}",
                          f"{scale.file}: {stored.scale_name}", "the block is read from the config; if it is another one, name it with --block")]


def _surplus(checkpoint: Checkpoint, used: set[str]) -> list[Problem]:
    problems = []
    for name in checkpoint.tensors.keys() - used:
        tensor = checkpoint.tensors[name]
        stem, _, last = name.rpartition(".")
        if last in ("weight_scale_inv", "scale", "weight_scale") and stem + ".weight" not in checkpoint.tensors:
            code, says = "scale-without-weight", "a scale whose weight is not here"
        else:
            code, says = "surplus-tensor", f"{tensor.dtype} {list(tensor.shape)} belongs to no weight of {checkpoint.model_type}"
        problems.append(Problem(code, says, f"{tensor.file}: {name}", f"remove it, or leave it out with --allow {code}"))
    return sorted(problems, key=lambda p: p.where)
