"""A conversion as bands: groups of source weights, groups of destination tensors, and the step that leads from one to the other.

Everything is counted from the plan. A plan of full size has tens of thousands of pieces and about twenty bands, so one loop sums up
integers under a small key, and words are made once for each group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from weighbridge.formats.kinds import kind_of
from weighbridge.formats.scheme import Encoding
from weighbridge.inspection.document import ORDER, PARTS
from weighbridge.plan.plan import Plan, Target
from weighbridge.layouts.source import Bound
from weighbridge.plan.steps import Step

_RANK = re.compile(r"^tp\d+/")
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass
class _BandGroup:
    """Tensors of one side that are drawn as one box. `made` counts bytes that come from no weight: zero heads, numbers of ranks."""

    name: str
    encoding: dict[str, Any]
    role: str = ""
    tensors: int = 0
    bytes: int = 0
    made: int = 0
    files: set[str] = field(default_factory=set)


@dataclass
class _Band:
    """All pieces between one source group and one destination group that take one step."""

    source: int
    target: int
    step: Step
    turned: bool
    sources: set[int] = field(default_factory=set)
    read: int = 0
    written: int = 0


def flow(plan: Plan) -> dict[str, Any]:
    """The part `flow` of the document of `draw`: source and destination groups, bands between them, and what is dropped.

    Bytes of bands to a destination, and its `made` bytes, add up to its `bytes`; those of all destinations to `plan.bytes_written`.
    `bytes_read` of a band counts values as often as a piece reads them, and each scale tensor once.
    """
    sources, owner = _sources(plan)
    targets, bands, used = _bands(plan, owner)
    order = sorted(range(len(targets)), key=lambda t: (min([b.source for b in bands if b.target == t], default=len(sources)), t))
    place = {old: new for new, old in enumerate(order)}
    rows = [_row(band, place) for band in bands]
    rows.sort(key=lambda r: (r["from"], r["to"], r["step"], r["turned"], r["bound"]))
    return {
        "to": plan.layout, "options": plan.options.asdict(), "bytes_read": plan.bytes_read, "bytes_written": plan.bytes_written,
        "source": [{"name": g.name, "encoding": g.encoding, "tensors": g.tensors, "bytes": g.bytes} for g in sources],
        "destination": [{"name": g.name, "encoding": g.encoding, "tensors": g.tensors, "bytes": g.bytes, "files": len(g.files), "made": g.made}
                        for g in (targets[old] for old in order)],
        "bands": rows,
        "dropped": _dropped(plan, used),
    }


def encoding_of(encoding: Encoding, shape: tuple[int, ...]) -> dict[str, Any]:
    """An encoding as the documents of `draw` have it. `shape` (in values) tells a row scale from a block of one row."""
    kind, scale = kind_of(encoding), encoding.scale
    if scale is None:
        return {"dtype": encoding.dtype, "strategy": "none", "block": None, "scale_dtype": None, "scale_suffix": None, "kind": kind, "text": encoding.dtype}
    strategy = encoding.strategy_of(shape)
    block = list(scale.block) if strategy in ("block", "group") else None
    return {"dtype": encoding.dtype, "strategy": strategy, "block": block, "scale_dtype": scale.dtype, "scale_suffix": scale.suffix,
            "kind": kind, "text": encoding.describe(shape)}


def _sources(plan: Plan) -> tuple[list[_BandGroup], list[int]]:
    """Groups of the source in the order of the forward pass, and the group of each bound weight."""
    found: dict[tuple[str, int], list[int]] = {}
    for number, bound in enumerate(plan.source.bound):
        found.setdefault((_role(plan, bound), id(bound.encoding)), []).append(number)
    groups, owner = [], [0] * len(plan.source.bound)
    for (role, _), numbers in sorted(found.items(), key=lambda item: (_order(item[0][0]), item[1][0])):
        first = plan.source.bound[numbers[0]]
        group = _BandGroup(role, encoding_of(first.encoding, first.stored.shape), role)
        for number in numbers:
            bound = plan.source.bound[number]
            owner[number] = len(groups)
            group.bytes += bound.nbytes
        group.tensors = len(numbers)
        groups.append(group)
    return groups, owner


def _role(plan: Plan, bound: Bound) -> str:
    """The role of a stored weight; one that holds several roles joins their last words, as `experts.gate_up`."""
    parts, weight = bound.stored.placement.parts, plan.source.weight
    if len(parts) == 1:
        return weight(parts[0].weight).role
    roles = sorted({weight(part.weight).role for part in parts}, key=_order)
    if not roles:
        return "padding"
    return roles[0] + "".join("_" + role.rpartition(".")[2] for role in roles[1:])


def _order(role: str) -> tuple[int, int, str]:
    group, _, part = role.partition(".")
    return ORDER.index(group) if group in ORDER else len(ORDER), PARTS.index(part) if part in PARTS else len(PARTS), role


def folded(stem: str) -> str:
    """A stored module for all layers, experts and ranks: `layers.*.self_attn.q_proj`."""
    return _NUMBER.sub("*", _RANK.sub("", stem) if "/" in stem else stem)


def _bands(plan: Plan, owner: list[int]) -> tuple[list[_BandGroup], list[_Band], set[int]]:
    """Destination groups in the order of the plan, bands, and the numbers of all source weights that a piece reads."""
    groups: dict[tuple[str, Encoding], int] = {}
    listed: list[_BandGroup] = []
    bands: dict[tuple[int, int, int, bool], _Band] = {}
    used: set[int] = set()
    for target in plan.targets:
        stem, encoding = folded(target.stored.stem), target.encoding
        number = groups.setdefault((stem, encoding), len(listed))
        if number == len(listed):
            listed.append(_BandGroup(stem, encoding_of(encoding, target.stored.shape)))
        group, total = listed[number], target.bytes
        group.tensors += 1
        group.bytes += total
        group.files.add(target.stored.file)
        group.made += _pour(plan, target, total, number, owner, bands, used)
    merged: dict[tuple[int, int, Step, bool], _Band] = {}
    for band in bands.values():  # equal steps may be different objects
        known = merged.setdefault((band.source, band.target, band.step, band.turned), band)
        if known is not band:
            known.sources |= band.sources
            known.read += band.read
            known.written += band.written
    return listed, list(merged.values()), used


def _pour(plan: Plan, target: Target, total: int, number: int, owner: list[int], bands: dict[tuple[int, int, int, bool], _Band],
          used: set[int]) -> int:
    """Deal the bytes of one destination tensor to its bands by the values that each gives. Returns the bytes that no band gives."""
    bound, areas = plan.source.bound, {}
    for part, step, fragments, scale_only in target.pieces:
        if not fragments:
            continue
        key = (owner[fragments[0].source], number, id(step), fragments[0].turned != part.turned)
        band = bands.get(key)
        if band is None:
            band = bands[key] = _Band(key[0], number, step, key[3])
        for fragment in fragments:
            source = fragment.source
            holder = bound[source]
            band.read += holder.encoding.bytes_of(fragment.lrows * fragment.lcols)
            band.sources.add(source)
            if source not in used:
                used.add(source)
                band.read += holder.nbytes - holder.weight.nbytes
        areas[key] = areas.get(key, 0) + (0 if scale_only else part.rows * part.cols)
    return _deal(total, areas, bands)


def _deal(total: int, areas: dict[Any, int], bands: dict[Any, _Band]) -> int:
    """Whole bytes in proportion to `areas`; the zeros between them go along. The last one takes what division leaves."""
    keys = [key for key, area in areas.items() if area]
    if not keys:
        return total
    whole, left = sum(areas.values()), total
    for key in keys[:-1]:
        share = total * areas[key] // whole
        bands[key].written += share
        left -= share
    bands[keys[-1]].written += left
    return 0


def _row(band: _Band, place: dict[int, int]) -> dict[str, Any]:
    step = band.step
    return {"from": band.source, "to": place[band.target], "step": step.name, "lossy": step.lossy, "bound": step.bound, "says": step.says,
            "tensors": len(band.sources), "bytes_read": band.read, "bytes_written": band.written, "turned": band.turned}


def _dropped(plan: Plan, used: set[int]) -> list[dict[str, Any]]:
    """Source tensors that go nowhere, with the reason, in groups of alike names."""
    found: dict[tuple[str, str], int] = {}
    for name, reason in _lost(plan, used):
        key = folded(name), reason
        found[key] = found.get(key, 0) + 1
    return [{"name": name, "tensors": tensors, "reason": reason} for (name, reason), tensors in found.items()]


def _lost(plan: Plan, used: set[int]) -> Iterable[tuple[str, str]]:
    """(name, reason) of each tensor of the source that no piece reads."""
    bound, tensors = plan.source.bound, plan.source.checkpoint.tensors
    reached = {part.weight for number in used for part in bound[number].stored.placement.parts} if len(used) < len(bound) else set()
    for number, one in enumerate(bound):
        if number not in used:
            yield one.stored.name, _reason(plan, one, reached)
    if sum(len(b.tensors) for b in bound) == len(tensors):
        return
    seen = {b.stored.stem + suffix for b in bound for suffix in b.tensors}
    told = {p.where.rpartition(": ")[2]: p for p in plan.source.problems}
    for name in sorted(tensors.keys() - seen):  # a set has no order of its own
        problem = told.get(name)
        yield name, problem.message if problem is not None else "no weight: numbers that a loader makes anew"


def _reason(plan: Plan, bound: Bound, reached: set[str]) -> str:
    if not plan.targets:
        return f"nothing can be written: {plan.problems[0].message}" if plan.problems else "the destination has no tensors"
    parts = bound.stored.placement.parts
    if not parts:
        return "holds zero heads alone"
    if all(part.weight in reached for part in parts):
        return "a copy; another rank's is read"
    return "the destination does not hold it"
