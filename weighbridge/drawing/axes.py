"""Names of a stored weight's axes, from the family's inventory: by the published name, else by what all weights of its role have in common."""

from __future__ import annotations

import re
from typing import Any

from weighbridge.check.case import Case
from weighbridge.errors import WeighbridgeError
from weighbridge.models import Inventory, Weight, inventory

LAYERS, DRAFTS = "num_hidden_layers", "num_nextn_predict_layers"
_RANK = re.compile(r"^ranks\.\d+\.")


def inventory_of(case: Case, last: int) -> Inventory | None:
    """The family's inventory as far as layer `last`: a folded tree names few layers, and a whole inventory has tens of thousands of weights.

    Draft layers are numbered behind the last one, so with them it is whole. None where the family is unknown or its config describes no model.
    """
    if not case.text_config.get(DRAFTS):
        shorter = _shorter(case.config, last)
        if isinstance(shorter.get("text_config"), dict):
            shorter["text_config"] = _shorter(shorter["text_config"], last)
        try:
            return inventory(shorter)
        except WeighbridgeError:
            pass
    return case.inventory


def _shorter(config: dict[str, Any], last: int) -> dict[str, Any]:
    layers = config.get(LAYERS)
    known = isinstance(layers, int) and not isinstance(layers, bool) and layers > last
    return {**config, LAYERS: last + 1} if known else dict(config)


class Axes:
    """Answers for one inventory; for none (an unknown family) always None. `neuron`: the experts' stacks are NxD's, [experts, in, out]."""

    def __init__(self, inventory: Inventory | None, neuron: bool = False) -> None:
        self.published: dict[str, Weight] = {}
        self.by_role: dict[str, Weight | None] = {}
        self.sizes = dict(inventory.sizes) if inventory is not None else {}
        self.neuron = neuron
        if inventory is None:
            return
        for weights in (inventory.weights, inventory.optional):
            for weight in weights.values():
                self.published[weight.published] = weight
        for weight in self.published.values():
            known = self.by_role.setdefault(weight.role, weight)
            if known is not None and known.axes != weight.axes:
                self.by_role[weight.role] = None  # norms have axes of several kinds

    def of(self, path: str, role: str, shape: list[int], blocks: bool = False) -> list[str] | None:
        """`path` is the stored name without `.weight`, `shape` counts values along the stored axes; `blocks`: the stack is [experts, out, in]."""
        path = _RANK.sub("", path)
        names = (path + ".weight", path, f"model.{path}.weight", f"model.{path}")
        weight = next((self.published[name] for name in names if name in self.published), None) or self._of_role(role)
        if weight is None:
            return None
        if len(shape) == 3 and role.startswith("experts."):
            return self._stacked(weight, shape, blocks)
        axes, sizes = list(weight.axes), list(weight.shape[-len(weight.axes):])
        if axes[0].startswith("experts*") and len(shape) == 2 and weight.vector:
            return ["experts", axes[0].removeprefix("experts*")]  # a bias of all experts
        return _ordered(axes, sizes, shape)

    def _of_role(self, role: str) -> Weight | None:
        """What all weights of a role have in common. Gate and up in one are twice the gate."""
        group, _, part = role.partition(".")
        if part != "gate_up" or role in self.by_role:
            return self.by_role.get(role)
        gate = self.by_role.get(f"{group}.gate")
        return gate and gate._replace(shape=(2 * gate.shape[0], gate.shape[1]), axes=(f"2*{gate.axes[0]}", gate.axes[1]))

    def _stacked(self, weight: Weight, shape: list[int], blocks: bool) -> list[str] | None:
        """All experts of a layer in one tensor. Where both widths are equal, only the format can tell which stands first."""
        rows, experts = weight.shape[0], self.sizes.get("experts", 0)
        if weight.axes[0].startswith("experts*"):
            rows = rows // experts if experts else 0
        axes, sizes = [weight.axes[0].removeprefix("experts*"), weight.axes[1]], [rows, weight.shape[1]]
        if sizes[0] == sizes[1]:
            found = axes if blocks else axes[::-1] if self.neuron else None
        else:
            found = _ordered(axes, sizes, shape[1:])
        return found and ["experts", *found]


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
