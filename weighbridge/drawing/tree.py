"""The tree that `draw` shows: nodes of plain data from the folded shapes of `collect`, with sums that children add up to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from weighbridge.drawing.axes import Axes
from weighbridge.drawing.collect import NONE, Collected, Item, Leaf
from weighbridge.drawing.encodings import encoding, shape_in_values
from weighbridge.drawing.order import arranged, group_kind, leaf_kind

Node = dict[str, Any]
WRAPPERS = frozenset({"model"})  # levels of names that are no part of the model


class TreePlace:
    """Where the drawing stands: `real` is the name of one stored module here, `shown` that of all it stands for, `times` how many they are."""

    __slots__ = ("kind", "real", "shown", "times")

    def __init__(self, real: str, shown: str, times: int, kind: str) -> None:
        self.real, self.shown, self.times, self.kind = real, shown, times, kind

    def at(self, first: str, shown: str, count: int, kind: str) -> TreePlace:
        return TreePlace(f"{self.real}.{first}" if self.real else first, f"{self.shown}.{shown}" if self.shown else shown, self.times * count, kind)


class Tree:
    """Nodes, and for each node without children its leaf: `leaves` has (node, leaf, how many, helper bytes of them all).

    Layers behind the model's own (draft layers) have `draft` true.
    """

    def __init__(self, collected: Collected, axes: Axes) -> None:
        self.collected, self.axes = collected, axes
        self.layers = collected.case.sizes.layers
        self.leaves: list[tuple[Node, Leaf, int, int]] = []

    def root(self, name: str) -> Node:
        """The whole model."""
        children = arranged(self._lifted(self._children(self.collected.root, TreePlace("", "", 1, "model"))))
        return {**_group(name, "model", "", 1, children), "children": children}

    def _lifted(self, nodes: list[Node]) -> list[Node]:
        """`model.layers` beside `lm_head`: the level `model` goes, its children stay."""
        out: list[Node] = []
        for node in nodes:
            out += node["children"] if node["name"] in WRAPPERS and node["children"] else [node]
        return out

    def _children(self, number: int, place: TreePlace) -> list[Node]:
        shape = self.collected.shapes[number]
        out = [node for item in shape.items for node in self._item(item, place)]
        return out + [self._leaf(self._word(word, leaf), leaf, place.at(word, word, 1, ""), 1) for word, leaf in self._own(number)]

    def _own(self, number: int) -> Iterator[tuple[str, Leaf]]:
        for word, leaf in self.collected.shapes[number].own.items():
            yield word, self.collected.leaves[leaf]

    @staticmethod
    def _word(word: str, leaf: Leaf) -> str:
        return leaf.word if leaf.suffix == "_blocks" else word

    def _item(self, item: Item, place: TreePlace) -> Iterator[Node]:
        """What has one name: a weight with its helpers, tensors beside it (a bias), and modules below it."""
        shown = f"{{{item.name}}}" if item.count > 1 else item.name
        here = place.at(item.first, shown, item.count, "")
        beside = list(self._own(item.below)) if item.below != NONE else []
        if item.main != NONE:
            helpers = [(word, leaf) for word, leaf in beside if leaf.what == "helper"]
            yield self._leaf(item.name, self.collected.leaves[item.main], here, item.count, helpers, item.numeric)
            for word, leaf in beside:
                if leaf.what != "helper":
                    yield self._leaf(f"{item.name}.{self._word(word, leaf)}", leaf, here.at(word, word, 1, ""), item.count)
        if item.below != NONE and (item.main == NONE or self.collected.shapes[item.below].items):
            yield self._below(item, here, place, beside=item.main == NONE)

    def _below(self, item: Item, here: TreePlace, place: TreePlace, beside: bool) -> Node:
        shape = self.collected.shapes[item.below]
        here.kind = self._early_kind(item, place)
        children = self._children(item.below, here) if beside else [n for i in shape.items for n in self._item(i, here)]
        if len(children) == 1 and not item.numeric and not children[0]["numeric"]:
            children[0]["name"] = f"{item.name}.{children[0]['name']}"
            return children[0]
        children = arranged(self._lifted(children))
        numeric = any(i.numeric for i in shape.items)
        groups = {g for child in children for g in child["groups"]}
        kind = group_kind(item.name, groups, place.kind, item.numeric, numeric)
        draft = {"draft": True} if kind == "layer" and 0 < self.layers <= int(item.first) else {}
        return {**_group(item.name, kind, here.shown, item.count, children), **draft, "children": children, "numeric": item.numeric}

    def _early_kind(self, item: Item, place: TreePlace) -> str:
        """`layers` and `experts` must be known before their children are drawn."""
        if item.numeric:
            return "layer" if place.kind == "layers" else "expert" if place.kind == "experts" else ""
        return group_kind(item.name, (), place.kind, False, any(i.numeric for i in self.collected.shapes[item.below].items))

    def _leaf(self, name: str, leaf: Leaf, here: TreePlace, count: int, helpers: list[tuple[str, Leaf]] | None = None,
              numeric: bool = False) -> Node:
        beside = helpers or []
        extra = sum(h.bytes for _, h in beside) * here.times
        shape = shape_in_values(leaf)
        real, shown = (text.removesuffix("_blocks") if leaf.suffix == "_blocks" else text for text in (here.real, here.shown))
        node = {
            "name": name, "kind": leaf_kind(leaf.what, leaf.role), "path": shown, "role": leaf.role,
            "axes": self.axes.of(real, leaf.role, shape, leaf.suffix == "_blocks") if leaf.what == "weight" else None, "shape": shape,
            "encoding": encoding(leaf, tuple(word for word, _ in beside)), "count": count, "parameters": leaf.kind.parameters * here.times,
            "bytes": leaf.bytes * here.times + extra, "rank": None, "problem": leaf.kind.problem or None, "children": [],
            "groups": {leaf.role.partition(".")[0]}, "numeric": numeric,
        }
        self.leaves.append((node, leaf, here.times, extra))
        return node


def _group(name: str, kind: str, path: str, count: int, children: list[Node]) -> Node:
    """A node over `children`; it carries their encoding where they all have the same."""
    encodings = [child["encoding"] for child in children]
    same = encodings[0] if encodings and all(e is not None and e == encodings[0] for e in encodings) else None
    return {
        "name": name, "kind": kind, "path": path or None, "role": None, "axes": None, "shape": None, "encoding": same, "count": count,
        "parameters": sum(child["parameters"] for child in children), "bytes": sum(child["bytes"] for child in children), "rank": None,
        "problem": None, "groups": {g for child in children for g in child["groups"]},
    }
