"""A sample of FP8 codes: how far each block reaches, and how many codes are NaN or above 240.

Small checkpoints are looked at whole. Of large ones the first rows of a few weights of each role are read, from the first, the middle and
the last layer; findings state the sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from weighbridge.check.case import Case, per_case
from weighbridge.check.modules import Module

if TYPE_CHECKING:
    import numpy as np

WHOLE = 32 << 20  # bytes of FP8 weights that are read to the last
EACH = 512 << 10  # bytes of one weight of a larger checkpoint
FAR_EACH, FAR_MOST = 64 << 10, 12  # of a store elsewhere
FORMATS = ("F8_E4M3",)


@dataclass(frozen=True, slots=True)
class Codes:
    """What was seen of one weight. `peaks` holds the largest magnitude (code without its sign) of each whole block seen that is not all zero.

    `above` counts magnitudes of 0x78 and more (256 to 448, and NaN), `nan` 0x7F, `minus_zero` 0x80.
    """

    module: Module
    bytes: int
    peaks: np.ndarray
    nan: int
    above: int
    minus_zero: int


@per_case
def codes(case: Case) -> list[Codes]:
    """Samples, read once for a case; none where the user wants no bytes read."""
    if case.scale_bytes == "none":
        return []
    return [seen for module, length in _chosen(case) if (seen := _look(case, module, length))]


def told(seen: list[Codes], case: Case) -> str:
    """The size of the sample in words."""
    return f"{sum(s.bytes for s in seen):,} codes of {len(seen):,} of {sum(1 for m in case.modules.all if m.weight.dtype in FORMATS):,} FP8 weights read"


def _chosen(case: Case) -> list[tuple[Module, int]]:
    """(weight, bytes to read from its start)."""
    all_fp8 = [m for m in case.modules.all if m.weight.dtype in FORMATS and m.weight.nbytes]
    near = all(case.checkpoint.store.path(file) is not None for file in case.checkpoint.headers)
    if near and sum(m.weight.nbytes for m in all_fp8) <= WHOLE:
        return [(m, m.weight.nbytes) for m in all_fp8]
    roles: dict[str, list[Module]] = {}
    for module in all_fp8:
        roles.setdefault(module.role, []).append(module)
    picked: dict[str, Module] = {}
    for part in (0.0, 1.0, 0.5):
        for group in roles.values():
            one = group[int(part * (len(group) - 1))]
            picked.setdefault(one.weight.name, one)
    return [(m, EACH) for m in picked.values()] if near else [(m, FAR_EACH) for m in list(picked.values())[:FAR_MOST]]


def _look(case: Case, module: Module, length: int) -> Codes | None:
    import numpy as np

    shape = module.weight.shape
    columns = max(1, shape[-1]) if shape else 1
    length = min(module.weight.nbytes, length)
    raw = np.frombuffer(case.read(module.weight, 0, length // columns * columns or length), np.uint8)
    if not len(raw):
        return None
    magnitude = raw & 0x7F
    high = magnitude >= 0x78
    above = int(np.count_nonzero(high))
    nan = int(np.count_nonzero(magnitude == 0x7F)) if above else 0
    return Codes(module, len(raw), _peaks(magnitude, module, columns), nan, above, int(np.count_nonzero(raw == 0x80)))


def _peaks(magnitude: np.ndarray, module: Module, columns: int) -> np.ndarray:
    """Largest magnitude of each block that was seen whole, without the blocks of zeros."""
    import numpy as np

    shape, kind = module.weight.shape, module.kind
    if kind.strategy == "tensor" and len(magnitude) == module.weight.nbytes:
        peaks = magnitude.max(keepdims=True)
    elif len(shape) < 2 or kind.strategy not in ("channel", "block", "group") or len(magnitude) % columns:
        return np.empty(0, np.uint8)
    else:
        rows, cols = kind.block or (1, columns)
        if len(shape) > 2 and shape[-2] % rows:
            return np.empty(0, np.uint8)  # a block would reach into the next expert
        band = magnitude.reshape(-1, columns)
        starts = np.arange(0, columns, min(cols, columns))
        last = len(band) if len(magnitude) == module.weight.nbytes else len(band) // rows * rows
        if last == 0:
            return np.empty(0, np.uint8)
        peaks = np.maximum.reduceat(np.maximum.reduceat(band[:last], np.arange(0, last, rows), axis=0), starts, axis=1).ravel()
    return peaks[peaks > 0]
