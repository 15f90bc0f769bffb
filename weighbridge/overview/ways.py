"""The way of every tensor through a plan, told once for all tensors that go alike.

A way has places for the numbers of the tensor's name. It is made from the plan of one tensor; every other tensor of its group is held against
it: the same step, the same rectangle, and names, files and experts that the places give.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

from weighbridge.convert import trace
from weighbridge.overview.groups import Kindred, Numbers, template_of
from weighbridge.plan.plan import Piece, Plan, Target
from weighbridge.layouts.source import Bound

SHOWN = 8  # destinations that a way lists; a stacked tensor may go to hundreds


class _Hit(NamedTuple):
    """A piece that a source tensor goes into. `like` says all of it but the numbers, which are those of name, matrix and file."""

    target: Target
    piece: Piece
    like: int
    numbers: Numbers


class _Member(NamedTuple):
    """A tensor by the numbers of its name, all numbers of its hits, and its place among the plan's sources."""

    own: Numbers
    numbers: Numbers
    place: int


class Ways:
    """`list` holds the ways; `of` gives the place in it by the identity of a source weight's header."""

    def __init__(self, plan: Plan, kindreds: list[Kindred]) -> None:
        self.plan = plan
        self.list: list[dict[str, Any]] = []
        self.of: dict[int, int] = {}
        self._hits = _hits(plan)
        self._places = {id(bound.weight): number for number, bound in enumerate(plan.source.bound)}
        for kindred in kindreds:
            for members in self._alike(kindred):
                for rule, chosen in _explained(members):
                    self._add(kindred, rule, chosen)

    def document(self) -> dict[str, Any]:
        return {"to": self.plan.layout, "options": self.plan.options.asdict(), "list": self.list}

    def _alike(self, kindred: Kindred) -> Iterable[list[_Member]]:
        """Members of the kindred by all that their ways say but numbers."""
        found: dict[Hashable, list[_Member]] = {}
        encodings, bound = _Same(), self.plan.source.bound
        for own, member in kindred.members.items():
            place = self._places.get(id(member.tensor))
            if place is None or not (hits := self._hits[place]):
                continue
            stored, encoding = bound[place][:2]
            if stored.name != member.name:
                continue  # the name of the way would be another tensor's
            like: Hashable = hits[0].like if len(hits) == 1 else tuple(hit.like for hit in hits)
            numbers = hits[0].numbers if len(hits) == 1 else tuple(n for hit in hits for n in hit.numbers)
            key = (encodings.of(encoding), like)
            same = found.get(key)
            if same is None:
                same = found[key] = []
            same.append(_Member(own, numbers, place))
        return found.values()

    def _add(self, kindred: Kindred, rule: list[str], chosen: list[int]) -> None:
        for place in chosen:
            self.of[id(self.plan.source.bound[place].weight)] = len(self.list)
        self.list.append(_way(self.plan, kindred, rule, self._hits[chosen[0]], chosen[0]))


def _hits(plan: Plan) -> list[list[_Hit]]:
    """For each source tensor the pieces that it goes into, in the order of the plan."""
    found: list[list[_Hit]] = [[] for _ in plan.source.bound]
    steps, encodings = _Same(), _Same()
    targets: dict[Hashable, int] = {}
    likes: dict[Hashable, int] = {}
    for target in plan.targets:
        stored = target.stored
        name, numbers = template_of(stored.stem)
        file, in_file = _file(stored.file)
        numbers += in_file
        filled = sum(part.rows * part.cols for part in stored.placement.parts)
        alike = targets.setdefault((name, file, stored.suffix, stored.shape, encodings.of(target.encoding), filled, len(target.pieces)),
                                   len(targets))
        for piece in target.pieces:
            part, fragments = piece.part, piece.fragments
            geometry = (alike, steps.of(piece.step), part[1:5], part[6:], fragments[0].turned, piece.scale_only, len(fragments))
            like = likes.get(geometry)
            if like is None:
                like = likes[geometry] = len(likes)
            hit = _Hit(target, piece, like, (*numbers, part.lead))
            for source in {f.source for f in fragments} if len(fragments) > 1 else (fragments[0].source,):
                found[source].append(hit)
    return found


class _Same:
    """A number for each value, the same for equal ones. Most values are met again as the same object, which is cheaper to look up."""

    def __init__(self) -> None:
        self.objects: dict[int, int] = {}
        self.values: dict[Hashable, int] = {}

    def of(self, value: Hashable) -> int:
        number = self.objects.get(id(value))
        if number is None:
            number = self.objects[id(value)] = self.values.setdefault(value, len(self.values))
        return number


@cache
def _file(name: str) -> tuple[str, Numbers]:
    """The numbers between the dashes of a file's name apart from the rest, which keeps their width: (`model-layer-00-.safetensors`, (7,))."""
    words = _words(name)
    return "-".join("0" * len(word) if _number(word) else word for word in words), tuple(int(word) for word in words if _number(word))


def _words(file: str) -> list[str]:
    return file.replace(".", "-.").split("-")


def _number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 10


def _explained(members: list[_Member]) -> list[tuple[list[str], list[int]]]:
    """(rule, places): each of the plan's numbers as a place (`{1}`), a place with an offset (`{0+2}`) or a constant, true for all members of a group.

    A group is split where a number is none of these.
    """
    rule = []
    for at in range(len(members[0].numbers)):
        text = _explain([(member.own, member.numbers[at]) for member in members])
        if text is None:
            parts: dict[int, list[_Member]] = {}
            for member in members:
                parts.setdefault(member.numbers[at], []).append(member)
            return [found for part in parts.values() for found in _explained(part)]
        rule.append(text)
    return [(rule, [member.place for member in members])]


def _explain(pairs: list[tuple[Numbers, int]]) -> str | None:
    own, value = pairs[0]
    for place, number in enumerate(own):
        if number == value and all(n[place] == v for n, v in pairs):
            return f"{{{place}}}"
    if all(v == value for _, v in pairs):
        return str(value)
    for place, number in enumerate(own):
        offset = value - number
        if offset > 0 and all(v - n[place] == offset for n, v in pairs):
            return f"{{{place}+{offset}}}"
    return None


def _way(plan: Plan, kindred: Kindred, rule: list[str], hits: list[_Hit], place: int) -> dict[str, Any]:
    bound = plan.source.bound[place]
    rest = iter(rule)
    shown: dict[Any, tuple[Target, Piece]] = {}
    first: tuple[Target, Piece] | None = None
    for hit in hits:
        target, piece = _with_places(hit, rest)
        first = first or (target, piece)
        shown.setdefault((hit.target.stored.name, hit.piece.part), (target, piece))
    assert first is not None
    source = bound._replace(stored=bound.stored._replace(stem=_stem(kindred, bound)))
    steps = _steps(plan, source, *first)
    rows = [_destination(target, piece) for target, piece in list(shown.values())[:SHOWN]]
    return {"steps": steps, "destination": [row for row, _ in rows], "scale": rows[0][1], "more": len(shown) - len(rows)}


def _stem(kindred: Kindred, bound: Bound) -> str:
    return kindred.template.removesuffix(bound.stored.name.removeprefix(bound.stored.stem))


def _with_places(hit: _Hit, rest: Iterator[str]) -> tuple[Target, Piece]:
    """Target and piece with the texts of the rule in place of their numbers."""
    stored = hit.target.stored
    stem, numbers = template_of(stored.stem)
    for number in range(len(numbers)):
        stem = stem.replace(f"{{{number}}}", f"\0{number}\0")
    for number in range(len(numbers)):
        stem = stem.replace(f"\0{number}\0", next(rest))
    words = [_padded(next(rest), word) if _number(word) else word for word in _words(stored.file)]
    file = "-".join(words).replace("-.", ".")
    target = hit.target._replace(stored=stored._replace(stem=stem, file=file))
    return target, hit.piece._replace(part=hit.piece.part._replace(lead=next(rest)))


def _padded(text: str, word: str) -> str:
    """`{0}` for `07` is `{0:02}`: padded with zeros to the width of the word. A constant is the word itself."""
    return f"{text[:-1]}:0{len(word)}}}" if text.startswith("{") else word


def _steps(plan: Plan, source: Bound, target: Target, piece: Piece) -> list[dict[str, Any]]:
    """As `trace` tells them. What is loaded has no byte range here: that is another one for each tensor."""
    number = piece.fragments[0].source
    seen: Any = SimpleNamespace(layout=plan.layout, source=SimpleNamespace(bound={number: source}))
    steps = trace.steps(seen, target, piece)
    steps[0]["detail"] = source.encoding.describe(source.stored.shape)
    return steps


def _destination(target: Target, piece: Piece) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Where the values go, and where their scales go (None: it has none)."""
    lead: Any = piece.part.lead  # the text of the rule
    values, *scale = ({**row, "slice": _slice(row, lead, target.stored.placement.stacked)}
                      for row in trace.destination_rows(target, piece.part._replace(lead=0)))
    return values, scale[0] if scale else None


def _slice(row: dict[str, Any], lead: str, stacked: bool) -> str:
    """`[{1}, :, 0:1536]`: the place in the destination, in its stored axes."""
    if len(row["slice"]) != len(row["shape"]):
        return "whole"  # no matrix: a scalar, a convolution
    words = [":" if (start, stop) == (0, size) else f"{start}:{stop}" for (start, stop), size in zip(row["slice"], row["shape"], strict=True)]
    return f"[{', '.join([lead, *words[1:]] if stacked else words)}]"
