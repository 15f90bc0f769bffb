"""One pass over all headers: every tensor is a weight, belongs to one, or stands alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.header import Tensor
from weighbridge.formats.claim import Claims
from weighbridge.formats.kinds import kind_of_dtype
from weighbridge.formats.match import CARRIED, VALUE, Matcher, companions, roles, split
from weighbridge.formats.scheme import WHOLE, Role
from weighbridge.inspection.kind import WeightKind, read_kind
from weighbridge.inspection.roles import family_roles, keys_of, role_of

HELPER_ROLE = "helpers"  # zero points, global scales, shapes, rank numbers, and scales whose weight is not here
# Tensors without values of a weight that no scheme names: the order of compressed-tensors' groups, NxD's numbers of ranks and experts.
NUMBERS = frozenset({"weight_g_idx", "rank", "local_expert_indices"})


class SurveyRow(NamedTuple):
    """What one line of the report groups by."""

    role: str
    dtype: str
    strategy: str
    block: tuple[int, int] | None
    scale_suffix: str | None
    scale_dtype: str | None
    scheme: str | None = None
    kind: str = "plain"


class Sum:
    """Counts of one row. `bytes` are those of the weights and of their scales together."""

    __slots__ = ("bytes", "count", "parameters", "scale_bytes", "scales")

    def __init__(self) -> None:
        self.count = self.parameters = self.bytes = self.scales = self.scale_bytes = 0

    def add(self, other: Sum) -> None:
        for field in self.__slots__:
            setattr(self, field, getattr(self, field) + getattr(other, field))


class Pair(Sum):
    """All weights of one key whose headers are alike, and what these headers say. `shape` is the stored one, `scale_shape` () without a scale.

    `helpers` are the suffixes of the tensors beside the weight and its scale.
    """

    __slots__ = ("helpers", "kind", "row", "scale_shape", "shape")

    def __init__(self, row: SurveyRow, kind: WeightKind, weight: Tensor, scale: Tensor | None, beside: tuple[str, ...]) -> None:
        super().__init__()
        self.row, self.kind, self.shape = row, kind, weight.shape
        self.scale_shape: tuple[int, ...] = scale.shape if scale is not None else ()
        self.bytes, self.scale_bytes = weight.nbytes, scale.nbytes if scale is not None else 0
        self.helpers = tuple(suffix for suffix in beside if suffix != row.scale_suffix)


class Key:
    """What a key (a name without its layer number) says: found once, true for all layers.

    `stem` + `suffix` is the key. `what` is weight, scale, helper or orphan (a scale that has a weight in no layer); `owner` is the suffix of the
    weight that a scale or a helper belongs to, None where there is none.
    """

    __slots__ = ("helpers", "names", "owner", "paired", "pairs", "role", "scales", "stem", "suffix", "what")

    def __init__(self, what: str, stem: str, suffix: str, role: str) -> None:
        self.what, self.stem, self.suffix, self.role = what, stem, suffix, role
        self.owner: str | None = None
        self.scales: tuple[str, ...] = ()  # suffixes of scales that lie beside it in some layer
        self.helpers: tuple[str, ...] = ()  # and of other tensors
        self.pairs: dict[object, Pair] = {}
        self.names: list[str] = []  # of tensors that are no weights
        self.paired = 0  # scales that a weight has found

    def weight_name(self, name: str) -> str | None:
        """The name of the weight that a scale or a helper belongs to, by its own name."""
        return None if self.owner is None else name[: len(name) - len(self.suffix)] + self.owner


class Survey:
    """Rows, counts, the keys with their pairs, and every pair of headers that does not agree (`odd`)."""

    def __init__(self, checkpoint: Checkpoint, claims: Claims, *, keep: bool = False) -> None:
        self.checkpoint, self.claims = checkpoint, claims
        # With `keep`: each weight (by its key in `checkpoint.tensors`) with its scale, the scale's suffix, its key and pair. `check` asks for single weights, `inspect` does not.
        self.weights: list[tuple[str, Tensor, Tensor | None, str, Key, Pair]] | None = [] if keep else None
        self.neuron = bool(checkpoint.neuron_config or checkpoint.ranks) or any(".mlp_op." in name for name in checkpoint.tensors)
        self.matcher = Matcher(_turned(claims) if self.neuron else claims)
        self.roles, self.family_problem = family_roles(checkpoint.config)
        self.odd: dict[tuple[str, str], list[str]] = defaultdict(list)  # (code, message) -> names
        self.rows: dict[SurveyRow, Sum] = {}
        self.total = Sum()
        self.quantized = self.helpers = 0
        key_names = keys_of(checkpoint.tensors)
        self.keys = self._keys(dict.fromkeys(key_names))  # in the order of the files, not of hashes
        self._walk(key_names)
        for key in self.keys.values():
            if key.what == "weight":
                self._add(key)
        for key in self.keys.values():
            if key.what != "weight" and len(key.names) != key.paired:
                self._add_beside(key)

    def _keys(self, names: dict[str, None]) -> dict[str, Key]:
        keys = {name: self._key(name, names) for name in names}
        for owner in list(keys.values()):
            if owner.what != "weight":
                continue
            scales, others = companions(owner.suffix)
            owner.scales = tuple(s for s in scales if (key := keys.get(owner.stem + s)) is not None and key.what != "weight")
            owner.helpers = tuple(s for s in others if (key := keys.get(owner.stem + s)) is not None and key.what != "weight")
            for suffix in (*owner.scales, *owner.helpers):
                key = keys[owner.stem + suffix]
                if key.owner is None:
                    key.owner, key.what = owner.suffix, "scale" if suffix in owner.scales else "helper"
        return keys

    def _key(self, name: str, names: dict[str, None]) -> Key:
        stem, suffix = split(name)
        leaf = name.rpartition(".")[2]
        if leaf in CARRIED or leaf in NUMBERS:
            return Key("helper", name, "", HELPER_ROLE)
        purpose = roles().get(suffix, Role.CODE)
        if suffix and suffix[0] != "." and purpose is not Role.CODE and not any(stem + code in names for code in ("", "_blocks")):
            stem, suffix, purpose = name, "", Role.CODE  # `x_scale` belongs to an `x` alone
        if purpose is not Role.CODE:
            return Key("orphan" if purpose in VALUE and suffix in _outer() else "helper", stem, suffix, HELPER_ROLE)
        module, _, leaf = stem.rpartition(".")
        role = self.roles.get(name) or (role_of(stem, "weight") if suffix.startswith(".") else role_of(module, leaf))
        return Key("weight", stem, suffix, role)

    def _walk(self, key_names: list[str]) -> None:
        keys, tensors, weights = self.keys, self.checkpoint.tensors, self.weights
        for (name, tensor), key_name in zip(tensors.items(), key_names, strict=True):
            key = keys[key_name]
            if key.what != "weight":
                key.names.append(name)
                continue
            scale, chosen, stem = None, "", ""
            heads: tuple[object, ...] = (tensor.dtype, tensor.shape)
            if key.scales or key.helpers:
                stem = name[: len(name) - len(key.suffix)]
                for suffix in key.scales:
                    other = tensors.get(stem + suffix)
                    if other is not None:
                        heads += (suffix, other.dtype, other.shape)
                        if scale is None:
                            scale, chosen = other, suffix
                for suffix in key.helpers:
                    other = tensors.get(stem + suffix)
                    if other is not None:
                        heads += (suffix, other.dtype, other.shape)
            pair = key.pairs.get(heads)
            if pair is None:
                pair = key.pairs[heads] = self._pair(key, stem, tensor, scale, chosen)
            pair.count += 1
            if weights is not None:
                weights.append((name, tensor, scale, chosen, key, pair))
            if pair.kind.problem:
                self.odd[pair.kind.code, pair.kind.problem].append(name)

    def _pair(self, key: Key, stem: str, tensor: Tensor, scale: Tensor | None, chosen: str) -> Pair:
        """Equal headers are judged once: the 96,103 tensors of M2 have 784 of them."""
        tensors = self.checkpoint.tensors
        own = {key.suffix: tensor} | {s: other for s in (*key.scales, *key.helpers) if (other := tensors.get(stem + s)) is not None}
        kind = read_kind(self.matcher, key.suffix, own, scale)
        row = SurveyRow(key.role, tensor.dtype, kind.strategy, kind.block, *((chosen, scale.dtype) if scale is not None else (None, None)), kind.scheme or None,
                  kind.word(tensor.dtype))
        return Pair(row, kind, tensor, scale, tuple(own)[1:])

    def _add(self, key: Key) -> None:
        """Sum up one key. Equal headers have equal bytes, so a count is enough."""
        for pair in key.pairs.values():
            each = Sum()
            each.count, each.parameters = pair.count, pair.count * pair.kind.parameters
            if pair.row.scale_suffix:
                each.scales = pair.count
                self.keys[key.stem + pair.row.scale_suffix].paired += pair.count
            each.scale_bytes = pair.count * pair.scale_bytes
            each.bytes = pair.count * pair.bytes + each.scale_bytes
            self.rows.setdefault(pair.row, Sum()).add(each)
            self.total.add(each)
            self.quantized += pair.count if pair.kind.quantized else 0

    def alone(self, key: Key) -> list[str]:
        """Names of a key that are counted as no weight's scale: helpers, scales whose weight is not here, and a second scale beside another one."""
        if key.what != "scale":
            return key.names
        tensors, owner = self.checkpoint.tensors, self.keys[key.stem + (key.owner or "")]
        first = owner.scales[: owner.scales.index(key.suffix)] if key.suffix in owner.scales else ()
        return [name for name in key.names if key.weight_name(name) not in tensors
                or any(name[: len(name) - len(key.suffix)] + suffix in tensors for suffix in first)]

    def _add_beside(self, key: Key) -> None:
        """Helpers, and scales without a weight: neither is a weight, both have bytes."""
        tensors = self.checkpoint.tensors
        for name in self.alone(key):
            tensor = tensors[name]
            each = Sum()
            each.count, each.bytes = 1, tensor.nbytes
            self.rows.setdefault(SurveyRow(HELPER_ROLE, tensor.dtype, "none", None, None, None, None, kind_of_dtype(tensor.dtype)), Sum()).add(each)
            self.total.bytes += tensor.nbytes
            self.helpers += 1
            if key.what != "helper" and key.weight_name(name) not in tensors:
                self.odd["scale-without-weight", lone_scale(tensor)].append(name)


def lone_scale(tensor: Tensor) -> str:
    """What is wrong with a scale that has no weight."""
    return f"a scale {tensor.dtype} {list(tensor.shape)} whose weight is not here"


@cache
def _outer() -> frozenset[str]:
    """Suffixes of scales of weights, without those of scales."""
    return frozenset(s for code in ("", ".weight", ".weight_packed", ".qweight", "_blocks") for s in companions(code)[0])


def _turned(claims: Claims) -> Claims:
    """The claim of NxD's files: stored axes are turned for the experts, `exact` keeps the block along one axis only, and a row can have one scale."""
    turned = [size for r, c in claims.blocks for size in ((c, r), (1, c), (1, r))]
    return replace(claims, method="neuron", blocks=tuple(dict.fromkeys([*claims.blocks, *turned, (1, WHOLE), (WHOLE, WHOLE)])))
