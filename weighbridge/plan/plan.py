"""The plan: which rectangle goes where and how, before anything is read or written."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from weighbridge.version import __version__
from weighbridge.checkpoint.dtypes import BITS
from weighbridge.checkpoint.header import Tensor
from weighbridge.errors import Problem, Refused, folded
from weighbridge.formats.element import ELEMENTS, middle
from weighbridge.formats.scheme import Encoding, Field, Role, plain
from weighbridge.formats.schemes import CENTRED, SCHEMES
from weighbridge.layouts import NEURON
from weighbridge.layouts import layout as layout_of
from weighbridge.layouts.options import Options
from weighbridge.layouts.rows import ROWS
from weighbridge.layouts.placement import Part, Stored
from weighbridge.models.inventory import Inventory
from weighbridge.plan.activations import SUFFIX, ActivationScales, converted, field_of
from weighbridge.plan.cover import Fragment, Rect, cover, nests
from weighbridge.plan.kept import kept_for
from weighbridge.plan.scales import ScaleLook, ScaleLooks
from weighbridge.layouts.source import Bound, Source
from weighbridge.plan.steps import Kind, Refusal, Step, choose, restoring

# What `--allow` can wave through: things that are left out of the output, and the scale rule that must be named.
ALLOWABLE = frozenset({"surplus-tensor", "surplus-file", "scale-without-weight", "index-lacks", "index-wrong-file", "reciprocal"})


class Piece(NamedTuple):
    """A rectangle of a destination tensor and the source rectangles that make it.

    `part` says where it lies (stored axes) and what it is (logical axes). A direct step has one fragment of
    the same logical rectangle; a step that makes new scales has all fragments of the whole blocks around it.
    """

    part: Part
    step: Step
    fragments: tuple[Fragment, ...]
    scale_only: bool = False  # its scales are wanted, its values lie on another rank


class Target(NamedTuple):
    """One destination tensor with everything that goes into it."""

    stored: Stored
    encoding: Encoding
    pieces: tuple[Piece, ...]
    carried: dict[str, Tensor | float] = {}  # scales of the layer's input, by the suffix of their field here: the source's tensor, or a value
    kept: dict[str, Tensor] = {}  # scales that lie beside plain values, by suffix: used if all values are codes under them

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields that are written, the codes first: what weighs, and what its reader needs beside that."""
        return tuple(f for f in self.encoding.stored_fields if f.weighs or f.role is Role.SHAPE or f.suffix in self.carried)

    @property
    def weight_bytes(self) -> int:
        return self.field_bytes(self.encoding.code)

    @property
    def bytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(self.field_bytes(f) for f in self.fields)

    def field_bytes(self, field: Field) -> int:
        return _product(self.stored.field_shape(field)) * BITS[field.dtype] // 8


@dataclass(frozen=True)
class Plan:
    """A source, a destination layout and every piece between them."""

    source: Source
    layout: str
    options: Options
    targets: list[Target]
    problems: list[Problem] = field(default_factory=list)

    @property
    def inventory(self) -> Inventory:
        return self.source.inventory

    @cached_property
    def files(self) -> dict[str, list[Target]]:
        """Targets by file, in the order in which files are written."""
        grouped: dict[str, list[Target]] = {}
        for target in self.targets:
            grouped.setdefault(target.stored.file, []).append(target)
        return grouped

    @property
    def pieces(self) -> int:
        return sum(len(t.pieces) for t in self.targets)

    @cached_property
    def bytes_written(self) -> int:
        return sum(t.bytes for t in self.targets)

    @cached_property
    def bytes_read(self) -> int:
        """Bytes of the source that pieces touch, each as often as a piece touches it."""
        bits = [ELEMENTS[b.encoding.element].bits if b.encoding.element in ELEMENTS else BITS[b.encoding.dtype] for b in self.source.bound]
        weights = sum(f.lrows * f.lcols * bits[f.source] for t in self.targets for p in t.pieces for f in p.fragments) // 8
        return weights + sum(b.nbytes - b.weight.nbytes for b in self.source.bound)

    @property
    def scales(self) -> int:
        """Scale tensors of the source that the plan reads."""
        return self.source.scales

    @cached_property
    def symmetric(self) -> bool:
        """Whether every zero point that is written is the middle of its range."""
        looks, pieces = ScaleLooks(self.source), [(t, p) for t in self.targets if t.encoding.zero for p in t.pieces]
        if any(p.step.kind is Kind.QUANTIZE and SCHEMES[t.encoding.scheme].rule not in CENTRED for t, p in pieces):
            return False
        bounds = [self.source.bound[n] for n in {f.source for _, p in pieces if p.step.kind is Kind.KEEP for f in p.fragments}]
        return all(b.encoding.zero is None or looks.of(b).zeros_are(middle(b.encoding.zero.element)) for b in bounds)

    @cached_property
    def steps(self) -> Counter[str]:
        """How many destination tensors take each step."""
        return Counter(step.name for t in self.targets for step in {p.step for p in t.pieces})

    @cached_property
    def lossy(self) -> list[dict[str, Any]]:
        """Lossy steps, with the number of destination tensors and the bound that each must keep."""
        found: dict[str, dict[str, Any]] = {}
        for target in self.targets:
            for step in {p.step for p in target.pieces if p.step.lossy}:
                row = found.setdefault(step.name, {"step": step.name, "count": 0, "bound": step.bound, "says": step.says})
                row["count"] += 1
        return list(found.values())

    @cached_property
    def digest(self) -> str:
        """Names the work: same source headers, layout, options and tool give the same digest."""
        what = [self.source.checkpoint.digest, self.layout, self.options.asdict(), __version__, *([self.source.kept.sha256] if self.source.kept else [])]
        return hashlib.sha256(msgspec.json.encode(what, order="sorted")).hexdigest()

    @property
    def open_problems(self) -> list[Problem]:
        """Problems that the user has not allowed. No permission turns a missing or damaged weight into a good one."""
        return [p for p in self.problems if p.code not in self.options.allow or p.code not in ALLOWABLE]

    def refuse(self) -> None:
        """Raise all problems that the user has not allowed."""
        left = self.open_problems
        if left:
            raise Refused(folded(left))


def make_plan(source: Source, layout: str, options: Options, activations: ActivationScales | None = None) -> Plan:
    """Resolve a destination layout against a source. Problems are in the plan; `Plan.refuse` raises them. `activations` are the user's, for static scales."""
    rules = layout_of(layout)
    demands = rules.requires(source, options)
    if options.keep_scales and not source.coded:
        demands = [*demands, Problem("keep-scales", "its weights are plain values: there are no scales to keep", source.checkpoint.label, "leave --keep-scales out")]
    problems = source.problems + demands
    if demands:
        return Plan(source, layout, options, [], problems)
    resolver = Resolver(source, options, layout, activations)
    targets = [resolver.target(s) for s in rules.stored(source, options)]
    known = {p.where for p in problems}
    problems = problems + resolver.without_activations() + [p for p in resolver.problems if p.where not in known]
    return Plan(source, layout, options, targets, _without_echo(problems))


def _without_echo(problems: list[Problem]) -> list[Problem]:
    """A weight that could not be bound is reported once, not again by each destination that lacks it."""
    bound_to = [p for p in problems if p.code != "uncovered"]
    return bound_to or problems


class Resolver:
    """Turns stored destination tensors into targets, one after the other."""

    def __init__(self, source: Source, options: Options, layout: str, activations: ActivationScales | None = None) -> None:
        self.source, self.options, self.activations = source, options, activations
        self.static = layout in ROWS and "static" in ROWS[layout].activations
        self.lacking: list[str] = []  # modules for which the user's file has no scale
        self.used: set[str] = set()
        self.problems: list[Problem] = []
        stated = source.checkpoint.manifest.get("options")
        self.stated = stated if isinstance(stated, dict) else {}
        self.halved = self.stated.get("scale_rule") == "halve" and source.layout in NEURON
        self.steps: dict[tuple[object, ...], Step | Refusal] = {}
        self.looks = ScaleLooks(source)

    def target(self, stored: Stored) -> Target:
        encoding = stored.encoding or self._own_encoding(stored)
        pieces = [piece for part in stored.placement.parts for piece in self._pieces(stored, part, encoding)]
        if stored.scale_part and encoding.block and (encoding.block[1] or stored.placement.cols) >= stored.scale_part.cols:
            pieces += [piece._replace(scale_only=True) for piece in self._pieces(stored, stored.scale_part, encoding)]
        kept = kept_for(self.source, stored, encoding)
        if kept and any(piece.step.kind is Kind.QUANTIZE for piece in pieces):
            pieces = [piece._replace(step=restoring(piece.step)) for piece in pieces]
        return Target(stored if stored.encoding else stored._replace(encoding=encoding), encoding, tuple(pieces), self._carried(encoding, pieces) or _kept_inputs(encoding, kept), kept)

    def _given(self, encoding: Encoding, sources: set[int]) -> dict[str, Tensor | float]:
        """The user's scale of the layer's input; parts of one weight have the same input."""
        field = field_of(encoding)
        if field is None or self.activations is None:
            return {}
        stems = {self.source.bound[n].stored.stem for n in sources}
        self.used |= stems
        lacking = sorted(stems - self.activations.values.keys())
        self.lacking += lacking
        return {} if lacking else {field.suffix: converted(max(self.activations.values[s] for s in stems), encoding, field)}

    def without_activations(self) -> list[Problem]:
        """One problem for all modules that the user's file leaves out, and one for those that it names and nobody has."""
        if self.activations is None:
            return []
        found = []
        if self.lacking:
            found.append(Problem("activation-scales", f"no scale for {len(self.lacking):,} of {len(self.used):,} modules", self.lacking[0] + SUFFIX,
                                 "the file of --activation-scales must name every module that is quantized"))
        surplus = sorted(self.activations.values.keys() - self.used)
        if surplus:
            found.append(Problem("activation-scales", f"{len(surplus):,} scales are of modules that are not quantized here", surplus[0] + SUFFIX,
                                 "take them out of the file, or look whether it is of this checkpoint"))
        return found

    def _carried(self, encoding: Encoding, pieces: list[Piece]) -> dict[str, Tensor | float]:
        """Scales of the layer's input: the user's, else the source's, where it and the destination count them alike: for codes of the same element."""
        sources = {f.source for p in pieces for f in p.fragments}
        if self.activations is not None:
            return self._given(encoding, sources)
        wanted = [f for f in encoding.factors if f.role in (Role.ACTIVATION, Role.ACTIVATION_DIVISOR)]
        if not self.static or not wanted or len(sources) != 1:
            return {}
        bound = self.source.bound[sources.pop()]
        if bound.encoding.element != encoding.element:
            return {}
        found: dict[str, Tensor | float] = {}
        for field in wanted:
            own = next((f for f in bound.encoding.factors if f.role is field.role), None)
            tensor = bound.tensor(own) if own else None
            if tensor is not None:
                found[field.suffix] = tensor
        return found

    def _own_encoding(self, stored: Stored) -> Encoding:
        """What "as the source has it" means: the plain dtype of the weight there."""
        for part in stored.placement.parts:
            for number, _ in self.source.holders.get(part.weight, ()):
                own = self.source.bound[number].encoding
                return own if not own.quantized else plain("BF16")
        return plain("BF16")

    def _pieces(self, stored: Stored, part: Part, encoding: Encoding) -> list[Piece]:
        rect = (part.row, part.col, part.rows, part.cols)
        fragments, left = cover(rect, self.source.holders.get(part.weight, []))
        if left:
            row, col, rows, cols = left[0]
            self.problems.append(Problem("uncovered", f"rows {row}..{row + rows - 1}, columns {col}..{col + cols - 1} of {part.weight} "
                                         "are in no source tensor", stored.name, "the checkpoint is not complete"))
            return []
        out = []
        for fragment in fragments:
            step = self._step(part, encoding, fragment)
            if isinstance(step, Refusal):
                source = self.source.bound[fragment.source]
                self.problems.append(Problem("no-step", f"no way from {source.encoding.describe()} to {encoding.describe()}: {step.says}",
                                             stored.name, step.hint))
                return []
            if step.kind in (Kind.QUANTIZE, Kind.SHIFT):
                return [self._block_piece(part, encoding, step)]
            out.append(Piece(narrow(part, fragment), step, (fragment,)))
        return out

    def _step(self, part: Part, encoding: Encoding, fragment: Fragment) -> Step | Refusal:
        bound = self.source.bound[fragment.source]
        stacked = bound.stored.placement.stacked
        # Equal geometry gives an equal step, unless its scales were asked; identity stands for equality, since encodings are shared objects.
        whole = self.source.weight(part.weight).shape
        key = (id(bound.encoding), id(encoding), stacked, whole, part[1:5], part[6:], fragment[2:])
        step = self.steps.get(key)
        if step is None:
            look = self.looks.of(bound)
            step = self._new_step(part, encoding, fragment, bound.encoding, stacked, look)
            if not look.asked:
                self.steps[key] = step
        return step

    def _new_step(self, part: Part, encoding: Encoding, fragment: Fragment, source: Encoding, stacked: bool, look: ScaleLook) -> Step | Refusal:
        nested = source.quantized and encoding.quantized and _nested(part, encoding, fragment, source, self._around(part, encoding))
        # Attention that was requantized per row was not halved; only its exact form has a way back.
        halved = self.halved and (stacked or self.stated.get("attention") == "exact")
        return choose(source, encoding, self.options, nested, halved, look)

    def _block_piece(self, part: Part, encoding: Encoding, step: Step) -> Piece:
        """New scales are made over whole blocks of the logical weight, so that a cut does not change them."""
        fragments, left = cover(self._around(part, encoding), self.source.holders[part.weight])
        if left:
            self.problems.append(Problem("uncovered", f"a block of {part.weight} reaches over what the source holds", part.weight))
        return Piece(part, step, tuple(fragments))

    def _around(self, part: Part, encoding: Encoding) -> Rect:
        """The whole destination blocks around a part, in the logical axes of its weight."""
        rows, cols = self.source.weight(part.weight).shape
        assert encoding.block
        high, wide = encoding.block[::-1] if part.turned else encoding.block
        high, wide = high or rows, wide or cols
        row, col = part.row // high * high, part.col // wide * wide
        end = min(rows, -(-(part.row + part.rows) // high) * high)
        edge = min(cols, -(-(part.col + part.cols) // wide) * wide)
        return row, col, end - row, edge - col


def _kept_inputs(encoding: Encoding, kept: dict[str, Tensor]) -> dict[str, Tensor | float]:
    """Kept scales of the layer's input."""
    return {f.suffix: kept[f.suffix] for f in encoding.factors if f.role in (Role.ACTIVATION, Role.ACTIVATION_DIVISOR) and f.suffix in kept}


def narrow(part: Part, fragment: Fragment) -> Part:
    """The part of `part` that one fragment fills."""
    if (fragment.lrow, fragment.lcol, fragment.lrows, fragment.lcols) == (part.row, part.col, part.rows, part.cols):
        return part
    down, right = fragment.lrow - part.row, fragment.lcol - part.col
    if part.turned:
        down, right = right, down
    return part._replace(row=fragment.lrow, col=fragment.lcol, rows=fragment.lrows, cols=fragment.lcols,
                         at_row=part.at_row + down, at_col=part.at_col + right)


def _nested(part: Part, encoding: Encoding, fragment: Fragment, source: Encoding, around: Rect) -> bool:
    """Whether every destination block of the piece lies in one source block (then scales can be kept).

    A block that reaches beyond the piece (a row scale, seen by one rank) must lie in one source block as a whole.
    """
    assert encoding.block and source.block
    piece = narrow(part, fragment)
    turned = part.turned != fragment.turned
    own = tuple(size or 1 << 40 for size in (source.block[::-1] if turned else source.block))  # a whole axis is longer than any
    wanted = tuple(size or 1 << 40 for size in encoding.block)
    corner = (fragment.col, fragment.row) if turned else (fragment.row, fragment.col)
    whole = around[:1:-1] if part.turned else around[2:]
    return all(nests(own[axis], wanted[axis], corner[axis] - at, at, piece.extent[axis])
               and (whole[axis] <= part.extent[axis] or own[axis] >= whole[axis])
               for axis, at in enumerate((piece.at_row, piece.at_col)))


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


__all__ = ["Bound", "Piece", "Plan", "Target", "make_plan"]
