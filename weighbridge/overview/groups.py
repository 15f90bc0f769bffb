"""All tensor names in few groups: a name with places for its numbers, and the ranges that fill them.

A group is a full product of ranges whose tensors have equal headers; 96,103 names of MiniMax-M2 are some twenty groups. Names that do not
fit into a product make groups of their own, so that every set of names can be told.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeVar

from weighbridge.check.case import Case
from weighbridge.checkpoint.header import Tensor
from weighbridge.drawing.collect import Leaf
from weighbridge.inspection.kind import NO_KIND
from weighbridge.inspection.survey import Key, Pair

PLACES = 4  # numbers of one name that become ranges; further ones stay as they are
NUMBER = re.compile(r"(?<![^.])(?:0|[1-9][0-9]{0,8})(?![^.])")
RANK = re.compile(r"(?:(?<![^.])|(?<=\Atp))(?:0|[1-9][0-9]{0,8})(?![^./])")  # per-rank shards: `tp3/layers.0.…`

Numbers = tuple[int, ...]
Box = tuple[tuple[int, int], ...]
T = TypeVar("T")


class Member(NamedTuple):
    """One weight with its scale, or a tensor that is neither (then `key` and `pair` may be None)."""

    name: str
    tensor: Tensor
    scale: Tensor | None


@dataclass(eq=False)
class Kindred:
    """All tensors of one template whose headers are alike, and whose scales' headers are.

    `template` has `{0}`, `{1}`, … for the numbers; a name that holds a brace itself is its own template, without numbers.
    `scale` is the template of the scale beside each (empty: none).
    """

    template: str
    scale: str
    key: Key
    pair: Pair | None
    members: dict[Numbers, Member] = field(default_factory=dict)

    @property
    def first(self) -> Member:
        return next(iter(self.members.values()))

    @property
    def numbers(self) -> int:
        """How many numbers the names have. A template without any is a name, whatever it looks like."""
        return len(next(iter(self.members)))

    @property
    def bytes(self) -> int:
        """Of one member, with its scale."""
        return self.first.tensor.nbytes + (self.first.scale.nbytes if self.first.scale is not None else 0)

    @cached_property
    def leaf(self) -> Leaf:
        """The member as `drawing` describes one."""
        tensor, scale = self.first.tensor, self.first.scale
        kind = self.pair.kind if self.pair is not None else NO_KIND
        beside = (self.pair.row.scale_suffix or "", scale.dtype, scale.shape) if scale is not None and self.pair is not None else ("", "", ())
        return Leaf("weight" if self.pair is not None else "helper", "", self.key.suffix, self.key.role, tensor.dtype, tensor.shape, *beside, kind,
                    self.bytes, None)


def template_of(name: str, *, ranks: bool = False) -> tuple[str, Numbers]:
    """`layers.7.experts.30.w1` as (`layers.{0}.experts.{1}.w1`, (7, 30)). Filling the places with the numbers gives the name back."""
    if "{" in name or "}" in name:
        return name, ()
    numbers: list[int] = []

    def place(found: re.Match[str]) -> str:
        if len(numbers) == PLACES:
            return found[0]
        numbers.append(int(found[0]))
        return "{" + str(len(numbers) - 1) + "}"

    return (RANK if ranks else NUMBER).sub(place, name), tuple(numbers)


def filled(template: str, numbers: Numbers) -> str:
    """The name again."""
    for place, number in enumerate(numbers):
        template = template.replace("{" + str(place) + "}", str(number))
    return template


def kindreds(case: Case) -> list[Kindred]:
    """Every tensor of the checkpoint in exactly one place: as a weight, as the scale beside one, or by itself. In the order of the files."""
    found: dict[Hashable, Kindred] = {}
    names = _Names(bool(case.checkpoint.ranks))
    survey, tensors = case.survey, case.checkpoint.tensors
    assert survey.weights is not None, "a case keeps its weights"
    of_pair: dict[Pair, dict[str, Kindred]] = {}
    for name, tensor, scale, suffix, key, pair in survey.weights:
        template, numbers = names.of(name, key)
        known = of_pair.get(pair)
        if known is None:
            known = of_pair[pair] = {}
        kindred = known.get(template)
        if kindred is None:
            heads = (template, len(numbers), tensor.dtype, tensor.shape, *((suffix, scale.dtype, scale.shape) if scale is not None else ()))
            beside = template[: len(template) - len(key.suffix)] + suffix if scale is not None else ""
            kindred = known[template] = found.setdefault(heads, Kindred(template, beside, key, pair))
        kindred.members[numbers] = Member(name, tensor, scale)
    taken = {id(weight[2]) for weight in survey.weights} if any(len(key.names) != key.paired for key in survey.keys.values()) else set()
    for key in survey.keys.values():
        if len(key.names) == key.paired:
            continue  # scales that all lie beside a weight
        for name in key.names:
            tensor = tensors[name]
            if id(tensor) not in taken:
                template, numbers = template_of(name, ranks=names.ranks)
                alone = found.setdefault((template, len(numbers), tensor.dtype, tensor.shape), Kindred(template, "", key, None))
                alone.members[numbers] = Member(name, tensor, None)
    return list(found.values())


class _Names:
    """Templates of many names that differ in the number of their layer alone: found once for each key."""

    def __init__(self, ranks: bool) -> None:
        self.ranks = ranks
        self.keys: dict[Key, tuple[str, Numbers, Numbers, int] | None] = {}
        self.layers: dict[str, int] = {}

    def of(self, name: str, key: Key) -> tuple[str, Numbers]:
        """`key` is the survey's of this name: all names of a key differ in the number of their layer alone."""
        if key not in self.keys:
            self.keys[key] = self._of_key(name)
        known = self.keys[key]
        if known is not None:
            template, before, behind, start = known
            text = name[start : name.find(".", start)]
            layer = self.layers.get(text)
            if layer is None and NUMBER.fullmatch(text):
                layer = self.layers[text] = int(text)
            if layer is not None:
                return template, (*before, layer, *behind)
        return template_of(name, ranks=self.ranks)

    def _of_key(self, name: str) -> tuple[str, Numbers, Numbers, int] | None:
        """(template, numbers before the layer's, numbers behind it, where the layer's begins in the name); None where names go one by one."""
        start = name.find("layers.") + 7
        if self.ranks or start < 7 or not NUMBER.fullmatch(name[start : name.find(".", start)]):
            return None
        template, numbers = template_of(name)
        place = NUMBER.sub("#", name[:start]).count("#")
        return (template, numbers[:place], numbers[place + 1:], start) if place < len(numbers) else None


def boxes(members: Mapping[Numbers, T]) -> Iterator[Box]:
    """Ranges whose products hold every tuple of numbers once. A full product is one box; neighbours with equal rests are joined."""
    if not members:
        return
    yield from _boxes(sorted(members))


def _boxes(rows: list[Numbers]) -> list[Box]:
    if not rows[0]:
        return [()]
    rests: dict[int, list[Numbers]] = {}
    for first, *rest in rows:
        rests.setdefault(first, []).append(tuple(rest))
    out: list[Box] = []
    known: dict[tuple[Numbers, ...], list[Box]] = {}
    first = last = -1
    inner: list[Box] = []
    for number, rest in rests.items():
        same = tuple(rest)
        own = known.get(same)
        if own is None:
            own = known[same] = _boxes(rest)
        if number == last + 1 and own is inner:
            last = number
            continue
        out += [((first, last), *box) for box in inner]
        first, last, inner = number, number, own
    return out + [((first, last), *box) for box in inner]


def inside(box: Box) -> Iterator[Numbers]:
    """All tuples of a box, the last number fastest."""
    if not box:
        yield ()
        return
    for number in range(box[0][0], box[0][1] + 1):
        for rest in inside(box[1:]):
            yield (number, *rest)
