"""Which stored weight a name stands for, which scheme it follows, and who says what block its scale has. Headers only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.header import Tensor
from weighbridge.errors import WeighbridgeError
from weighbridge.formats.claim import Claims, read_claims
from weighbridge.formats.element import CODED, PLAIN
from weighbridge.formats.match import StoredWeight, roles, split, stored_weights
from weighbridge.formats.scheme import BLOCK, GROUP, WHOLE, Encoding, Field, Role, Scheme, every_field, plain
from weighbridge.formats.schemes import SCHEMES
from weighbridge.models.roles import role_of

if TYPE_CHECKING:
    from weighbridge.layouts.placement import Part
    from weighbridge.plan.bind import Source

NEAR = 5  # names that an unknown one is told
FAR = 1 << 20  # a block as long as any axis, in the words of a claim


class Found(NamedTuple):
    """One stored weight. `corner` is (matrix, row, column), in the stored axes, of what the name stands for.

    `encoding` is that of its scheme; where none fits, of its codes alone, and `problem` says why. `slots`: the columns of a padded grid that count.
    """

    key: str
    held: StoredWeight
    encoding: Encoding
    shape: tuple[int, ...]
    slices: int
    claims: Claims
    neuron: bool
    says: str
    problem: str = ""
    slots: tuple[int, ...] | None = None
    corner: tuple[int, int, int] = (0, 0, 0)
    also: tuple[str, ...] = ()
    way: str = ""

    @property
    def weight(self) -> Tensor:
        """The tensor that holds the codes."""
        return self.tensor(self.encoding.code) or self.held.code

    def tensor(self, field: Field) -> Tensor | None:
        """The tensor of a field, under whichever of its names it lies."""
        return self.held.tensor(field)

    @property
    def scale(self) -> Tensor | None:
        """The tensor of the scale; where no scheme fits, the first one that a scheme takes for a scale."""
        if self.encoding.scale is not None:
            return self.tensor(self.encoding.scale)
        role_at = roles()
        return next((t for s, t in self.held.tensors.items() if role_at.get(s) in (Role.SCALE, Role.DIVISOR)), None)

    @property
    def role(self) -> str:
        """The part that the weight plays in the model, by its name."""
        stem, suffix = split(self.key)
        module, _, leaf = stem.rpartition(".")
        return role_of(stem, "weight") if suffix.startswith(".") else role_of(module, leaf)


def locate(checkpoint: Checkpoint, name: str, to: str = "neuron", block: tuple[int, int] | None = None) -> Found:
    """The stored weight that `name` stands for: a name of the source, of its scale, of its module, of the layout `to`, or a logical name.

    Raises WeighbridgeError: no such tensor (with names that are near), or a tensor that only helps to read another one.
    """
    groups = _groups(checkpoint.tensors)
    module = next((m for spelled in _spellings(name) for m in (spelled, split(spelled)[0]) if m in groups), None)
    return _through_plan(checkpoint, name, to, block) if module is None else _found(checkpoint, module, groups[module], block, name)


def _groups(names: Iterable[str]) -> dict[str, list[str]]:
    """Names of tensors by the module that they belong to."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(split(name)[0], []).append(name)
    return found


def stem(name: str) -> str:
    """The module of a name: without `model.` in front and without the ending of a weight or scale."""
    return split(name)[0].removeprefix("model.")


def _spellings(name: str) -> Iterator[str]:
    yield name
    for rank in ("", "tp0/"):
        for prefix in ("", "model."):
            yield rank + prefix + name.removeprefix("model.")


def _found(checkpoint: Checkpoint, module: str, names: list[str], block: tuple[int, int] | None, asked: str = "") -> Found:
    tensors = {name: checkpoint.tensors[name] for name in names}
    neuron = bool(checkpoint.neuron_config or checkpoint.ranks) or ".mlp_op." in module
    claims = _claims(checkpoint, block, neuron)
    held = stored_weights(tensors, claims, lambda tensor: checkpoint.store.read(tensor.file, tensor.start, tensor.nbytes))
    one = held.get(asked) or held.get(module) or next(iter(held.values()))
    encoding = one.fit.encoding
    if encoding is None or encoding.element not in (*PLAIN.values(), *CODED.values()) and not encoding.quantized:
        encoding = _codes_alone(one, claims)
    weight = one.tensor(encoding.code) or one.code
    key = next(name for name in names if tensors[name] is weight)
    shape = one.fit.shape if encoding is one.fit.encoding else encoding.code.filled_shape(weight.shape)
    found = Found(key, one, encoding, shape, one.fit.slices, claims, neuron, _says(checkpoint, encoding, claims, block),
                  one.fit.problem)
    return _as_bound(checkpoint, found) if neuron else found


def _claims(checkpoint: Checkpoint, block: tuple[int, int] | None, neuron: bool) -> Claims:
    """The claim, with the user's block in front; blocks of Neuron's files stand for the turned one and for whole rows and columns, too."""
    claims = read_claims(checkpoint)
    if block is not None:
        claims = replace(claims, blocks=(block, *claims.blocks), groups=(*((block[1],) if block[0] == 1 else ()), *claims.groups))
    if neuron:
        turned = [b[::-1] for b in claims.blocks]
        claims = replace(claims, method=claims.method or "neuron", blocks=tuple(dict.fromkeys([*claims.blocks, *turned, (1, FAR), (FAR, 1)])))
    return claims


def _codes_alone(held: StoredWeight, claims: Claims) -> Encoding:
    """The codes of a weight whose scale is not there or does not fit: by the first scheme that has such a tensor for its codes.

    Raises WeighbridgeError where the tensor is no weight, and where nothing says what its codes mean.
    """
    role_at = roles()
    weight = next((s for s in held.tensors if role_at.get(s, Role.CODE) is Role.CODE), None)
    first = held.code if weight is None else held.tensors[weight]
    where = f"{first.file}: {first.name}"
    if weight is None:
        scales = any(role_at[s] in (Role.SCALE, Role.DIVISOR) for s in held.tensors)
        what = "is a scale whose weight is not here" if scales else "helps to read a weight and is none"
        raise WeighbridgeError("no-weight", f"{first.dtype} {list(first.shape)} {what}", where, "name a weight")
    if first.dtype in PLAIN:
        return plain(first.dtype)
    widths = {claims.bits} if claims.bits else set()

    def far(scheme: Scheme) -> tuple[int, bool, bool, bool]:
        known = {s for field in every_field(scheme.fields) for s in field.suffixes}
        return len(held.tensors.keys() - known), claims.family not in scheme.methods, scheme.code.packing.width not in widths, scheme.code.packing.packed

    code = next((s.code for s in sorted(SCHEMES.values(), key=far) if weight in s.code.suffixes and first.dtype in s.code.dtypes), None)
    if code is None and first.dtype in CODED:
        code = Field(Role.CODE, (weight,), CODED[first.dtype], (first.dtype,))
    if code is None or code.flat:  # the shape of a flat weight lies in a tensor that could not be read
        told = f": {held.fit.problem}" if held.fit.problem else ""
        raise WeighbridgeError("not-decoded", f"{first.dtype} values are no float and no code that a scheme knows{told}", where,
                               "weighbridge inspect SRC shows its headers; weighbridge explain formats lists the schemes")
    return Encoding("", "none", code)


def _as_bound(checkpoint: Checkpoint, found: Found) -> Found:
    """What Neuron's layout knows of the tensor: its block, and the columns of a padded grid that count."""
    from weighbridge.plan.bind import bind

    try:
        bound = next((b for b in bind(checkpoint).bound if b.weight is found.weight), None)
    except WeighbridgeError:
        return found
    if bound is None or not bound.encoding.quantized:
        return found
    return found._replace(encoding=bound.encoding, problem="", slices=1, shape=found.weight.shape,
                          slots=tuple(bound.stored.scale_slots) if bound.stored.scale_slots else None)


def _says(checkpoint: Checkpoint, encoding: Encoding, claims: Claims, given: tuple[int, int] | None) -> str:
    """Who says which block the scale has."""
    scale, scheme = encoding.scale, SCHEMES.get(encoding.scheme)
    if scale is None or scheme is None:
        return ""
    sizes = next(f for f in scheme.factors if f.role is scale.role).block
    if given is not None and {BLOCK, GROUP} & set(sizes) and set(given) >= set(scale.block) - {1, WHOLE}:
        return "--block"
    if BLOCK in sizes:
        return _block_key(checkpoint, claims)
    if GROUP in sizes:
        return f"{claims.source}: group_size"
    fixed = max(sizes)
    return f"the format: {scheme.says.split(' ')[0].rstrip(',:')} shares one scale among {fixed} values" if fixed > 1 else f"the shape of the scale, {scheme.strategy} by {scheme.name}"


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
            return _of_tensor(checkpoint, key, block)._replace(corner=(part.lead, part.at_row, part.at_col), way=part.weight)
        hits = find(make_plan(source, to, Options(block=block or source.options.block)), name)
    except WeighbridgeError as error:
        near = _near(checkpoint, name)
        raise WeighbridgeError("no-such-tensor", "is no tensor of the source, of the destination, and no logical weight", name,
                               f"near it: {', '.join(near)}" if near else "weighbridge inspect SRC --tensors lists all names") from error
    fragments = [(piece, fragment) for _, piece in hits for fragment in piece.fragments]
    names = list(dict.fromkeys(source.bound[f.source].weight.name for _, f in fragments))
    piece, first = fragments[0]
    key = _key(checkpoint, source.bound[first.source].weight)
    return _of_tensor(checkpoint, key, block)._replace(corner=(first.lead, first.row, first.col), also=tuple(names[1:]), way=piece.part.weight)


def _by_inventory(source: Source, name: str) -> tuple[str, Part] | None:
    """The stored tensor, and the place in it, of a name under which the model's makers publish a weight, or of a logical name."""
    wanted = stem(name)
    logical = next((w.name for w in source.inventory.weights.values() if wanted in (w.name, stem(w.published))), "")
    for number, part in source.holders.get(logical, ()):
        return _key(source.checkpoint, source.bound[number].weight), part
    return None


def _of_tensor(checkpoint: Checkpoint, key: str, block: tuple[int, int] | None) -> Found:
    module = split(key)[0]
    return _found(checkpoint, module, [name for name in checkpoint.tensors if split(name)[0] == module], block, key)


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
