"""A checkpoint met by its layout: every stored weight found, its scheme read from headers and claim, everything that does not agree listed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.errors import Problem, brief
from weighbridge.formats.claim import Claims, read_claims
from weighbridge.checkpoint.header import Tensor
from weighbridge.formats.element import PLAIN
from weighbridge.formats.match import CARRIED, StoredWeight, stored_weights
from weighbridge.formats.scheme import GROUP, Encoding, Role
from weighbridge.formats.schemes import SCHEMES
from weighbridge.layouts.options import Options
from weighbridge.layouts.placement import Stored, in_slices
from weighbridge.layouts.rows import layout_of
from weighbridge.layouts.published import Candidate, stored_forms
from weighbridge.models import Inventory, inventory, inventory_of
from weighbridge.models.generic import as_stored
from weighbridge.plan.bind_neuron import bind_neuron
from weighbridge.plan.kept import read_kept
from weighbridge.layouts.source import Bound, Source


def detect(checkpoint: Checkpoint) -> str:
    """The layout whose *names* the stored tensors bear: `neuron-shards`, `neuron`, or empty for published names."""
    if checkpoint.ranks:
        return "neuron-shards"
    if any(name.endswith(".expert_mlps.mlp_op.gate_up_proj.weight") for name in checkpoint.tensors):
        return "neuron"
    return ""


def bind(checkpoint: Checkpoint, block: tuple[int, int] | None = None, weights: Inventory | None = None) -> Source:
    """See a checkpoint through its own layout. Problems are collected, not raised. `weights` is its inventory, where one was made already.

    `block` (out, in) is the user's, where the configuration claims none or a wrong one. A model of no known family is taken as its files have it.
    """
    name = detect(checkpoint)
    if name:
        return bind_neuron(checkpoint, name, block, weights or inventory(checkpoint.config))
    claims = read_claims(checkpoint)
    if block:
        claims = replace(claims, blocks=(block,))
    held = stored_weights(checkpoint.tensors, claims, lambda tensor: checkpoint.store.read(tensor.file, tensor.start, tensor.nbytes))
    return _Binder(checkpoint, claims, held, weights or _inventory(checkpoint, held)).source()


def _inventory(checkpoint: Checkpoint, held: dict[str, StoredWeight]) -> Inventory:
    """The inventory of the files: the family's, the generic one, and what goes along beside either."""
    tensors = {_plain_name(one): (_logical(one), one.fit.encoding is not None and one.fit.encoding.quantized) for one in held.values()}
    found = inventory_of(checkpoint.config, tensors)
    beside = [name for name in tensors if name.rpartition(".")[2] in CARRIED and name not in found.published_names]
    return replace(found, weights={**found.weights, **as_stored(tensors, beside)[0]}) if beside else found


def _plain_name(held: StoredWeight) -> str:
    """The name of a stored weight as it would be without quantization."""
    own = next(iter(held.tensors))
    suffix = held.fit.encoding.code.suffix if held.fit.encoding and held.fit.encoding.quantized else own
    return held.stem + (".weight" if suffix.startswith(".") else "")


def _logical(held: StoredWeight) -> tuple[int, ...]:
    """The shape in values, [out, in]."""
    encoding, shape = held.fit.encoding, held.fit.shape or held.code.shape
    return shape[::-1] if encoding is not None and encoding.quantized and SCHEMES[encoding.scheme].turned else shape


class _Binder:
    """Finds each logical weight of an inventory among the stored weights of a checkpoint with published names."""

    def __init__(self, checkpoint: Checkpoint, claims: Claims, held: dict[str, StoredWeight], weights: Inventory) -> None:
        self.checkpoint, self.claims, self.held, self.inventory = checkpoint, claims, held, weights
        self.problems = [*checkpoint.problems, *_of_no_model(checkpoint)]
        self.bound: list[Bound] = []
        self.used: set[str] = set()

    def source(self) -> Source:
        for name, candidates in stored_forms(self.inventory, self._there).items():
            if candidates:
                self._bind(candidates[0])
            elif name in self.inventory.weights:
                weight = self.inventory[name]
                self.problems.append(Problem("missing-tensor", f"no file holds it; the config asks for {list(weight.shape[weight.vector:])}", weight.published or name,
                                             "look whether the index names it and its file is whole; a runtime would leave this weight at random"))
        self._surplus()
        return Source(self.checkpoint, self._layout(), self._sizes(), self.inventory, self.bound, self.problems, self.claims, kept=read_kept(self.checkpoint))

    def _sizes(self) -> Options:
        """The block and the group of its own weights: what a destination has that is told nothing else. Other schemes' fixed groups are none of them."""
        block, group = (128, 128), 0
        for encoding in dict.fromkeys(b.encoding for b in reversed(self.bound) if b.encoding.quantized):
            for kind, size in zip(next(f for f in SCHEMES[encoding.scheme].factors if f.role is Role.SCALE).block, encoding.block or (), strict=False):
                group = size if kind == GROUP else group
            block = encoding.block if SCHEMES[encoding.scheme].strategy == "block" and encoding.block else block
        return Options(block=block, group=group)

    def _there(self, stem: str, suffix: str) -> bool:
        """Whether the files hold a form: gpt-oss's blocks have other axes than its plain values."""
        held = self.held.get(stem)
        if held is None:
            return False
        own = held.fit.encoding.code.suffix if held.fit.encoding and held.fit.encoding.quantized else ""
        return (own == "_blocks") == (suffix == "_blocks")

    def _layout(self) -> str:
        """The layout of most of the coded weights, by bytes; of plain ones the dtype's."""
        size: dict[str, int] = {}
        for bound in self.bound:
            if bound.encoding.quantized:
                scheme = SCHEMES[bound.encoding.scheme]
                name = layout_of(scheme.name) or scheme.name
                size[name] = size.get(name, 0) + bound.weight.nbytes
        if size:
            return max(size, key=lambda n: size[n])
        dtypes = Counter(b.encoding.dtype for b in self.bound)
        return "hf-f16" if dtypes["F16"] > dtypes["BF16"] else "hf-bf16"

    def _bind(self, candidate: Candidate) -> None:
        """Bind the stored tensor of a candidate, once for all the weights in it."""
        if candidate.stem in self.used:
            return
        self.used.add(candidate.stem)
        held = self.held[candidate.stem]
        fit, encoding = held.fit, held.fit.encoding
        if encoding is None:
            self.problems.append(_unfit(held))
            return
        if encoding.dtype not in PLAIN and not encoding.quantized and not self.inventory.unknown:
            self.problems.append(Problem("encoding", f"{encoding.dtype} {list(fit.shape)} without a scale: nothing says what the codes mean",
                                         f"{held.code.file}: {held.code.name}", "weighbridge inspect SRC shows what lies there"))
            return
        placement, dims = candidate.placement, self.inventory[candidate.placement.parts[0].weight].dims
        if encoding.quantized and SCHEMES[encoding.scheme].turned:
            placement = placement.swap()
        wanted = dims if dims is not None else placement.shape
        if not _holds(encoding, fit.shape, wanted):
            axis = next((i for i, (a, b) in enumerate(zip(fit.shape, wanted, strict=False)) if a != b), len(wanted))
            self.problems.append(Problem("shape", f"{list(fit.shape)} values, the config asks for {list(wanted)} (axis {axis} differs)",
                                         f"{held.code.file}: {held.code.name}", "config.json is not of these weights, or the file is damaged"))
            return
        if fit.slices > 1:
            sliced = in_slices(placement, fit.slices)
            if sliced is None:
                self.problems.append(Problem("scale-shape", f"its scales restart in each of {fit.slices} equal slices, and its weights do not",
                                             f"{held.code.file}: {held.code.name}", "weighbridge inspect SRC shows its headers"))
                return
            placement = sliced
        stored = Stored(held.stem, candidate.suffix if encoding.quantized else _own_suffix(held), held.code.file, placement, encoding, dims=dims,
                        joined=fit.slices > 1)
        self.bound.append(Bound(stored, encoding, held.tensors))

    def _surplus(self) -> None:
        """Problems for tensors that belong to no weight."""
        self.problems += [_surplus(held, tensor, self.checkpoint.model_type)
                          for stem, held in self.held.items() if stem not in self.used for tensor in held.tensors.values()]
        self.problems.sort(key=lambda p: p.where)


def _own_suffix(held: StoredWeight) -> str:
    return ".weight" if ".weight" in held.tensors else ""


def _holds(encoding: Encoding, held: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a tensor of `held` values can be a weight of `wanted`: packed axes may be filled up to whole units."""
    if held == wanted:
        return True
    packing = encoding.code.packing
    if len(held) != 2 or len(wanted) != 2 or not packing.packed:
        return False
    axis, other = (1, 0) if packing.axis == -1 else (0, 1)
    return held[other] == wanted[other] and packing.units(held[axis]) == packing.units(wanted[axis])


def _of_no_model(checkpoint: Checkpoint) -> list[Problem]:
    """Of a family that nobody knows the files themselves speak; where no model is named at all, something is lost."""
    named = checkpoint.config.get("model_type")
    if isinstance(named, str) and named:
        return []
    says = f"is {brief(named)}, which names no model" if "model_type" in checkpoint.config else "is missing: nothing says which model these weights are of"
    return [Problem("model-type", says, "config.json: model_type", "put the config.json of the model beside its weights")]


def _unfit(held: StoredWeight) -> Problem:
    hints = {
        "weight-without-scale": "codes mean nothing without their scale: look whether the file that holds it is here",
        "scale-without-weight": "look whether the file that holds the weight is here",
        "scale-beside-float": "remove the scale if the weight holds real values",
        "no-block-size": "name its rows and columns, for example --block 128,128, or write weight_block_size into quantization_config",
        "no-group-size": "write group_size into the quantization_config of config.json",
        "scale-shape": "the block or group is read from the configuration; if it is another one, name it with --block",
        "encoding": "weighbridge inspect SRC shows what lies there",
    }
    return Problem(held.fit.code, held.fit.problem, f"{held.code.file}: {held.code.name or held.stem}", hints.get(held.fit.code, ""))


def _surplus(held: StoredWeight, tensor: Tensor, model_type: str) -> Problem:
    where = f"{tensor.file}: {tensor.name or held.stem}"
    if held.fit.code == "scale-without-weight":
        return Problem("scale-without-weight", "a scale whose weight is not here", where, "look whether the file that holds the weight is here")
    return Problem("surplus-tensor", f"{tensor.dtype} {list(tensor.shape)} belongs to no weight of {model_type}", where,
                   "remove it, or leave it out with --allow surplus-tensor")
