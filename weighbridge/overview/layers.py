"""The map: modules in columns, layers in rows, and the encoding of each cell."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from weighbridge.drawing.encodings import encoding
from weighbridge.drawing.order import LAYER_WORDS, arranged, group_kind, leaf_kind
from weighbridge.overview.groups import Box, Kindred, boxes

DEEPEST = 12  # words of a name that order it; a hostile name has hundreds
LAYER = re.compile(r"(?:^|[./])(?:" + "|".join(sorted(LAYER_WORDS)) + r")\.\{(\d)\}\.")


class LayerPlace:
    """Where the tensors of one kindred lie: `stack` of layers (`model.layers.`, empty: outside of layers), `layer`: which number is the layer's, `name` inside it."""

    def __init__(self, kindred: Kindred) -> None:
        name, self.stack, self.layer = kindred.template, "", -1
        if kindred.numbers:
            if found := LAYER.search(name):
                self.stack, self.layer = name[: found.start(1) - 1], int(found[1])
                name = name[found.end():]
            name = re.sub(r"\{\d\}", "*", name)
        self.name = name.removesuffix(kindred.key.suffix) if kindred.key.suffix.startswith(".") else name

    @property
    def full(self) -> str:
        """The name with its stack of layers, `model.layers.*.mlp.up_proj`."""
        return (self.stack + "*." if self.stack else "") + self.name


def layer_map(kindreds: list[Kindred]) -> dict[str, Any]:
    """`columns`, `layers`, `runs` and `outside`. Only the largest stack of layers is a map; towers beside it are told outside, each module once."""
    weights = [(kindred, LayerPlace(kindred)) for kindred in kindreds if kindred.pair is not None]
    main = main_stack(kindreds)
    encodings: dict[str, tuple[int, dict[str, Any]]] = {}
    cells: dict[tuple[str, str], dict[int, dict[int, list[int]]]] = {}
    outside: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for kindred, place in weights:
        own = encoding(kindred.leaf)
        index = encodings.setdefault(repr(own), (len(encodings), own))[0]
        if place.stack == main and place.layer >= 0:
            layers = cells.setdefault((place.name, kindred.key.role), {})
            for box in boxes(kindred.members):
                _fill(layers, box, place.layer, index, kindred.bytes)
            continue
        name, role = place.full, kindred.key.role
        row = outside.setdefault((name, role), {}).setdefault(index, {"name": name, "role": role, "encoding": index, "count": 0, "bytes": 0})
        row["count"] += len(kindred.members)
        row["bytes"] += kindred.bytes * len(kindred.members)
    columns = in_order(cells)
    runs = [run for number, column in enumerate(columns) for run in _runs(number, cells[column])]
    return {"encodings": [own for _, own in encodings.values()], "columns": [{"name": name, "role": role} for name, role in columns],
            "layers": 1 + max((last for _, _, last, *_ in runs), default=-1), "runs": runs,
            "outside": [row for name in in_order(outside) for row in outside[name].values()]}


def main_stack(kindreds: list[Kindred]) -> str:
    """The prefix of the stack of layers that holds most bytes: `model.layers.`. Empty where there are no layers."""
    sizes: dict[str, int] = {}
    for kindred in kindreds:
        if kindred.pair is not None and (stack := LayerPlace(kindred).stack):
            sizes[stack] = sizes.get(stack, 0) + len(kindred.members) * kindred.bytes
    return max(sorted(sizes), key=lambda stack: sizes[stack], default="")


def _fill(layers: dict[int, dict[int, list[int]]], box: Box, at: int, index: int, each: int) -> None:
    count = 1
    for place, (first, last) in enumerate(box):
        count *= 1 if place == at else last - first + 1
    for layer in range(box[at][0], box[at][1] + 1):
        cell = layers.setdefault(layer, {}).setdefault(index, [0, 0])
        cell[0] += count
        cell[1] += count * each


def _runs(column: int, layers: dict[int, dict[int, list[int]]]) -> list[list[int]]:
    """[column, first layer, last layer, encoding, weights in each layer, bytes in each layer]; a layer with two encodings is in two runs."""
    runs: list[list[int]] = []
    last: dict[int, list[int]] = {}
    for layer in sorted(layers):
        for index, (count, size) in layers[layer].items():
            run = last.get(index)
            if run is not None and run[2] == layer - 1 and run[4:] == [count, size]:
                run[2] = layer
            else:
                runs.append(run := [column, layer, layer, index, count, size])
                last[index] = run
    return runs


def in_order(columns: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(name, role) in the order of the forward pass, as `draw` has it."""
    root: dict[str, Any] = {"name": "", "role": None, "children": {}, "own": []}
    for name, role in columns:
        node = root
        for word in name.split(".", DEEPEST):
            node = node["children"].setdefault(word, {"name": word, "role": None, "children": {}, "own": []})
        node["role"] = role
        node["own"].append((name, role))
    return _listed(_kinds(root, "layer"))


def _kinds(node: dict[str, Any], kind: str) -> dict[str, Any]:
    """The node as `drawing.order` wants it: with kinds, and a list of children. What lies under a weight (`q_proj.bias`) stands beside it."""
    children = []
    for child in node["children"].values():
        below = child["children"]
        if child["own"]:
            beside = [{**inner, "name": f"{child['name']}.{word}"} for word, inner in below.items()]
            children += [_kinds({**own, "children": {}} if own is child else own, leaf_kind("weight", own["role"] or "")) for own in (child, *beside)]
        else:
            children.append(_kinds(child, group_kind(child["name"], _groups(child), kind, child["name"] == "*", "*" in below)))
    return {**node, "kind": kind, "children": children}


def _groups(node: dict[str, Any]) -> set[str]:
    """First words of the roles at and below a node."""
    own = {node["role"].partition(".")[0]} if node["role"] else set()
    return own.union(*(_groups(child) for child in node["children"].values()))


def _listed(node: dict[str, Any]) -> list[tuple[str, str]]:
    return [*node["own"], *(column for child in arranged(node["children"]) for column in _listed(child))]
