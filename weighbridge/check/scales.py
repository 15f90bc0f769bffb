"""What the bytes of the scales say: least, largest and odd values of every scale tensor.

The files are hostile: sizes come from checked headers, and a tensor may be empty. Scales are read by position into one buffer of bounded size,
neighbours together; they are not mapped, as mapped pages count as used memory, and a fault reads megabytes around it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from weighbridge.check.case import Case, per_case
from weighbridge.checkpoint.dtypes import BITS
from weighbridge.checkpoint.header import Tensor
from weighbridge.checkpoint.store import Store
from weighbridge.formats.match import CARRIED, roles
from weighbridge.formats.scheme import BY_DTYPE, Role
from weighbridge.formats.schemes import SCHEMES

if TYPE_CHECKING:
    import numpy as np

    from weighbridge.inspection.survey import Key

DTYPES = frozenset(BY_DTYPE) - {"F64"}
# Suffixes whose U8 values are exponents (MXFP8, MXFP4), as no element of their own is said; those of a quantized absmax of bitsandbytes are not.
EXPONENTS = frozenset(s for scheme in SCHEMES.values() for f in scheme.factors if f.role is Role.SCALE and not f.element and not f.flat for s in f.suffixes)
# Suffixes of scales that are largest magnitudes, not steps (bitsandbytes): their values are not judged.
MAGNITUDES = frozenset(s for scheme in SCHEMES.values() for f in scheme.factors if f.role is Role.SCALE and (f.flat or f.over != 1.0) for s in f.suffixes)
CHUNK = 8 << 20  # bytes that are read before they are decoded: 8 MB of bytes become at most 32 MB of floats
SAMPLE = 64  # tensors that are read from a store elsewhere
LIMIT = 256 << 20  # bytes; checkpoints in groups of 16 or 32 have scales of many GB, of which each kind is then read in parts
SMALL = 64  # bytes: single values are always read
MISSING = -1


class ScaleTensor(NamedTuple):
    """A scale tensor to be read: `size` bytes from `start`. `part` is weight, global, input or kv; `key` its name without the layer's number.

    Sources sort by their place in the files.
    """

    file: str
    start: int
    size: int
    dtype: str
    name: str
    part: str
    key: str
    tensor: Tensor


class Scales:
    """Statistics of the scale tensors that were read: arrays with one place for each of `sources`.

    `least` and `largest` are NaN where a value is NaN. `count` is the number of values. `powers` says that every value is a power of
    two. `total` tensors are in the files; `mode` is "all", "sample" or "none".
    """

    def __init__(self, mode: str, total: int, sources: list[ScaleTensor]) -> None:
        import numpy as np

        self.mode, self.total, self.sources = mode, total, sources
        size = len(sources)
        self.count = np.zeros(size, np.int64)
        self.least = np.full(size, np.nan, np.float32)
        self.largest = np.full(size, np.nan, np.float32)
        self.powers = np.zeros(size, bool)
        self.nan, self.infinite, self.zero, self.negative = (np.zeros(size, np.int64) for _ in range(4))
        self.places: dict[str, int] = {source.name: place for place, source in enumerate(sources)}

    @property
    def read(self) -> int:
        return len(self.sources)

    @cached_property
    def finite(self) -> np.ndarray:
        """Tensors with at least one value, and neither NaN nor infinity among them."""
        return (self.count > 0) & (self.nan == 0) & (self.infinite == 0)

    @cached_property
    def by_key(self) -> dict[tuple[str, str], list[int]]:
        """Places by (part, key): the same matrix in all layers, and all experts apart by number."""
        found: dict[tuple[str, str], list[int]] = {}
        for place, source in enumerate(self.sources):
            found.setdefault((source.part, source.key), []).append(place)
        return found

    @cached_property
    def _by_part(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for place, source in enumerate(self.sources):
            found.setdefault(source.part, []).append(place)
        return found

    def places_of(self, part: str) -> list[int]:
        return self._by_part.get(part, [])

    def value(self, name: str) -> float | None:
        """The one value of a tensor that holds one (or equal ones), or None."""
        place = self.places.get(name, MISSING)
        if place == MISSING or not self.finite[place] or self.least[place] != self.largest[place]:
            return None
        return float(self.least[place])

    @property
    def told(self) -> str:
        """How much was read, in words, empty where it is all."""
        return "" if self.read == self.total else f"{self.read:,} of {self.total:,} scale tensors were read"


@per_case
def scales_of(case: Case) -> Scales:
    """Least, largest and suspicious values of every scale tensor, from its bytes; read once for a case."""
    return read_scales(case)


def read_scales(case: Case) -> Scales:
    """Read as `case.scale_bytes` says: all, a sample (always for a store elsewhere), or none."""
    if case.scale_bytes == "none":
        return Scales("none", 0, [])
    found = sorted(sources(case))
    store = case.checkpoint.store
    near = all(store.path(file) is not None for file in case.checkpoint.headers)
    if not near or case.scale_bytes == "sample":
        chosen, mode = _sample(found, SAMPLE), "sample"
    elif sum(source.size for source in found) > LIMIT:
        chosen, mode = _within(found), "sample"
    else:
        chosen, mode = found, "all"
    chosen = chosen if chosen is found else sorted(chosen)
    scales = Scales(mode, len(found), chosen)
    for first, last in _chunks(chosen):
        _read_chunk(store, scales, first, last)
    return scales


def sources(case: Case) -> Iterator[ScaleTensor]:
    """Every scale tensor that holds values, in no order."""
    tensors = case.checkpoint.tensors
    for name, key in case.survey.keys.items():
        part = _part(name, key)
        if not part:
            continue
        exponents = part == "weight" and key.suffix in EXPONENTS
        for stored in key.names:
            tensor = tensors[stored]
            begin, end = tensor.data_offsets
            if tensor.dtype in DTYPES and end > begin and (tensor.dtype != "U8" or exponents):
                yield ScaleTensor(tensor.file, tensor.start, end - begin, tensor.dtype, stored, part, name, tensor)


def _part(name: str, key: Key) -> str:
    if key.what in ("scale", "orphan"):
        return "" if key.suffix in MAGNITUDES else "weight"
    if key.what != "helper":
        return ""
    if not key.suffix:
        return "kv" if name.rpartition(".")[2] in CARRIED and name.endswith("scale") else ""
    purpose = roles().get(key.suffix)
    if purpose in (Role.ACTIVATION, Role.ACTIVATION_DIVISOR):
        return "" if key.suffix.endswith("_ub") else "input"  # an upper bound is no scale
    return "global" if purpose in (Role.SCALE, Role.DIVISOR) and key.suffix.count(".") == 1 else ""


def _sample(found: list[ScaleTensor], most: int) -> list[ScaleTensor]:
    """First, middle and last of every key until `most`, the keys in turn."""
    groups: dict[str, list[ScaleTensor]] = {}
    for source in found:
        groups.setdefault(source.key, []).append(source)
    chosen: dict[str, ScaleTensor] = {}
    for pick in (0.0, 0.5, 1.0):
        for group in groups.values():
            if len(chosen) >= most:
                return list(chosen.values())
            one = group[int(pick * (len(group) - 1))]
            chosen.setdefault(one.name, one)
    return list(chosen.values())


def _within(found: list[ScaleTensor]) -> list[ScaleTensor]:
    """First, last and middle of every key in turn, while LIMIT holds. The keys stand in an order that mixes roles and experts."""
    groups: dict[str, list[ScaleTensor]] = {}
    for source in found:
        groups.setdefault(source.key, []).append(source)
    order = sorted(groups.values(), key=lambda group: zlib.crc32(group[0].key.encode()))
    chosen: dict[str, ScaleTensor] = {source.name: source for source in found if source.size <= SMALL}
    left = LIMIT - sum(source.size for source in chosen.values())
    for pick in (0.0, 1.0, 0.5, 0.25, 0.75):
        for group in order:
            one = group[int(pick * (len(group) - 1))]
            if one.name not in chosen and one.size <= left:
                chosen[one.name] = one
                left -= one.size
    return list(chosen.values())


def _chunks(chosen: list[ScaleTensor]) -> Iterator[tuple[int, int]]:
    """(first, last) places of runs of one file and one dtype, at most CHUNK bytes each (or one tensor)."""
    first = size = 0
    file = dtype = ""
    for place, (own, _, nbytes, kind, *_) in enumerate(chosen):
        if place > first and (size + nbytes > CHUNK or own != file or kind != dtype):
            yield first, place
            first, size = place, 0
        file, dtype = own, kind
        size += nbytes
    if chosen:
        yield first, len(chosen)


def _read_chunk(store: Store, scales: Scales, first: int, last: int) -> None:
    import numpy as np

    group = scales.sources[first:last]
    bounds = np.zeros(len(group) + 1, np.int64)
    np.cumsum([source.size for source in group], out=bounds[1:])
    if bounds[-1] > CHUNK:
        _read_large(store, scales, first)
        return
    buffer = np.empty(int(bounds[-1]), np.uint8)
    _fill(store, group, bounds.tolist(), buffer)
    dtype = group[0].dtype
    values = _decode(buffer, dtype)
    _summarize(scales, first, values, bounds // buffer_item(dtype))


def _read_large(store: Store, scales: Scales, place: int) -> None:
    """One tensor in pieces of CHUNK, whose statistics are put together."""
    import numpy as np

    source = scales.sources[place]
    part = Scales("all", 1, [source])
    for start in range(0, source.size, CHUNK):
        size = min(CHUNK, source.size - start)
        piece = source._replace(start=source.start + start, size=size)
        buffer = np.empty(size, np.uint8)
        _fill(store, [piece], [0, size], buffer)
        values = _decode(buffer, source.dtype)
        _summarize(part, 0, values, np.array([0, len(values)]))
        old = scales.count[place] > 0
        scales.least[place] = np.minimum(scales.least[place], part.least[0]) if old else part.least[0]
        scales.largest[place] = np.maximum(scales.largest[place], part.largest[0]) if old else part.largest[0]
        scales.powers[place] = part.powers[0] and (scales.powers[place] or not old)
        for name in ("count", "nan", "infinite", "zero", "negative"):
            getattr(scales, name)[place] += getattr(part, name)[0]
            getattr(part, name)[0] = 0


def _fill(store: Store, group: list[ScaleTensor], bounds: list[int], buffer: np.ndarray) -> None:
    """Read a run of tensors into `buffer`, neighbours in one go."""
    view = memoryview(buffer)
    store.fill(group[0].file, [(start, view[low:high]) for start, low, high in _runs(group, bounds)])


def _runs(group: list[ScaleTensor], bounds: list[int]) -> Iterator[tuple[int, int, int]]:
    """(place in the file, from, to in the buffer) of tensors that lie side by side."""
    begin, due = 0, group[0].start
    for place, (_, start, nbytes, *_) in enumerate(group):
        if start != due:
            yield group[begin].start, bounds[begin], bounds[place]
            begin = place
        due = start + nbytes
    yield group[begin].start, bounds[begin], bounds[-1]


def buffer_item(dtype: str) -> int:
    return BITS[dtype] // 8


def _decode(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Stored bytes as float32, by the element that a scale of this dtype has. A byte is an exponent."""
    from weighbridge.formats.codec import floats

    return floats(raw, dtype)


def _summarize(scales: Scales, first: int, values: np.ndarray, bounds: np.ndarray) -> None:
    import numpy as np

    starts, last = bounds[:-1], first + len(bounds) - 1
    with np.errstate(invalid="ignore"):
        least, largest = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    bits = np.bitwise_or.reduceat(values.view(np.uint32), starts)
    scales.count[first:last] = np.diff(bounds)
    scales.least[first:last], scales.largest[first:last] = least, largest
    scales.powers[first:last] = ((bits & np.uint32(0x7FFFFF)) == 0) & (least > 0) & np.isfinite(largest)
    # Odd values are rare: only their tensors are looked at one by one.
    for place in np.flatnonzero(~((least > 0) & np.isfinite(largest))):
        own = values[bounds[place] : bounds[place + 1]]
        scales.nan[first + place] = np.count_nonzero(np.isnan(own))
        scales.infinite[first + place] = np.count_nonzero(np.isinf(own))
        scales.zero[first + place] = np.count_nonzero(own == 0)
        scales.negative[first + place] = np.count_nonzero(own < 0)
        sound = own[np.isfinite(own) & (own > 0)]
        if len(sound) and not scales.nan[first + place] and not scales.infinite[first + place] and not scales.negative[first + place]:
            scales.powers[first + place] = not np.any(sound.view(np.uint32) & np.uint32(0x7FFFFF))


def values_of(case: Case, tensor: Tensor) -> np.ndarray | None:
    """All values of one scale tensor as float32, flat; None where they cannot be read whole."""
    import numpy as np

    if tensor.dtype not in DTYPES or not 0 < tensor.nbytes <= LIMIT:
        return None
    raw = case.read(tensor)
    return _decode(np.frombuffer(raw, np.uint8), tensor.dtype) if len(raw) == tensor.nbytes else None


def select(scales: Scales, places: Iterable[int], keep: Callable[[int], Any]) -> list[str]:
    """Names of those places for which `keep` holds."""
    return [scales.sources[place].name for place in places if keep(place)]
