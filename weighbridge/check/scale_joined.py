"""Scales of parts that readers join to one weight: they keep one number for all."""

from __future__ import annotations

from typing import NamedTuple

from weighbridge.check.case import Case, per_case
from weighbridge.check.scale_forms import nvfp4, siblings
from weighbridge.check.scales import scales_of

SAME = 1e-5  # relative, as in vLLM's torch.allclose
MAXIMA = 448.0 / 240.0


class Differing(NamedTuple):
    """Joined weights whose parts have different values of one tensor (`leaf`). `ratio` is the largest over all of them."""

    leaf: str
    names: list[str]
    ratio: float
    example: str
    maxima: list[str]  # of `names`, those whose ratio is 448 / 240


@per_case
def differing(case: Case) -> list[Differing]:
    scales, tensors = scales_of(case), case.checkpoint.tensors
    if not scales.read or not any(source.part in ("global", "input") for source in scales.sources):
        return []
    helped = [m for m in case.modules.all if m.scale is not None and (nvfp4(m) or m.path + ".input_scale" in tensors)]
    found: dict[str, list[tuple[str, float, list[str], str]]] = {}
    for path, parts in siblings(helped):
        for leaf in ("weight_scale_2", "weight_global_scale", "input_scale", "input_global_scale"):
            values = {part.path: value for part in parts if (value := scales.value(f"{part.path}.{leaf}")) is not None and value > 0}
            if len(values) < 2:
                continue
            ratio = max(values.values()) / min(values.values())
            if ratio > 1 + SAME:
                text = ", ".join(f"{name.rpartition('.')[2]} {value:.6g}" for name, value in values.items())
                found.setdefault(leaf, []).append((path, ratio, [f"{name}.{leaf}" for name in values], text))
    out = []
    for leaf, group in found.items():
        worst = max(group, key=lambda one: one[1])
        out.append(Differing(leaf, [name for one in group for name in one[2]], worst[1], worst[3],
                             [name for one in group if abs(one[1] / MAXIMA - 1) < 1e-3 for name in one[2]]))
    return out
