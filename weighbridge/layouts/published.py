"""The published forms of an inventory as rectangles: what its makers store, and in which other tensors each logical weight may lie.

A binder looks for the first candidate of a weight that the files hold. Grids follow the rectangles: each weight of a joined or stacked tensor
has a grid of its own, and the stored grid is made of them in the same order (MiMo-V2.5's 108 scale rows are four times 27).
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import NamedTuple

from weighbridge.layouts.placement import Placement, join, stack, whole
from weighbridge.models.inventory import Inventory, PublishedForm, Weight


class Candidate(NamedTuple):
    """A stored tensor that may hold a weight: its name is `stem + suffix`, and `placement` has all that lies in it."""

    stem: str
    suffix: str
    placement: Placement

    @property
    def name(self) -> str:
        return self.stem + self.suffix


def stored_forms(inventory: Inventory, held: Callable[[str, str], bool] | None = None) -> dict[str, tuple[Candidate, ...]]:
    """For each logical weight, optional ones too, the stored tensors that may hold it: the makers' form first, then what tools save.

    With `held(stem, suffix)`, which says whether the files have it (packed codes end otherwise than plain values: formats know how), only
    candidates that are there; a weight without any has an empty tuple.
    """
    found: dict[str, list[Candidate]] = {name: [] for name in (*inventory.weights, *inventory.optional)}
    for weights in (inventory.weights, inventory.optional):
        for name, weight in weights.items():
            if weight.published and (held is None or held(*split(weight.published))):
                found[name].append(own(weight))
    for form in inventory.forms:
        if held is None or held(form.stem, form.suffix):
            candidate = Candidate(form.stem, form.suffix, placement(inventory, form))
            for name in form.members:
                found[name].append(candidate)
    return {name: tuple(candidates) for name, candidates in found.items()}


def published(inventory: Inventory, optional: Container[str] = ()) -> list[Candidate]:
    """What the makers store: every weight once, under its own name or in the first form that has it; of draft layers those in `optional`."""
    due = [*inventory.weights.values(), *(w for name, w in inventory.optional.items() if name in optional)]
    found = [own(weight) for weight in due if weight.published]
    found += [Candidate(form.stem, form.suffix, placement(inventory, form)) for form in inventory.main_forms
              if all(name in inventory.weights or name in optional for name in form.members)]
    return found


def own(weight: Weight) -> Candidate:
    """A weight under its own published name."""
    return Candidate(*split(weight.published), whole(weight))


def split(name: str) -> tuple[str, str]:
    """(stem, suffix) of a published name: scales stand beside the stem of a `.weight`; other names have no suffix."""
    return (name[:-7], ".weight") if name.endswith(".weight") else (name, "")


def placement(inventory: Inventory, form: PublishedForm) -> Placement:
    """The rectangles of a form. Rows are joined first, then a slice is turned, then slices are stacked; vectors are joined along their length."""
    slices = [[inventory[name] for name in part] for part in form.slices]
    if all(weight.vector for part in slices for weight in part):
        return _vectors(slices, form.stacked)
    made = [join(0, *(whole(weight) for weight in part)) if len(part) > 1 else whole(part[0]) for part in slices]
    made = [one.swap() for one in made] if form.turned else made
    return stack(made) if form.stacked else made[0]


def _vectors(slices: list[list[Weight]], stacked: bool) -> Placement:
    """Vectors in a row; of a stack, each slice is a row of a plain matrix."""
    rows = [join(1, *(whole(weight) for weight in part)) if len(part) > 1 else whole(part[0]) for part in slices]
    return join(0, *(row._replace(vector=False) for row in rows)) if stacked else rows[0]
