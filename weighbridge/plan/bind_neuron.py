"""A checkpoint in one of Neuron's layouts, met by its headers: names are NxD's, blocks follow from its settings and shapes."""

from __future__ import annotations

from dataclasses import replace

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.header import Tensor
from weighbridge.errors import Problem
from weighbridge.formats.claim import read_claims
from weighbridge.formats.match import split
from weighbridge.formats.scheme import Encoding, plain
from weighbridge.layouts import neuron, neuron_shards
from weighbridge.layouts.options import Options
from weighbridge.layouts.placement import Stored
from weighbridge.models import Inventory
from weighbridge.layouts.source import Bound, Source


def bind_neuron(checkpoint: Checkpoint, name: str, block: tuple[int, int] | None, weights: Inventory) -> Source:
    """See a checkpoint in the layout `name` (neuron, neuron-shards) through it. Problems are collected, not raised."""
    options, problems = _options(checkpoint, block)
    problems = list(checkpoint.problems) + problems
    bound: list[Bound] = []
    used: set[str] = set()
    constants: list[tuple[Stored, Tensor]] = []
    module = neuron_shards if checkpoint.ranks else neuron
    for stored in module.stored(weights, options):
        found = _find(checkpoint, stored)
        if found is None:
            problems.append(_missing(checkpoint, stored))
            continue
        stored, weight, scale = found
        used.add(stored.stem + stored.suffix)
        if scale is not None:
            used.add(stored.stem + ".scale")
        if stored.constant is not None:
            constants.append((stored, weight))
            continue
        encoding, wrong = _encoding(stored, weight, scale, options)
        problems += wrong
        if encoding is not None:
            stored = stored._replace(encoding=encoding)
            if scale is not None and stored.scale_slots and scale.shape != stored.field_shape(encoding.factors[0]):
                stored = stored._replace(scale_slots=None)
            bound.append(Bound(stored, encoding, {stored.suffix: weight} | ({".scale": scale} if scale is not None else {})))
    problems += _surplus(checkpoint, used)
    return Source(checkpoint, name, options, weights, bound, problems, read_claims(checkpoint), constants)


def _options(checkpoint: Checkpoint, block: tuple[int, int] | None) -> tuple[Options, list[Problem]]:
    """Options under which a checkpoint was written, from its settings (never from its shapes)."""
    settings = checkpoint.neuron_config
    stated = checkpoint.manifest.get("options")
    options = Options(
        block=block or _pair(stated.get("block") if isinstance(stated, dict) else None) or _claimed_block(checkpoint) or (128, 128),
        tp=_degree(settings, "tp_degree"), moe_tp=_degree(settings, "moe_tp_degree"), moe_ep=_degree(settings, "moe_ep_degree"))
    axes = settings.get("quantization_block_axis")
    attention = "exact" if axes == [-2, -1] else "published"
    problems = []
    if checkpoint.ranks and options.tp != len(checkpoint.ranks):
        problems.append(Problem("ranks", f"{len(checkpoint.ranks)} rank files, neuron_config.json says tp_degree {options.tp or 'nothing'}",
                                checkpoint.label, "put the neuron_config.json of these shards beside the folder weights/"))
    return replace(options, attention=attention), problems


def _claimed_block(checkpoint: Checkpoint) -> tuple[int, int] | None:
    claim = checkpoint.config.get("quantization_config")
    return _pair(claim.get("weight_block_size") if isinstance(claim, dict) else None)


def _pair(size: object) -> tuple[int, int] | None:
    good = isinstance(size, list) and len(size) == 2 and all(isinstance(s, int) and not isinstance(s, bool) and 0 < s <= 1 << 20 for s in size)
    return (size[0], size[1]) if good else None


def _degree(settings: dict[str, object], key: str) -> int:
    value = settings.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 4096 else 0


def _find(checkpoint: Checkpoint, stored: Stored) -> tuple[Stored, Tensor, Tensor | None] | None:
    """The tensors of a stored weight; NxD strips `model.` and takes either spelling of attention names."""
    tensors = checkpoint.tensors
    for stem in (stored.stem, "model." + stored.stem, stored.stem.replace(".self_attn.", ".self_attn.qkv_proj."),
                 stored.stem.replace(".o_proj", ".o_proj.o_proj")):
        weight = tensors.get(stem + stored.suffix)
        if weight is not None:
            return stored._replace(stem=stem), weight, tensors.get(stem + ".scale") if stored.suffix else None
    return None


def _missing(checkpoint: Checkpoint, stored: Stored) -> Problem:
    scale = checkpoint.tensors.get(stored.stem + ".scale")
    if scale is not None:
        return Problem("scale-without-weight", f"a scale {list(scale.shape)} is here, its weight {stored.name} is not",
                       f"{scale.file}: {stored.stem}.scale", "look whether the file that holds the weight is here")
    return Problem("missing-tensor", f"no file holds it; the config asks for {list(stored.shape)}", stored.name,
                   "look whether its file is whole; a runtime would leave this weight at random")


def _encoding(stored: Stored, weight: Tensor, scale: Tensor | None, options: Options) -> tuple[Encoding | None, list[Problem]]:
    where = f"{weight.file}: {stored.stem}{stored.suffix}"
    if weight.shape != stored.shape:
        axis = next((i for i, (a, b) in enumerate(zip(weight.shape, stored.shape, strict=False)) if a != b), len(stored.shape))
        return None, [Problem("shape", f"{list(weight.shape)}, the config asks for {list(stored.shape)} (axis {axis} differs)", where,
                              "config.json is not of these weights, or the file is damaged")]
    if not weight.dtype.startswith("F8"):
        if scale is not None:
            return None, [Problem("scale-beside-float", f"{weight.dtype} weight with a scale {list(scale.shape)} beside it: is it decoded already?",
                                  where, "remove the scale if the weight holds real values")]
        return plain(weight.dtype), []
    if weight.dtype != "F8_E4M3":
        return None, [Problem("encoding", f"{weight.dtype} codes; this layout holds F8_E4M3", where)]
    if scale is None:
        return None, [Problem("weight-without-scale", f"{weight.dtype} {list(weight.shape)} without {stored.stem}.scale", where,
                              "codes mean nothing without their scale: look whether the file that holds it is here")]
    if scale.dtype not in ("F32", "BF16"):
        return None, [Problem("scale-dtype", f"scale is {scale.dtype}; F32 or BF16 is what this layout holds", f"{scale.file}: {stored.stem}.scale")]
    return _match_grid(stored, scale, options)


def _match_grid(stored: Stored, scale: Tensor, options: Options) -> tuple[Encoding | None, list[Problem]]:
    """The encoding whose grid has the shape of the scale, among those that the layout knows for this tensor."""
    rows, columns = options.block
    own = stored.encoding.block[1] if stored.encoding and stored.encoding.block else stored.placement.cols
    blocks = [(columns, rows), (1, rows)] if stored.placement.stacked else [(1, max(own, stored.placement.cols)), (1, columns)]
    tried = []
    for block in blocks:
        encoding = neuron.codes(block, scale.dtype)
        padded = stored._replace(encoding=encoding).field_shape(encoding.factors[0])
        if scale.shape in (padded, encoding.factors[0].shapes(stored.shape)[0]):
            return encoding, []
        tried.append(f"{list(padded)} (block {block[0]}x{block[1]})")
    return None, [Problem("scale-shape", f"scale is {list(scale.shape)}, a weight {list(stored.shape)} needs {' or '.join(tried)}",
                          f"{scale.file}: {stored.stem}.scale", "the block is read from the config; if it is another one, name it with --block")]


def _surplus(checkpoint: Checkpoint, used: set[str]) -> list[Problem]:
    problems = []
    for name in checkpoint.tensors.keys() - used:
        tensor = checkpoint.tensors[name]
        stem, suffix = split(name)
        if suffix not in ("", ".weight") and stem + ".weight" not in checkpoint.tensors:
            code, says = "scale-without-weight", "a scale whose weight is not here"
        else:
            code, says = "surplus-tensor", f"{tensor.dtype} {list(tensor.shape)} belongs to no weight of {checkpoint.model_type}"
        problems.append(Problem(code, says, f"{tensor.file}: {name}", f"remove it, or leave it out with --allow {code}"))
    return sorted(problems, key=lambda p: p.where)
