"""Names of a stored weight's axes, from the family's inventory: by the published name, else by what all weights of its role have in common."""

from __future__ import annotations

import re

from weighbridge.check.case import Case
from weighbridge.errors import WeighbridgeError
from weighbridge.models import Inventory, PublishedForm, Weight, inventory
from weighbridge.models.sizes import shortened

_RANK = re.compile(r"^ranks\.\d+\.")
BLOCKS = "_blocks"  # packed codes of a stack are stored under this ending


def inventory_of(case: Case, last: int) -> Inventory | None:
    """The family's inventory as far as layer `last`: a folded tree names few layers, and a whole inventory has tens of thousands of weights.

    Draft layers are numbered behind the last one, so with them it is whole. None where the family is unknown or its config describes no model.
    """
    if not case.claims.mtp:
        try:
            return inventory(shortened(case.config, last + 1))
        except WeighbridgeError:
            pass
    return case.inventory


class Axes:
    """Answers for one inventory; for none (an unknown family) always None. `neuron`: the experts' stacks are NxD's, [experts, in, out]."""

    def __init__(self, inventory: Inventory | None, neuron: bool = False) -> None:
        self.inventory, self.forms = inventory, {form.name: form for form in inventory.forms} if inventory is not None else {}
        self.published: dict[str, Weight] = {}
        self.by_role: dict[str, Weight | None] = {}
        self.sizes = dict(inventory.sizes) if inventory is not None else {}
        self.neuron = neuron
        if inventory is None:
            return
        for weights in (inventory.weights, inventory.optional):
            for weight in weights.values():
                self.published[weight.published] = weight
        self.published.pop("", None)  # held by a form
        for weight in (*inventory.weights.values(), *inventory.optional.values()):
            known = self.by_role.setdefault(weight.role, weight)
            if known is not None and known.axes != weight.axes:
                self.by_role[weight.role] = None  # norms have axes of several kinds

    def of(self, path: str, role: str, shape: list[int], blocks: bool = False) -> list[str] | None:
        """`path` is the stored name without `.weight`, `shape` counts values along the stored axes; `blocks`: the stack is [experts, out, in]."""
        path = _RANK.sub("", path)
        names = (*((path + BLOCKS,) if blocks else ()), path + ".weight", path, f"model.{path}.weight", f"model.{path}")
        form = next((self.forms[name] for name in names if name in self.forms), None)
        if form is not None:
            return self._of_form(form, shape)
        weight = next((self.published[name] for name in names if name in self.published), None) or self._of_role(role)
        if weight is None:
            return None
        if len(shape) == 3 and role.startswith("experts."):
            return self._stacked(weight, shape, blocks)
        return _ordered(list(weight.axes), list(weight.shape[-len(weight.axes):]), shape)

    def _of_form(self, form: PublishedForm, shape: list[int]) -> list[str] | None:
        """Several weights in one tensor: rows one behind the other, slices along a first axis."""
        assert self.inventory is not None
        weights = [self.inventory[name] for name in form.slices[0]]
        first, count = weights[0], len(weights)
        rows = first.axes[0] if count == 1 else _joined(weights)
        if first.vector:
            axes = ["experts", rows] if form.stacked else [rows]
            return axes if len(shape) == len(axes) else None
        axes, sizes = [rows, first.axes[1]], [sum(weight.shape[0] for weight in weights), first.shape[1]]
        axes, sizes = (axes[::-1], sizes[::-1]) if form.turned else (axes, sizes)
        if not form.stacked:
            return _ordered(axes, sizes, shape)
        found = axes if sizes[0] == sizes[1] else _ordered(axes, sizes, shape[1:])
        return found and ["experts", *found]

    def _of_role(self, role: str) -> Weight | None:
        """What all weights of a role have in common. Gate and up in one are twice the gate."""
        group, _, part = role.partition(".")
        if part != "gate_up" or role in self.by_role:
            return self.by_role.get(role)
        gate = self.by_role.get(f"{group}.gate")
        return gate and gate._replace(shape=(2 * gate.shape[0], gate.shape[1]), axes=(f"2*{gate.axes[0]}", gate.axes[1]))

    def _stacked(self, weight: Weight, shape: list[int], blocks: bool) -> list[str] | None:
        """All experts of a layer in one tensor. Where both widths are equal, only the format can tell which stands first."""
        axes, sizes = list(weight.axes), list(weight.shape)
        if sizes[0] == sizes[1]:
            found = axes if blocks else axes[::-1] if self.neuron else None
        else:
            found = _ordered(axes, sizes, shape[1:])
        return found and ["experts", *found]


def _joined(weights: list[Weight]) -> str:
    """The axis of rows that are joined: `2*inter` of gate and up, `q+k+v` of three, or of their slices."""
    axes, count = {weight.axes[0] for weight in weights}, len(weights)
    if len(axes) > 1:
        return "+".join(weight.role.rpartition(".")[2] for weight in weights)
    axis = axes.pop()
    return axis.removesuffix(f"/{count}").strip("()") if axis.endswith(f"/{count}") else f"{count}*{axis}"


def _ordered(axes: list[str], sizes: list[int], shape: list[int]) -> list[str] | None:
    """The axes in the order of the stored ones; None where sizes cannot tell it."""
    if len(shape) != len(axes):
        return None
    if len(axes) != 2 or sizes == shape:
        return axes
    if sizes[::-1] == shape:
        return axes[::-1]
    # A part of the weight (one rank's): the axis that is whole tells the order.
    straight = sizes[0] == shape[0] or sizes[1] == shape[1]
    swapped = sizes[0] == shape[1] or sizes[1] == shape[0]
    return None if straight == swapped else axes if straight else axes[::-1]
