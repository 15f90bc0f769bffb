"""Scales layer by layer: quartiles of what `check` read of them, and the tensors that stand apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weighbridge.check.case import Case
from weighbridge.check.scales import scales_of
from weighbridge.overview.groups import Kindred
from weighbridge.overview.layers import LayerPlace, main_stack

if TYPE_CHECKING:
    import numpy as np

OF = "largest scale of each tensor"
FEW = 8  # fewer tensors in a layer say nothing of each other: then all layers of the column are the measure
APART = 4.0  # times the median, or a part of it: a step of two binades
QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
MOST = 12  # outliers that are named


def scales(case: Case, kindreds: list[Kindred]) -> dict[str, Any]:
    """`groups`, one for each column of the map that has scales. What `check` has not read is not here; `told` says how much it read."""
    import numpy as np

    read, main = scales_of(case), main_stack(kindreds)
    column_of: dict[int, tuple[int, int]] = {}
    columns: dict[tuple[str, str, str], int] = {}
    for kindred in kindreds:
        if not kindred.scale:
            continue
        place = LayerPlace(kindred)
        name = place.name if place.stack == main else place.full
        number = columns.setdefault((name, kindred.key.role, kindred.pair.row.scale_suffix or "" if kindred.pair else ""), len(columns))
        layer = place.layer
        for numbers, member in kindred.members.items():
            column_of[id(member.scale)] = number, numbers[layer] if layer >= 0 else -1
    where = np.array([column_of.get(id(source.tensor), (-1, -1)) for source in read.sources], np.int64).reshape(-1, 2)
    groups = []
    for (name, role, suffix), number in columns.items():
        picked = np.flatnonzero((where[:, 0] == number) & read.finite)
        if len(picked):
            groups.append(_group(case, name, role, suffix, picked, where[picked, 1]))
    odd = int(np.count_nonzero((where[:, 0] >= 0) & ~read.finite))
    return {"read": read.read, "total": read.total, "mode": read.mode, "told": read.told, "odd": odd,
            "outliers_are": f"{APART:g} times the median of the layer's tensors or more, or 1/{APART:g} of it or less "
                            f"(fewer than {FEW} tensors in a layer: the median of all layers)", "groups": groups}


def _group(case: Case, name: str, role: str, suffix: str, picked: np.ndarray, layer: np.ndarray) -> dict[str, Any]:
    import numpy as np

    order = np.lexsort((scales_of(case).largest[picked], layer))
    picked, layer = picked[order], layer[order]
    values = scales_of(case).largest[picked].astype(np.float64)
    starts = np.flatnonzero(np.diff(layer, prepend=layer[0] - 1))
    counts = np.diff(starts, append=len(layer))
    parts = _quantiles(values, starts, counts)
    rows = [[number, *map(_short, five)] for number, five in zip(layer[starts].tolist(), parts.tolist(), strict=True)]
    all_layers = _quantiles(np.sort(values), np.zeros(1, np.int64), np.array([len(values)]))[0, 2]
    middle = np.repeat(np.where(counts >= FEW, parts[:, 2], all_layers), counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(middle != 0, values / middle, 1.0)
        apart = np.where(ratio > 0, np.abs(np.log2(ratio)), np.inf)
    far = np.flatnonzero(apart >= np.log2(APART))
    first = far[np.lexsort((picked[far], -apart[far]))][:MOST].tolist()
    outliers = [{"tensor": scales_of(case).sources[int(picked[i])].name, "layer": int(layer[i]), "value": _short(values[i]), "median": _short(middle[i]),
                 "ratio": _short(ratio[i])} for i in first]
    return {"name": name, "role": role, "suffix": suffix, "of": OF, "layers": rows, "outliers": outliers, "apart": len(far)}


def _quantiles(values: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """[runs, 5]: least, quartiles and largest of each run of sorted values; between two values the line."""
    import numpy as np

    at = starts[:, None] + (counts[:, None] - 1) * np.array(QUARTILES)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, (starts + counts - 1)[:, None])
    return values[low] + (values[high] - values[low]) * (at - low)


def _short(value: float) -> float:
    """Five digits are more than a picture shows."""
    return float(f"{value:.5g}")
