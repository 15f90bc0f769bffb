"""Which scheme each stored weight follows: from the names, dtypes and shapes of its tensors, and from what the configuration claims.

Tensors that belong together share a stem (`model.layers.0.mlp.up_proj`) and differ in suffix. Headers that are alike are judged once. A block or a
group is claimed, never derived: another one can have the same number of scales.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from math import prod
from typing import NamedTuple

import msgspec

from weighbridge.checkpoint.dtypes import BITS, FP8
from weighbridge.checkpoint.header import Tensor
from weighbridge.formats.claim import Claims
from weighbridge.formats.element import ELEMENTS, PLAIN
from weighbridge.formats.scheme import BLOCK, GROUP, WHOLE, Encoding, Field, Form, Role, Scheme, every_field, filled, plain
from weighbridge.formats.schemes import SCHEMES

# Scales of activations and of the key/value cache that lie under names of their own: they are carried along, and are no weights.
CARRIED = frozenset({"k_scale", "v_scale", "q_scale", "kv_scale", "output_scale", "k_bias", "v_bias", "prob_output_scale"})
SHAPE = ".weight_shape"
_BARE = ("_blocks", "_scales", "_scale_inv", "_scale")  # suffixes without a dot
NO_SIZE = {"block": "no-block-size", "group": "no-group-size"}  # codes of problems
_SLICES = (2, 4, 8, 16)  # a file that was cut for so many ranks first restarts its grid in each slice
Heads = tuple[tuple[str, str, tuple[int, ...]], ...]  # (suffix, dtype, shape), sorted


class Fit(NamedTuple):
    """What equal headers say. `shape` counts values, in stored axes; `slices` is how often the grid restarts along the rows.

    `problem` is empty where a scheme fits, else why none does, with the numbers that disagree; `code` names it for findings.
    """

    encoding: Encoding | None
    shape: tuple[int, ...]
    slices: int = 1
    code: str = ""
    problem: str = ""


class StoredWeight(NamedTuple):
    """A stored weight: all tensors of one stem, by suffix, and the scheme that they follow."""

    stem: str
    tensors: dict[str, Tensor]
    fit: Fit

    @property
    def code(self) -> Tensor:
        """The tensor that holds the codes."""
        encoding = self.fit.encoding
        for field in (encoding.code,) if encoding else ():
            for suffix in field.suffixes:
                if suffix in self.tensors:
                    return self.tensors[suffix]
        return next(iter(self.tensors.values()))

    def tensor(self, field: Field) -> Tensor | None:
        """The tensor of a field, under whichever of its names it lies."""
        return next((self.tensors[s] for s in field.suffixes if s in self.tensors), None)


@cache
def _suffixes() -> tuple[frozenset[str], frozenset[str]]:
    """Last words of suffixes with one dot, and suffixes with more."""
    every = {s for scheme in SCHEMES.values() for field in every_field(scheme.fields) for s in field.suffixes}
    return frozenset(s[1:] for s in every if s.startswith(".") and s.count(".") == 1), frozenset(s for s in every if s.count(".") > 1)


# Roles whose fields are parts of a weight's value.
VALUE = frozenset({Role.SCALE, Role.DIVISOR, Role.ZERO, Role.ORDER, Role.OFFSET})


@cache
def roles() -> dict[str, Role]:
    """What a tensor of each known suffix does; where schemes disagree, what has a part in the value comes first."""
    found: dict[str, Role] = {}
    for role in reversed(Role):
        found |= {suffix: role for scheme in SCHEMES.values() for field in every_field(scheme.fields) if field.role is role for suffix in field.suffixes}
    return found


@cache
def companions(suffix: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(scales, other tensors) that may lie beside codes under `suffix`, by their own suffixes: the scales that are met first come first."""
    fields = [f for scheme in SCHEMES.values() if suffix in scheme.code.suffixes for f in scheme.factors]
    scales = dict.fromkeys(s for f in fields if f.role in (Role.SCALE, Role.DIVISOR) for s in f.suffixes)
    others = dict.fromkeys(s for f in every_field(fields) for s in f.suffixes if s not in scales)
    return tuple(scales), tuple(others)


def split(name: str) -> tuple[str, str]:
    """(stem, suffix) of a tensor's name, which they make up together; what no scheme names has an empty suffix."""
    words, dotted = _suffixes()
    stem, dot, last = name.rpartition(".")
    if dot and last in words:
        return stem, "." + last
    stem, between, behind = name.partition(".weight.")
    if between and between + behind in dotted:
        return stem, between + behind
    for bare in _BARE:
        if last.endswith(bare) and last != bare:
            return name[: -len(bare)], bare
    return name, ""


def stored_weights(tensors: Mapping[str, Tensor], claims: Claims, read: Callable[[Tensor], bytes] | None = None) -> dict[str, StoredWeight]:
    """Every stem with its scheme. `read` gives the bytes of a tensor, where a scheme keeps its sizes in one (bitsandbytes)."""
    grouped: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        stem, suffix = split(name)
        grouped.setdefault(stem, {})[suffix] = tensor
    _separate_bare(grouped)
    fits: dict[Heads, Fit] = {}
    matcher = Matcher(claims)
    found: dict[str, StoredWeight] = {}
    for stem, own in grouped.items():
        heads = tuple((suffix, t.dtype, t.shape) for suffix, t in own.items()) if len(own) == 1 else tuple(
            sorted((suffix, t.dtype, t.shape) for suffix, t in own.items()))
        fit = fits.get(heads)
        if fit is None:
            fit = matcher.fit(heads, own, read)
            if not matcher.reads(own):
                fits[heads] = fit
        found[stem] = StoredWeight(stem, own, fit)
    return found


def _separate_bare(grouped: dict[str, dict[str, Tensor]]) -> None:
    """`x_scales` is a scale only beside `x_blocks` or `x`; else it is a tensor of its own name."""
    for stem, own in list(grouped.items()):
        bare = [s for s in own if s in _BARE]
        if bare and not ({"_blocks", ""} & own.keys()):
            for suffix in bare:
                grouped.setdefault(stem + suffix, {})[""] = own.pop(suffix)
            if not own:
                del grouped[stem]


class Matcher:
    """Judges headers under one claim: schemes of the claimed method come first."""

    def __init__(self, claims: Claims) -> None:
        self.claims = claims
        family = claims.family
        self.ordered = sorted(SCHEMES.values(), key=lambda s: family not in s.methods)  # stable: the table's order otherwise
        # Words of another width hold another number of codes, and their headers may look the same.
        if claims.widths:
            self.ordered = [s for s in self.ordered if s.code.dtype != "I32" or ELEMENTS[s.code.element].bits in claims.widths]
        self.blocks: list[tuple[int, int] | None] = [*claims.blocks]
        self.groups: list[int] = [*claims.groups]

    def reads(self, own: Mapping[str, Tensor]) -> bool:
        """Whether the size of a weight lies in a tensor of its own: then equal headers need not mean equal weights."""
        return ".weight.absmax" in own or len(self.claims.widths) != 1 and SHAPE in own

    def judge(self, own: Mapping[str, Tensor], read: Callable[[Tensor], bytes] | None = None) -> Fit:
        """What the tensors of one weight, by suffix, say together."""
        return self.fit(tuple(sorted((suffix, t.dtype, t.shape) for suffix, t in own.items())), own, read)

    def code_of(self, suffix: str, dtype: str, beside: Iterable[str] = ()) -> Field | None:
        """The codes that a tensor holds by its suffix and dtype alone: of a scheme that has one of the tensors `beside`, else of the first one."""
        fitting = [s for s in self.ordered if suffix in s.code.suffixes and dtype in s.code.dtypes and not s.code.flat]
        others = {s for s in beside if s != suffix}
        near = [s for s in fitting if any(others & set(f.suffixes) for f in s.factors if f.weighs)]
        return next((s.code for s in near or fitting), None) if near or suffix != ".weight" or dtype in FP8 else None

    def fit(self, heads: Heads, own: Mapping[str, Tensor], read: Callable[[Tensor], bytes] | None) -> Fit:
        present = {suffix: (dtype, shape) for suffix, dtype, shape in heads}
        if len(present) == 1:
            (suffix, (dtype, shape)), = present.items()
            return self._alone(suffix, dtype, shape)
        near: list[tuple[Scheme, str]] = []
        blocked: list[Encoding] = []
        unclaimed: dict[str, str] = {}
        for scheme in self.ordered:
            dtypes = _dtypes(scheme, present)
            if dtypes is None:
                continue
            if scheme.refused:
                return Fit(None, (), code="encoding", problem=scheme.refused)
            shape = _true_shape(scheme, present, own, read)
            if self.reads(own) and SHAPE in own and not _states(own[SHAPE], scheme, shape, read):
                near.append((scheme, f"{scheme.name}: its {SHAPE.lstrip('.')} says another size than {list(shape)}"))
                continue
            for block, group in self._sizes(scheme):
                encoding = _filled(scheme.name, block, group, dtypes)
                fit = _fitting(encoding, shape, present)
                if isinstance(fit, Fit):
                    return fit
                near.append((scheme, fit))
                blocked += [encoding] if _needs(scheme, BLOCK) else []
            if not self._sizes(scheme):
                unclaimed.setdefault("block" if _needs(scheme, BLOCK) else "group", scheme.says)
        sliced = (_sliced(encoding, _true_shape(SCHEMES[encoding.scheme], present, own, read), present) for encoding in blocked)
        found = next(filter(None, sliced), None)
        if found is not None:
            return found
        if unclaimed:
            return Fit(None, shape, code=NO_SIZE[next(iter(unclaimed))], problem="; ".join(_unclaimed(size, says) for size, says in unclaimed.items()))
        return _unexplained(present, self._nearest(near, present))

    def _nearest(self, near: list[tuple[Scheme, str]], present: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[str]:
        """The reasons of the schemes that are meant: of the claimed method, where any is; without those of one scale, where there are many."""
        for meant in (lambda s: self.claims.family in s.methods,
                      lambda s: s.strategy != "tensor" or all(prod(present[x][1]) == 1 for f in s.factors for x in f.suffixes if f.weighs and x in present)):
            near = [(scheme, text) for scheme, text in near if meant(scheme)] or near
        return [text for _, text in near]

    def _alone(self, suffix: str, dtype: str, shape: tuple[int, ...]) -> Fit:
        """A tensor without companions: its values themselves, or codes that have lost their scale."""
        if suffix in (".weight", "") and dtype not in FP8 and dtype not in ("F4", "F6_E2M3", "F6_E3M2", "F8_E8M0"):
            return Fit(plain(dtype), shape)
        if suffix in (".weight", "", ".weight_packed", "_blocks", ".qweight"):
            scales = self._scales_of(suffix, dtype)
            return Fit(None, shape, code="weight-without-scale", problem=f"{dtype} {list(shape)} without a scale{f' (no {scales} beside it)' if scales else ''}")
        return Fit(None, shape, code="scale-without-weight", problem=f"{suffix.lstrip('._')} {dtype} {list(shape)} without its weight")

    def _scales_of(self, suffix: str, dtype: str) -> str:
        """The names under which the claimed method, or else any, keeps the scales of such codes."""
        fits = [s for s in self.ordered if suffix in s.code.suffixes and dtype in s.code.dtypes]
        claimed = [s for s in fits if self.claims.family in s.methods] or fits
        names = dict.fromkeys(f.suffix.lstrip("._") for s in claimed for f in s.factors if f.role in (Role.SCALE, Role.DIVISOR))
        return " or ".join(names)

    def _sizes(self, scheme: Scheme) -> list[tuple[tuple[int, int] | None, int]]:
        blocks = self.blocks if _needs(scheme, BLOCK) else [None]
        groups = self.groups if _needs(scheme, GROUP) else [0]
        return [(block, group) for block in blocks for group in groups]


def _unclaimed(size: str, says: str) -> str:
    keys = "weight_block_size" if size == "block" else "group_size"
    return f"the configuration claims no size of a {size} ({keys}), and its scales do not say it: other sizes have as many ({says})"


def _needs(scheme: Scheme, size: int) -> bool:
    return any(size in field.block for field in every_field(scheme.fields))


def _dtypes(scheme: Scheme, present: Mapping[str, tuple[str, tuple[int, ...]]]) -> tuple[tuple[str, str], ...] | None:
    """The stored dtype of each field, by the field's first suffix; None where names or dtypes are not this scheme's."""
    left = set(present)
    found = []
    for field in every_field(scheme.fields):
        suffix = next((s for s in field.suffixes if s in left), None)
        if suffix is None:
            if field.optional:
                continue
            return None
        left.discard(suffix)
        dtype = present[suffix][0]
        if dtype not in field.dtypes:
            return None
        found.append((field.suffix, dtype))
    return tuple(found) if not left else None


@cache
def _filled(name: str, block: tuple[int, int] | None, group: int, dtypes: tuple[tuple[str, str], ...]) -> Encoding:
    """One object for equal encodings: plans look ways up by it."""
    return filled(SCHEMES[name], block, group, dict(dtypes))


def _true_shape(scheme: Scheme, present: Mapping[str, tuple[str, tuple[int, ...]]], own: Mapping[str, Tensor],
                read: Callable[[Tensor], bytes] | None) -> tuple[int, ...]:
    """The shape in values of the codes' tensor, filled up to whole units."""
    code = scheme.code
    stored = present[next(s for s in code.suffixes if s in present)][1]
    if Form.FLAT in code.forms:
        return _quant_state_shape(own, read) if read is not None else (1, prod(stored) * code.packing.values)
    return code.filled_shape(stored)


def _quant_state_shape(own: Mapping[str, Tensor], read: Callable[[Tensor], bytes] | None) -> tuple[int, ...]:
    """bitsandbytes writes the shape into a tensor of JSON; a hostile one gives no shape."""
    state = next((t for suffix, t in own.items() if "quant_state" in suffix), None)
    if state is None or state.nbytes > 4096:
        return ()
    try:
        shape = msgspec.json.decode(read(state)).get("shape")
    except (msgspec.DecodeError, AttributeError, RecursionError, UnicodeDecodeError):
        return ()
    good = isinstance(shape, list) and 1 <= len(shape) <= 2 and all(isinstance(s, int) and 0 < s <= 1 << 31 for s in shape)
    return tuple(shape) if good else ()


def _states(tensor: Tensor, scheme: Scheme, shape: tuple[int, ...], read: Callable[[Tensor], bytes] | None) -> bool:
    """Whether the stored [rows, columns] of a weight can be those of `shape`, which is filled up to whole words. What cannot be read says nothing."""
    if read is None or tensor.nbytes > 64 or tensor.dtype not in ("I64", "I32") or len(shape) != 2:
        return True
    size = BITS[tensor.dtype] // 8
    raw = read(tensor)
    stated = [int.from_bytes(raw[at : at + size], "little", signed=True) for at in range(0, len(raw), size)]
    packing = scheme.code.packing
    return len(stated) == 2 and min(stated) > 0 and stated[0] == shape[0] and packing.units(stated[1]) == packing.units(shape[1])


def _fitting(encoding: Encoding, shape: tuple[int, ...], present: Mapping[str, tuple[str, tuple[int, ...]]]) -> Fit | str:
    """A fit, or the first field whose shape is another one, in words."""
    if not shape:
        return f"{encoding.scheme}: the shape of the weight cannot be read"
    wrong = _first_wrong(encoding, shape, present)
    return Fit(encoding, shape) if wrong is None else wrong


def _sliced(encoding: Encoding, shape: tuple[int, ...], present: Mapping[str, tuple[str, tuple[int, ...]]]) -> Fit | None:
    """A fit of a grid of blocks that begins anew in each slice of the rows."""
    if len(shape) != 2 or not encoding.block or encoding.block[0] <= 1:
        return None
    slices = (n for n in _SLICES if shape[0] % n == 0 and _first_wrong(encoding, (shape[0] // n, shape[1]), present, n) is None)
    found = next(slices, 0)
    return Fit(encoding, shape, found) if found else None


def _counted(fields: Iterable[Field], shape: tuple[int, ...]) -> Iterable[tuple[Field, tuple[int, ...]]]:
    """Every field with the shape of what it holds for: an inner one holds for the grid of the field around it, where that has blocks of its own."""
    for field in fields:
        yield field, shape
        grid = (*shape[:-2], *field.grid(*shape[-2:])) if len(shape) > 1 else shape
        yield from ((inner, grid if inner.flat else shape) for inner in field.inner)


def _first_wrong(encoding: Encoding, shape: tuple[int, ...], present: Mapping[str, tuple[str, tuple[int, ...]]], slices: int = 1) -> str | None:
    for field, counted in _counted(encoding.fields, shape):
        suffix = next((s for s in field.suffixes if s in present), None)
        if suffix is None or field.role in (Role.NOTE, Role.OFFSET):
            continue
        stored = present[suffix][1]
        wanted = field.shapes(counted)
        if slices > 1:
            wanted = tuple((w[0] * slices, *w[1:]) for w in wanted if w)
        elif len(shape) > 2 and field.block == (WHOLE, WHOLE):
            wanted = (*wanted, (1,), ())  # one for the whole stack
        if stored not in wanted and not _wider(encoding, stored, wanted):
            size = f"block {encoding.block[0]}x{encoding.block[1]} " if encoding.block and WHOLE not in encoding.block else ""
            return f"{suffix.lstrip('._')} is {list(stored)}, a weight of {list(shape)} values needs {' or '.join(str(list(w)) for w in wanted)} ({size}{encoding.scheme})"
    return None


def _wider(encoding: Encoding, stored: tuple[int, ...], wanted: tuple[tuple[int, ...], ...]) -> bool:
    """Whether a grid of scales per row is a padded one: NxD pads o_proj's grid for heads that are not there, and stores the weight without them."""
    return (SCHEMES[encoding.scheme].padded and encoding.block is not None and encoding.block[0] == 1
            and any(len(w) == len(stored) == 2 and w[0] == stored[0] and stored[1] > w[1] for w in wanted))


def _unexplained(present: Mapping[str, tuple[str, tuple[int, ...]]], near: list[str]) -> Fit:
    weight = next((s for s in (".weight", ".weight_packed", ".qweight", "_blocks", "") if s in present), None)
    if weight is None:
        names = ", ".join(s.lstrip("._") for s in present)
        return Fit(None, (), code="scale-without-weight", problem=f"{names} without the weight that it belongs to")
    dtype, shape = present[weight]
    others = {s: v for s, v in present.items() if s != weight}
    scales = [s for s in others if roles()[s] in VALUE]
    if dtype in PLAIN:
        suffix = (scales or list(others))[0]
        return Fit(None, shape, code="scale-beside-float" if scales else "activation-beside-float",
                   problem=f"{dtype} weight with {suffix.lstrip('._')} {list(others[suffix][1])} beside it: is it decoded already?")
    if not scales and dtype in FP8:
        return Fit(None, shape, code="weight-without-scale", problem=f"{dtype} {list(shape)} without a scale")
    if near:
        return Fit(None, shape, code="scale-shape", problem="; ".join(dict.fromkeys(near)))
    listed = ", ".join(f"{s.lstrip('._') or 'weight'} {d} {list(v)}" for s, (d, v) in sorted(present.items()))
    return Fit(None, shape, code="encoding", problem=f"no scheme is known for {listed}")
