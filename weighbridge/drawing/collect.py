"""All stored names as one tree of modules, with subtrees that are alike known by one number.

The 96,103 tensors of MiniMax-M2 become 16,000 modules of 20 different shapes: whatever is asked of the tree is asked of these.
"""

from __future__ import annotations

from typing import NamedTuple

from weighbridge.check import cuts
from weighbridge.check.case import Case
from weighbridge.check.fold import ranges
from weighbridge.inspection.kind import NO_KIND, WeightKind
from weighbridge.inspection.survey import lone_scale

DEEPEST = 40  # levels of names; what has more stays one word
NONE = -1


class Leaf(NamedTuple):
    """What the headers of one weight say, or of a tensor that is none (`what`: weight, helper, scale). Bytes are those of one, with its scale.

    `shape` is as stored, `part` the part of the parallel arithmetic that it belongs to (None: held whole by every rank).
    """

    what: str
    word: str
    suffix: str
    role: str
    dtype: str
    shape: tuple[int, ...]
    scale_suffix: str
    scale_dtype: str
    scale_shape: tuple[int, ...]
    kind: WeightKind
    bytes: int
    part: cuts.CutPart | None


class Item(NamedTuple):
    """One child, or several with numbers for names that are alike: `first` is the name of one of them.

    `main` is the weight that has this name, `below` the shape of what lies under it (NONE: nothing).
    """

    name: str
    numeric: bool
    count: int
    first: str
    main: int
    below: int


class Shape(NamedTuple):
    """What a module holds: children, and tensors of its own by the ends of their names."""

    items: tuple[Item, ...]
    own: dict[str, int]


class NameNode:
    """One place in the tree of names. `mains` are the weights of children, under the child's name."""

    __slots__ = ("children", "mains", "own", "shape")

    def __init__(self) -> None:
        self.children: dict[str, NameNode] = {}
        self.mains: dict[str, int] = {}
        self.own: dict[str, int] = {}
        self.shape = NONE


class Collected:
    """Leaves and shapes, each of them once; `root` is the whole checkpoint's shape."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.leaves: list[Leaf] = []
        self.shapes: list[Shape] = []
        self._leaf_numbers: dict[tuple[object, ...], int] = {}
        self._modules: dict[str, NameNode] = {"": NameNode()}
        self._ranks = bool(case.checkpoint.ranks)
        self._weights()
        self._others()
        self.root = self._fold()

    @property
    def last(self) -> int:
        """The largest number that stands first in a folded name: no larger one has to be looked up."""
        return max((int(item.first) for shape in self.shapes for item in shape.items if item.numeric), default=0)

    # Collecting.

    def _weights(self) -> None:
        """Every weight, by what its headers say: pairs of headers are looked at once, names only for their place."""
        assert self.case.survey.weights is not None, "a survey for drawing keeps its weights"
        known = self._pairs()
        modules = self._modules
        for name, _, _, _, key, pair in self.case.survey.weights:
            number, main = known[id(pair)]
            path = name[: -len(key.suffix)] if key.suffix else name
            parent, _, word = path.rpartition(".")
            if not parent:
                parent, _, word = self._split(path)
            module = modules.get(parent) or self._module(parent)
            if not main:
                _put(module.own, word + key.suffix, name, number)
            elif word in module.mains:  # `x.weight` beside `x.qweight`
                _put(self._module(path).own, key.suffix[1:], name, number)
            else:
                module.mains[word] = number

    def _pairs(self) -> dict[int, tuple[int, bool]]:
        """Number of the leaf for each pair, and whether its name is that of its module."""
        part_of = cuts.parts_by_pair(self.case)
        known = {}
        for name, key in self.case.survey.keys.items():
            if key.what != "weight":
                continue
            main = key.suffix.startswith(".")
            word = "" if main else name[: len(name) - len(key.suffix)].rpartition(".")[2]
            for pair in key.pairs.values():
                leaf = Leaf("weight", word, key.suffix, key.role, pair.row.dtype, pair.shape, pair.row.scale_suffix or "", pair.row.scale_dtype or "",
                            pair.scale_shape, pair.kind, pair.bytes + pair.scale_bytes, part_of.get(id(pair)))
                known[id(pair)] = self._number(leaf), main
        return known

    def _number(self, leaf: Leaf) -> int:
        number = self._leaf_numbers.setdefault((*leaf[:-1], id(leaf.part)), len(self.leaves))
        if number == len(self.leaves):
            self.leaves.append(leaf)
        return number

    def _others(self) -> None:
        """Helpers, and scales whose weight is not here: no weights, but bytes."""
        tensors = self.case.checkpoint.tensors
        for key in self.case.survey.keys.values():
            if key.what == "weight" or len(key.names) == key.paired:
                continue
            for name in self.case.survey.alone(key):
                tensor = tensors[name]
                parent, _, word = name.rpartition(".")
                problem = "" if key.what == "helper" or key.weight_name(name) in tensors else lone_scale(tensor)
                leaf = Leaf("helper" if key.what == "helper" else "scale", word, "", key.role, tensor.dtype, tensor.shape, "", "", (),
                            NO_KIND._replace(problem=problem), tensor.nbytes, None)
                _put(self._module(parent).own, word, name, self._number(leaf))

    def _module(self, path: str) -> NameNode:
        """The module of a path, with all that it lies in. A parent is always made before its children."""
        found = self._modules.get(path)
        if found is not None:
            return found
        parent, _, word = self._split(path)
        above = self._module(parent)
        found = self._modules[path] = above.children.setdefault(word, NameNode())
        return found

    def _split(self, path: str) -> tuple[str, str, str]:
        """A path as (parent, "", last word). Per-rank files put `tp0/` in front of all names: rank 0 of `ranks`."""
        if path.count(".") >= DEEPEST:
            return "", "", path
        if self._ranks and path == "/":
            return "", "", "ranks"
        if self._ranks and "." not in path and "/" in path:
            rank, _, word = path.partition("/")
            return (f"{rank}/", "", word) if word else ("/", "", rank.removeprefix("tp"))
        return path.rpartition(".")

    # Folding.

    def _fold(self) -> int:
        numbers: dict[tuple[object, ...], int] = {}
        module = self._modules[""]
        for module in reversed(self._modules.values()):  # children before their parents
            if not module.children and not module.own:
                fast = (frozenset(module.mains.items()),)
                module.shape = numbers.get(fast, NONE)
                if module.shape == NONE:
                    module.shape = numbers[fast] = self._shape(module)
                continue
            items = _items(module)
            key = (frozenset((i.numeric, i.name, i.main, i.below) for i in items), frozenset(module.own.items()))
            module.shape = numbers.get(key, NONE)
            if module.shape == NONE:
                module.shape = numbers[key] = len(self.shapes)
                self.shapes.append(Shape(items, module.own))
        return module.shape

    def _shape(self, module: NameNode) -> int:
        self.shapes.append(Shape(_items(module), module.own))
        return len(self.shapes) - 1


def _put(own: dict[str, int], word: str, name: str, number: int) -> None:
    """Under its last word; where two names differ by empty words only, the second is known by its whole name with dots in front."""
    key = word
    while key in own:
        key = name if key == word != name else f".{key}"
    own[key] = number


def _items(module: NameNode) -> tuple[Item, ...]:
    """The children, with those folded whose names are numbers and which are alike."""
    mains, children = module.mains, module.children
    out: list[Item] = []
    alike: dict[tuple[int, int], list[int]] = {}
    for word in {**mains, **children}:
        child = children.get(word)
        main, below = mains.get(word, NONE), child.shape if child is not None else NONE
        if word.isdigit() and word.isascii() and len(word) < 10 and str(int(word)) == word:
            alike.setdefault((main, below), []).append(int(word))
        else:
            out.append(Item(word, False, 1, word, main, below))
    for (main, below), found in alike.items():
        found.sort()
        out.append(Item(ranges(found), True, len(found), str(found[0]), main, below))
    return tuple(out)
