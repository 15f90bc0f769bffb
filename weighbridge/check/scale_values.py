"""Scale values against the weights that they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from weighbridge.check.case import Case
from weighbridge.check.modules import Module
from weighbridge.check.scales import Scales, scales_of, values_of
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.schemes import SCHEMES
from weighbridge.inspection.kind import WeightKind

if TYPE_CHECKING:
    import numpy as np

SMALL = 1e-6  # scales above it are not looked at as too small
TOO_LARGE, TOO_SMALL = 300.0, 1e-4  # times what the fan-in allows
BANDS = 16  # blocks with a scale of zero whose codes are looked at
BAND = 1 << 20  # bytes of one of them
EACH = 1 << 16  # bytes of a scale that are compared with those of other experts
_EXPERT = re.compile(r"\.experts\.(\d+)\.")


def codes_under(case: Case, key: str) -> tuple[float, int] | None:
    """(largest magnitude of a code, inputs) of the weights whose scales have this key; None where no scheme says what their codes are."""
    kind = _kind(case, key)
    if kind is None or kind.encoding is None or not kind.scheme:
        return None
    element = ELEMENTS[kind.encoding.element]
    peak = float(1 << element.bits - 1) if element.kind in ("int", "offset") else element.largest  # about its zero point
    turned = SCHEMES[kind.scheme].turned and len(kind.shape) > 1
    return peak, kind.shape[-2 if turned else -1]


def coded_in_floats(case: Case, key: str) -> bool:
    """Whether the weights whose scales have this key hold FP8, FP6 or FP4 codes."""
    kind = _kind(case, key)
    return kind is not None and kind.encoding is not None and ELEMENTS[kind.encoding.element].kind == "float"


def _kind(case: Case, key: str) -> WeightKind | None:
    """What is known of the weights whose scales have this key: of the first of them whose codes are known."""
    found = case.survey.keys.get(key)
    if found is None or found.what != "scale":
        return None
    pairs = case.survey.keys[found.stem + (found.owner or "")].pairs.values()
    return next((p.kind for p in pairs if p.row.scale_suffix == found.suffix and p.kind.encoding is not None and p.kind.shape), None)


@dataclass(frozen=True, slots=True)
class Implausible:
    """A matrix (in all layers) whose scales give weights far too large or small. `scale` is the median, `weight` what it implies, `usual` what the fan-in allows."""

    names: list[str]
    scale: float
    weight: float
    usual: float
    reciprocal: float  # the largest weight if 1 / scale were stored

    @property
    def inverse(self) -> bool:
        """Whether the reciprocal is the likelier reading."""
        return self.scale > 1 and max(self.reciprocal / self.usual, self.usual / self.reciprocal) < self.weight / self.usual


def implausible(case: Case) -> list[Implausible]:
    """Matrices whose largest scale is above 1 in most layers, so that the weights exceed what their fan-in allows by TOO_LARGE; or below TOO_SMALL of it.

    A row of K weights that keeps the size of its input has values of about 1 / sqrt(K), and a largest one of a few times that. One scale above
    1 in a layer proves nothing, as outliers exist; the median over the layers does.
    """
    import numpy as np

    scales, found = scales_of(case), []
    if not scales.read or not bool(np.any(scales.finite & ((scales.largest > 1) | (scales.largest < SMALL) & (scales.largest > 0)))):
        return []
    for (part, key), places in scales.by_key.items():
        if part != "weight":
            continue
        sound = [place for place in places if scales.finite[place]]
        largest = np.median(scales.largest[sound]) if sound else 0.0
        if SMALL <= largest <= 1 or largest == 0 or bool(np.all(scales.least[sound] == 1)):
            continue
        codes = codes_under(case, key)
        if codes is None or scales.sources[sound[0]].tensor.dtype == "F8_E4M3":
            continue
        peak, fan_in = codes
        usual, middle = 4 / sqrt(max(1, fan_in)), float(np.median(scales.largest[sound]))
        if (middle > 1 and middle * peak > TOO_LARGE * usual) or 0 < middle * peak < TOO_SMALL * usual:
            found.append(Implausible([scales.sources[p].name for p in sound], middle, middle * peak, usual, peak / middle))
    return found


def ones(scales: Scales, part: str) -> tuple[list[str], int]:
    """(scale tensors of matrices all of whose scales are exactly 1, how many tensors of that part were read)."""
    total, one = len(scales.places_of(part)), scales.finite & (scales.least == 1) & (scales.largest == 1)
    if not total or not one.any():
        return [], total
    return [scales.sources[p].name for (own, _), places in scales.by_key.items() if own == part and one[places].all() for p in places], total


def vanishing(case: Case) -> tuple[list[str], str]:
    """(scale tensors that hold a zero over codes that are not zero, what was looked at). A zero over zero codes is a block of zeros."""
    import numpy as np

    scales, modules = scales_of(case), {m.path + m.scale_suffix: m for m in case.modules.all if m.scale is not None}
    bad: list[str] = []
    places = [int(p) for p in np.flatnonzero(scales.zero) if scales.sources[int(p)].part == "weight" and scales.sources[int(p)].tensor.dtype != "F8_E4M3"]
    left = 4 * BANDS
    for place in places:
        module = modules.get(scales.sources[place].name)
        if module is None or left <= 0:
            continue
        values = values_of(case, scales.sources[place].tensor)
        if values is None:
            continue
        zeros, width = _unpadded(module, values)
        left -= len(zeros)
        if any(_codes_under(case, module, int(index), width) for index in zeros):
            bad.append(scales.sources[place].name)
    return bad, f"{len(places):,} scale tensors hold a zero"


def _unpadded(module: Module, values: np.ndarray) -> tuple[np.ndarray, int]:
    """(places of at most BANDS zeros, columns of the grid), without padding: NxD's o_proj has more columns of scales than its weight, zero heads between."""
    import numpy as np

    grid, shape, block = module.scale.shape if module.scale is not None else (), module.weight.shape, module.kind.block
    width = grid[-1] if grid else 1
    if block is not None and len(grid) > 1 and len(shape) > 1 and width > (due := -(-shape[-1] // block[1])):
        rows = values.reshape(-1, width)
        real = (rows != 0).any(axis=0)
        if int(real.sum()) == due:
            values, width = rows[:, real].ravel(), due
    return np.flatnonzero(values == 0)[:BANDS], width


def _codes_under(case: Case, module: Module, index: int, width: int) -> bool:
    """Whether the block with that scale holds a code that is not zero. `width` is the number of columns of the grid."""
    import numpy as np

    shape, grid = module.weight.shape, module.scale.shape if module.scale is not None else ()
    columns = shape[-1] if shape else 1
    known = module.kind.encoding
    if known is None or known.code.packing.packed or ELEMENTS[known.element].kind != "float" or ELEMENTS[known.element].bits != 8 or not columns:
        return False
    if module.kind.strategy == "tensor" or len(shape) < 2:
        first, rows, left, wide = 0, max(1, BAND // columns), 0, columns
    elif len(grid) < 2:
        first, rows, left, wide = index, 1, 0, columns
    else:
        block = module.kind.block or (1, columns)
        lead, row, column = index // (width * grid[-2]), index // width % grid[-2], index % width
        first, rows, left, wide = lead * shape[-2] + row * block[0], block[0], column * block[1], block[1]
    raw = np.frombuffer(case.read(module.weight, first * columns, min(BAND, rows * columns)), np.uint8)
    band = raw[: len(raw) // columns * columns].reshape(-1, columns)[:, left : left + wide]
    return bool(np.any(band & 0x7F))


def averaged(case: Case) -> Iterator[tuple[str, list[str], str]]:
    """(what, names, evidence): one scale for all experts of a layer, by shape or by value."""
    for module in case.modules.parts.get("experts.gate_up", []) + case.modules.parts.get("experts.down", []) + case.modules.parts.get("experts.gate", []):
        shape, scale = module.weight.shape, module.scale
        if len(shape) != 3 or shape[0] < 2 or scale is None:
            continue
        if module.kind.strategy == "tensor" and scale.parameters == 1 or (len(scale.shape) == 3 and scale.shape[0] == 1):
            yield "shape", [module.path + module.scale_suffix], f"scale {list(scale.shape)} for {shape[0]:,} experts {list(shape)}"
        elif scale.shape[0] == shape[0] and case.scale_bytes != "none" and scale.nbytes <= 4 << 20 and _slices_equal(case, scale):
            yield "value", [module.path + module.scale_suffix], f"all {shape[0]:,} experts of the scale {list(scale.shape)} hold the same numbers"
    yield from _equal_experts(case)


def _slices_equal(case: Case, scale: Tensor) -> bool:
    import numpy as np

    values = values_of(case, scale)
    if values is None or np.all(values == 1) or np.all(values == 0):
        return False
    return bool(np.all(values.reshape(scale.shape[0], -1) == values.reshape(scale.shape[0], -1)[0])) and not _powers(values)


def _powers(values: np.ndarray) -> bool:
    import numpy as np

    return bool(np.all((values.view(np.uint32) & np.uint32(0x7FFFFF)) == 0))


def _equal_experts(case: Case) -> Iterator[tuple[str, list[str], str]]:
    """Experts that lie apart: the same scales in all, layer by layer. Powers of two may be equal by chance."""
    import numpy as np

    scales = scales_of(case)
    groups: dict[str, list[list[int]]] = {}
    for (part, key), places in scales.by_key.items():
        if part == "weight" and (found := _EXPERT.search(key)):
            groups.setdefault(key[: found.start(1)] + "#" + key[found.end(1):], []).append(places)
    for members in groups.values():
        if len(members) < 4 or len({len(places) for places in members}) != 1:
            continue
        first = _bounds(scales, members[0])
        if np.isnan(first).any() or np.all(first == 1) or np.all(first == 0) or np.all(scales.powers[members[0]]):
            continue
        if all(np.array_equal(_bounds(scales, places), first) for places in members[1:]) and _same_bytes(case, members):
            names = [scales.sources[p].name for places in members for p in places]
            yield "value", names, f"{len(members):,} experts with the same scales, {first[0][0]:.4g} to {first[1][0]:.4g} in the first layer"


def _same_bytes(case: Case, members: list[list[int]]) -> bool:
    """Whether the bytes are equal, too: of eight experts, in the first and the last layer."""
    scales = scales_of(case)
    picked = [sorted((scales.sources[p] for p in places), key=lambda s: (len(s.name), s.name)) for places in members[:8]]
    return all(len({case.read(group[layer].tensor, 0, EACH) for group in picked}) == 1 for layer in (0, -1))


def _bounds(scales: Scales, places: list[int]) -> np.ndarray:
    import numpy as np

    return np.stack([np.sort(scales.least[places]), np.sort(scales.largest[places])])
