"""Where the weights of a checkpoint can go: for each layout who reads it, its bytes, and what it loses, measured on real blocks.

Layers that hold the same shapes in the same encodings are alike, so a few of each kind are planned and counted for all of them. The error is that of the
plan's own steps on a sample of the weights that they round.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from weighbridge.convert.alike import Alike, alike
from weighbridge.convert.configuration import configuration
from weighbridge.convert.fill import slab_bytes
from weighbridge.convert.shape import sample_slab
from weighbridge.convert.slab import Loss
from weighbridge.errors import Problem, Usage, WeighbridgeError
from weighbridge.formats.values import Scratch
from weighbridge.layouts import NEURON
from weighbridge.layouts.accepted import CHOICES
from weighbridge.layouts.choice import conditions, for_reader
from weighbridge.layouts.options import Options
from weighbridge.layouts.rows import ROWS
from weighbridge.layouts.source import Source
from weighbridge.plan.activations import ActivationScales
from weighbridge.plan.plan import Plan, Target, make_plan
from weighbridge.plan.reader import Reader
from weighbridge.plan.resolve import settled

SAMPLE = 12  # weights that are looked at for each layout, a band of rows of each


@dataclass
class MenuRow:
    """One layout. `exact`: no step loses anything; else `sqnr_db` is measured, or null with `measured` saying why."""

    to: str
    says: str
    readers: dict[str, str] = field(default_factory=dict)  # reader -> its condition
    bytes: int = 0
    exact: bool = False
    sqnr_db: float | None = None
    measured: str = ""
    steps: list[str] = field(default_factory=list)
    command: str = ""
    refused: str | None = None

    def document(self) -> dict[str, Any]:
        return {"to": self.to, "says": self.says, "readers": list(self.readers), "conditions": {r: c for r, c in self.readers.items() if c},
                "bytes": self.bytes, "exact": self.exact, "sqnr_db": self.sqnr_db, "measured": self.measured, "steps": self.steps,
                "command": self.command, "refused": self.refused}


def document(source: Source) -> dict[str, Any]:
    """The document of the menu."""
    found = ways(source)
    return {"from": source.layout, "source": source.checkpoint.label, "bytes": sum(b.nbytes for b in source.bound), "ways": [w.document() for w in found]}


def ways(source: Source, layouts: Iterable[str] = CHOICES, given: Mapping[str, Any] | None = None) -> list[MenuRow]:
    """Every layout: those that are open first, exact before measured, then by bytes. `given` are options by their names in Python."""
    menu = _Menu(source, given or {})
    return sorted((menu.way(name) for name in layouts), key=lambda w: (w.refused is not None, *rank(w)))


def rank(way: MenuRow) -> tuple[bool, float, int]:
    """What loses least stands first: exact, then the highest measured dB, then the fewest bytes."""
    return not way.exact, -(way.sqnr_db if way.sqnr_db is not None else -math.inf), way.bytes


class _Menu:
    def __init__(self, source: Source, given: Mapping[str, Any]) -> None:
        self.source, self.given = source, given
        self.alike: Alike = alike(source)
        self.local = source.checkpoint.store.path(next(iter(source.checkpoint.headers), "config.json")) is not None
        self.reader = Reader(self.alike.source)
        self.scratch = Scratch()

    def way(self, name: str) -> MenuRow:
        made = MenuRow(name, ROWS[name].says if name in ROWS else "FP8 below 240, as NxD Inference loads it", conditions(name))
        try:
            plan, share = self._plan(name, *settled(self.source, name, **self.given))
            if plan.open_problems:  # the first alone: how many there are is not known from a few layers
                return _refused(made, plan.open_problems[0])
            configuration(plan)
        except WeighbridgeError as error:
            return _refused(made, error.first)
        made.bytes = round(sum(t.bytes * share[id(t)] for t in plan.targets)) if share else plan.bytes_written
        made.command = f"weighbridge convert {_word(self.source.checkpoint.label)} DST --to {name}"
        made.exact, made.steps = not plan.lossy, sorted(plan.steps)
        if made.exact:
            return made
        if not self.local:
            made.measured = "not measured: the weights are not on this machine"
            return made
        try:
            made.sqnr_db, made.measured = self._measured(plan, share)
        except WeighbridgeError as error:
            return _refused(made, error.first)
        return made

    def _plan(self, name: str, options: Options, scales: ActivationScales | None) -> tuple[Plan, dict[int, float]]:
        """A plan of layers that stand for all, and how many each target stands for; Neuron's layouts have other tensors than one per layer."""
        if name in NEURON:
            return make_plan(self.source, name, options), {}
        plan = make_plan(self.alike.source, name, options, self._alike(scales))
        return plan, {id(t): self.alike.share(t.stored.placement.parts[0].weight) if t.stored.placement.parts else 1 for t in plan.targets}

    def _alike(self, scales: ActivationScales | None) -> ActivationScales | None:
        """Without those of layers that others stand for."""
        return replace(scales, values={m: v for m, v in scales.values.items() if self.alike.stays(m)}) if scales else None

    def _measured(self, plan: Plan, share: dict[int, float]) -> tuple[float | None, str]:
        """The error of what is rounded, in dB, from a band of rows of a few weights; each weight stands for those of its role."""
        reader = Reader(self.source) if plan.layout in NEURON else self.reader
        rounded = [t for t in plan.targets if any(p.step.lossy for p in t.pieces)]
        groups: dict[tuple[str, str], list[Target]] = {}
        for target in rounded:
            role = plan.source.weight(target.stored.placement.parts[0].weight).role
            groups.setdefault((role, target.pieces[0].step.name), []).append(target)
        signal = error = 0.0
        values = 0
        for listed in groups.values():
            total = Loss()
            for target in _spread(listed, max(1, SAMPLE // len(groups))):
                with reader.unchanged():
                    for loss in slab_bytes(reader, sample_slab(target), self.scratch)[1].values():
                        total.add(loss)
            if total.measured:
                weight = sum(t.stored.placement.rows * t.stored.placement.cols * t.stored.placement.lead * share.get(id(t), 1) for t in listed) / total.measured
                signal, error, values = signal + total.signal * weight, error + total.error * weight, values + total.measured
        if not math.isfinite(error):
            raise WeighbridgeError("overflow", "values are too large for it", plan.layout, "choose a layout with a wider range")
        if not signal:
            return None, "not measured: all values that were read are zero"
        if not error:
            return None, f"no error in {values:,} values that were read; others may be rounded"
        return round(10 * math.log10(signal / error), 2), f"on {values:,} values"


def _refused(way: MenuRow, why: Problem) -> MenuRow:
    way.refused, way.command = f"{why.where + ': ' if why.where else ''}{why.message}" + (f" ({why.hint})" if why.hint else ""), ""
    way.bytes, way.exact, way.sqnr_db, way.measured = 0, False, None, ""
    return way


def _spread(listed: list[Target], count: int) -> list[Target]:
    """So many of a list, evenly spread."""
    return [listed[i * len(listed) // count] for i in range(count)] if len(listed) > count else listed


def _word(label: str) -> str:
    import shlex

    return shlex.quote(label)


@dataclass
class Pick:
    """The layout that `--for` takes, and why not the others."""

    reader: str
    device: str
    way: MenuRow
    why: str
    others: dict[str, str]

    def document(self) -> dict[str, Any]:
        return {"for": self.reader, "device": self.device or None, "to": self.way.to, "why": self.why, "exact": self.way.exact, "sqnr_db": self.way.sqnr_db,
                "others": self.others}


def pick(source: Source, reader: str, device: str = "", given: Mapping[str, Any] | None = None) -> Pick:
    """The layout that loses least among those that a reader loads on a device. Raises Usage where none is left, with the reason of each."""
    choice = for_reader(reader, device)
    listed = ways(source, [c.layout for c in choice.candidates], given)
    open_ways = [w for w in listed if w.refused is None]
    refused = {**choice.refused, **{w.to: w.refused for w in listed if w.refused is not None}}
    place = f" on {device}" if device else ""
    if not open_ways:
        raise Usage(f"no layout for {reader}{place}: " + "; ".join(f"{name}: {why}" for name, why in refused.items()), "--for",
                    "weighbridge convert SRC shows all ways")
    best = open_ways[0]
    lost = {w.to: _behind(w, best) for w in open_ways[1:]}
    condition = best.readers.get(reader, "")
    why = f"{_loss(best)}, {best.bytes:,} bytes; {reader}{place} loads it" + (f" ({condition})" if condition else "")
    return Pick(reader, device, best, why, lost | refused)


def _behind(way: MenuRow, best: MenuRow) -> str:
    if rank(way)[:2] != rank(best)[:2]:
        return f"loses more: {_loss(way)}" if way.sqnr_db is not None else _loss(way)
    return f"has more bytes: {way.bytes:,}" if way.bytes > best.bytes else f"as good as {best.to}, which stands before it in the list"


def _loss(way: MenuRow) -> str:
    return "exact" if way.exact else f"{way.sqnr_db} dB {way.measured}" if way.sqnr_db is not None else way.measured


__all__ = ["Pick", "MenuRow", "document", "pick", "rank", "ways"]
