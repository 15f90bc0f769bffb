"""One pass over all headers: every tensor is a weight, the scale of one, a helper, or a scale without a weight."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.header import Tensor
from weighbridge.formats.claim import Claims
from weighbridge.inspection.encodings import HELPERS, SCALE_WORDS, SCALES, Kind, read_kind
from weighbridge.inspection.roles import family_roles, keys_of, role_of

HELPER_ROLE = "helpers"  # zero points, global scales, shapes, rank numbers, and scales whose weight is not here


class Row(NamedTuple):
    """What one line of the report groups by."""

    role: str
    dtype: str
    strategy: str
    block: tuple[int, int] | None
    scale_suffix: str | None
    scale_dtype: str | None


class Sum:
    """Counts of one row. `bytes` are those of the weights and of their scales together."""

    __slots__ = ("bytes", "count", "parameters", "scale_bytes", "scales")

    def __init__(self) -> None:
        self.count = self.parameters = self.bytes = self.scales = self.scale_bytes = 0

    def add(self, other: Sum) -> None:
        for field in self.__slots__:
            setattr(self, field, getattr(self, field) + getattr(other, field))


class Pair(Sum):
    """All weights of one key whose headers are alike, and what these headers say."""

    __slots__ = ("kind", "row")

    def __init__(self, row: Row, kind: Kind) -> None:
        super().__init__()
        self.row, self.kind = row, kind


class Key:
    """What a key (a name without its layer number) says: found once, true for all layers.

    `stem` + `suffix` is the name of a weight; of a scale, `suffix` is its own ending and `stem` that of its weight.
    """

    __slots__ = ("names", "paired", "pairs", "role", "scales", "stem", "suffix", "what")

    def __init__(self, what: str, stem: str, suffix: str, role: str, scales: tuple[str, ...]) -> None:
        self.what, self.stem, self.suffix, self.role, self.scales = what, stem, suffix, role, scales
        self.pairs: dict[object, Pair] = {}
        self.names: list[str] = []  # of scales, to find those without a weight
        self.paired = 0  # scales that a weight has found


class Survey:
    """Rows, counts, the keys with their pairs, and every pair of headers that does not agree (`odd`)."""

    def __init__(self, checkpoint: Checkpoint, claims: Claims, *, keep: bool = False) -> None:
        self.checkpoint, self.claims = checkpoint, claims
        # With `keep`: each weight (by its key in `checkpoint.tensors`) with its scale, the scale's suffix, its key and pair. `check` asks for single weights, `inspect` does not.
        self.weights: list[tuple[str, Tensor, Tensor | None, str, Key, Pair]] | None = [] if keep else None
        self.neuron = bool(checkpoint.neuron_config or checkpoint.ranks) or any(".mlp_op." in name for name in checkpoint.tensors)
        self.roles, self.family_problem = family_roles(checkpoint.config)
        self.odd: dict[tuple[str, str], list[str]] = defaultdict(list)  # (code, message) -> names
        self.rows: dict[Row, Sum] = {}
        self.total = Sum()
        self.quantized = self.helpers = 0
        key_names = keys_of(checkpoint.tensors)
        self.keys = self._keys(dict.fromkeys(key_names))  # in the order of the files, not of hashes
        self._walk(key_names)
        for key in self.keys.values():
            if key.what == "weight":
                self._add(key)
        for key in self.keys.values():
            if len(key.names) != key.paired:
                self._add_beside(key)

    def _keys(self, names: dict[str, None]) -> dict[str, Key]:
        keys = {name: self._key(name, names) for name in names}
        for owner in list(keys.values()):
            for suffix in owner.scales:
                scale = keys[owner.stem + suffix]
                scale.what, scale.stem, scale.suffix, scale.role = "scale", owner.suffix, suffix, HELPER_ROLE
        return keys

    def _key(self, name: str, names: dict[str, None]) -> Key:
        module, _, leaf = name.rpartition(".")
        if leaf in HELPERS or leaf.startswith(("quant_state", "bitsandbytes__")):
            return Key("helper", module, "", HELPER_ROLE, ())
        if leaf in SCALE_WORDS:
            return Key("orphan", module, "", HELPER_ROLE, ())
        suffix = "." + leaf if "." + leaf in SCALES else "_blocks" if leaf.endswith("_blocks") else ""
        stem = name[: len(name) - len(suffix)]
        scales = tuple(s for s in SCALES[suffix] if stem + s in names)
        if suffix == "_blocks":
            module, _, leaf = stem.rpartition(".")
        role = self.roles.get(name) or role_of(module, "weight" if suffix.startswith(".") else leaf)
        return Key("weight", stem, suffix, role, scales)

    def _walk(self, key_names: list[str]) -> None:
        keys, tensors, weights = self.keys, self.checkpoint.tensors, self.weights
        for (name, tensor), key_name in zip(tensors.items(), key_names, strict=True):
            key = keys[key_name]
            if key.what != "weight":
                key.names.append(name)
                continue
            scale, suffix = None, ""
            for suffix in key.scales:
                scale = tensors.get(name[: len(name) - len(key.suffix)] + suffix)
                if scale is not None:
                    break
            heads = (tensor.dtype, tensor.shape) if scale is None else (tensor.dtype, tensor.shape, suffix, scale.dtype, scale.shape)
            pair = key.pairs.get(heads)
            if pair is None:
                pair = key.pairs[heads] = self._pair(key, tensor, scale, suffix)
            pair.count += 1
            if weights is not None:
                weights.append((name, tensor, scale, suffix, key, pair))
            if pair.kind.problem:
                self._odd(name, scale, pair.kind)

    def _pair(self, key: Key, tensor: Tensor, scale: Tensor | None, suffix: str) -> Pair:
        """A pair of headers is judged once: the 96,103 tensors of M2 have 784 of them."""
        beside = None if scale is None else (scale.dtype, scale.shape)
        kind = read_kind(tensor.dtype, tensor.shape, key.suffix, beside, suffix, self.claims, self.neuron)
        row = Row(key.role, tensor.dtype, kind.strategy, kind.block, *((suffix, scale.dtype) if scale is not None else (None, None)))
        pair = Pair(row, kind)
        pair.bytes, pair.scale_bytes = tensor.nbytes, scale.nbytes if scale is not None else 0
        return pair

    def _odd(self, name: str, scale: Tensor | None, kind: Kind) -> None:
        code = "scale-beside-float" if not kind.quantized else "weight-without-scale" if scale is None else "scale-shape"
        self.odd[code, kind.problem].append(name)

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

    def _add_beside(self, key: Key) -> None:
        """Helpers, and scales without a weight: neither is a weight, both have bytes."""
        tensors, names = self.checkpoint.tensors, key.names
        if key.what == "scale":
            names = [n for n in names if n[: len(n) - len(key.suffix)] + key.stem not in tensors]
        for name in names:
            tensor = tensors[name]
            each = Sum()
            each.count, each.bytes = 1, tensor.nbytes
            self.rows.setdefault(Row(HELPER_ROLE, tensor.dtype, "none", None, None, None), Sum()).add(each)
            self.total.bytes += tensor.nbytes
            self.helpers += 1
            if key.what != "helper":
                self.odd["scale-without-weight", f"a scale {tensor.dtype} {list(tensor.shape)} whose weight is not here"].append(name)
