"""A checkpoint met by its layout: every stored weight found, its scheme read from headers and claim, everything that does not agree listed."""

from __future__ import annotations

from dataclasses import replace

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.header import Tensor
from weighbridge.errors import Problem
from weighbridge.formats.claim import Claims, read_claims
from weighbridge.formats.match import CARRIED, StoredWeight, stored_weights
from weighbridge.formats.scheme import Encoding
from weighbridge.formats.schemes import SCHEMES
from weighbridge.layouts.hf import published_stem
from weighbridge.layouts.options import Options
from weighbridge.layouts.placement import Placement, Stored, turned, whole
from weighbridge.models import Inventory, inventory
from weighbridge.models.inventory import Weight
from weighbridge.plan.bind_neuron import bind_neuron
from weighbridge.plan.source import Bound, Source


def detect(checkpoint: Checkpoint) -> str:
    """The layout whose *names* the stored tensors bear: `neuron-shards`, `neuron`, or empty for published names."""
    if checkpoint.ranks:
        return "neuron-shards"
    if any(name.endswith(".expert_mlps.mlp_op.gate_up_proj.weight") for name in checkpoint.tensors):
        return "neuron"
    return ""


def bind(checkpoint: Checkpoint, block: tuple[int, int] | None = None, weights: Inventory | None = None) -> Source:
    """See a checkpoint through its own layout. Problems are collected, not raised. `weights` is its inventory, where one was made already.

    `block` (out, in) is the user's, where the configuration claims none or a wrong one.
    """
    name = detect(checkpoint)
    weights = weights or inventory(checkpoint.config)
    if name:
        return bind_neuron(checkpoint, name, block, weights)
    claims = read_claims(checkpoint)
    if block:
        claims = replace(claims, blocks=(block,))
    return _Binder(checkpoint, claims, weights).source()


class _Binder:
    """Finds each logical weight of an inventory among the stored weights of a checkpoint with published names."""

    def __init__(self, checkpoint: Checkpoint, claims: Claims, weights: Inventory) -> None:
        self.checkpoint, self.claims, self.inventory = checkpoint, claims, weights
        self.held = stored_weights(checkpoint.tensors, claims, self._read)
        self.problems = list(checkpoint.problems)
        self.bound: list[Bound] = []
        self.used: set[str] = set()

    def _read(self, tensor: Tensor) -> bytes:
        return self.checkpoint.store.read(tensor.file, tensor.start, tensor.nbytes)

    def source(self) -> Source:
        for weight in self.inventory.weights.values():
            if not self._weight(weight):
                self.problems.append(Problem("missing-tensor", f"no file holds it; the config asks for {list(weight.shape[weight.vector:])}", weight.published,
                                             "look whether the index names it and its file is whole; a runtime would leave this weight at random"))
        for weight in self.inventory.optional.values():
            self._weight(weight)
        carried = self._surplus()
        options = Options(block=self.claims.blocks[0] if self.claims.blocks else (128, 128), group=self.claims.groups[0] if self.claims.groups else 0)
        return Source(self.checkpoint, self._layout(), options, self.inventory, self.bound, self.problems, self.claims, carried=carried)

    def _layout(self) -> str:
        """The layout of most of the coded weights, by bytes; of plain ones the dtype's."""
        size: dict[str, int] = {}
        for bound in self.bound:
            if bound.encoding.quantized:
                scheme = SCHEMES[bound.encoding.scheme]
                name = scheme.layout or scheme.name
                size[name] = size.get(name, 0) + bound.weight.nbytes
        if size:
            return max(size, key=lambda n: size[n])
        halves = sum(1 if b.encoding.dtype == "F16" else -1 for b in self.bound if b.encoding.dtype in ("F16", "BF16"))
        return "hf-f16" if halves > 0 else "hf-bf16"

    def _weight(self, weight: Weight) -> bool:
        """Bind a logical weight; False where nothing is stored for it."""
        stem, suffix = published_stem(weight)
        held = self.held.get(stem)
        if held is None:
            return False
        self.used.add(stem)
        if held.fit.encoding is None:
            self.problems.append(_unfit(held))
            return True
        self._bind(weight, held, suffix)
        return True

    def _bind(self, weight: Weight, held: StoredWeight, suffix: str) -> None:
        fit, encoding = held.fit, held.fit.encoding
        assert encoding is not None
        is_turned = encoding.quantized and SCHEMES[encoding.scheme].turned
        wanted = (weight.shape[1],) if weight.vector else weight.shape[::-1] if is_turned else weight.shape
        if not _holds(encoding, fit.shape, wanted):
            axis = next((i for i, (a, b) in enumerate(zip(fit.shape, wanted, strict=False)) if a != b), len(wanted))
            self.problems.append(Problem("shape", f"{list(fit.shape)} values, the config asks for {list(wanted)} (axis {axis} differs)",
                                         f"{held.code.file}: {held.code.name}", "config.json is not of these weights, or the file is damaged"))
            return
        placement = turned(weight) if is_turned else whole(weight)
        if fit.slices > 1:
            placement = _sliced(placement, fit.slices)
        self.bound.append(Bound(Stored(held.stem, suffix, held.code.file, placement, encoding), encoding, held.tensors))

    def _surplus(self) -> dict[str, Tensor]:
        """Tensors that belong to no weight: those that are carried along, and problems for the rest."""
        carried: dict[str, Tensor] = {}
        for stem, held in self.held.items():
            if stem in self.used:
                continue
            if stem.rpartition(".")[2] in CARRIED or stem.startswith(self.inventory.foreign or ("\0",)):
                carried |= {tensor.name or stem + suffix: tensor for suffix, tensor in held.tensors.items()}
                continue
            self.problems.append(_surplus(held, self.checkpoint.model_type))
        self.problems.sort(key=lambda p: p.where)
        return carried


def _holds(encoding: Encoding, held: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a tensor of `held` values can be a weight of `wanted`: packed axes may be filled up to whole units."""
    if held == wanted:
        return True
    packing = encoding.code.packing
    if len(held) != 2 or len(wanted) != 2 or not packing.packed:
        return False
    axis, other = (1, 0) if packing.axis == -1 else (0, 1)
    return held[other] == wanted[other] and packing.units(held[axis]) == packing.units(wanted[axis])


def _sliced(placement: Placement, slices: int) -> Placement:
    """The same bytes as so many matrices one behind the other: a grid that restarts in each."""
    rows = placement.rows // slices
    (part,) = placement.parts
    parts = tuple(part._replace(row=part.row + i * rows, rows=rows, lead=i, at_row=0) for i in range(slices))
    return Placement(slices, rows, placement.cols, parts, stacked=True)


def _unfit(held: StoredWeight) -> Problem:
    hints = {
        "weight-without-scale": "codes mean nothing without their scale: look whether the file that holds it is here",
        "scale-without-weight": "look whether the file that holds the weight is here",
        "scale-beside-float": "remove the scale if the weight holds real values",
        "scale-shape": "the block or group is read from the configuration; if it is another one, name it with --block",
        "encoding": "weighbridge inspect SRC shows what lies there",
    }
    return Problem(held.fit.code, held.fit.problem, f"{held.code.file}: {held.code.name or held.stem}", hints.get(held.fit.code, ""))


def _surplus(held: StoredWeight, model_type: str) -> Problem:
    tensor = held.code
    where = f"{tensor.file}: {tensor.name or held.stem}"
    if held.fit.code == "scale-without-weight":
        return Problem("scale-without-weight", "a scale whose weight is not here", where, "look whether the file that holds the weight is here")
    return Problem("surplus-tensor", f"{tensor.dtype} {list(tensor.shape)} belongs to no weight of {model_type}", where,
                   "remove it, or leave it out with --allow surplus-tensor")
