"""Logical weights: what a model is made of, before anyone decides how it is stored; and in which forms its makers store it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple


class Weight(NamedTuple):
    """One logical weight. A matrix has axes [out, in]; a vector is held as [1, n] with `vector` true.

    `published` is its name in the checkpoints that the model's makers publish, or nothing where it has no tensor of its own there (a form of
    the inventory holds it). `linear`: it is the matrix of a linear layer that quantization touches. `dims` is the stored shape where that is
    not `shape`: a convolution, a scalar; its elements stand in the same order.
    """

    name: str
    published: str
    shape: tuple[int, int]
    axes: tuple[str, ...]
    role: str
    linear: bool
    vector: bool
    dims: tuple[int, ...] | None = None

    @property
    def parameters(self) -> int:
        return self.shape[0] * self.shape[1]


class PublishedForm(NamedTuple):
    """One stored tensor that holds several logical weights, or one under another name.

    Of each of `slices` the rows of its weights stand one behind the other; `stacked`: the slices stand along a first axis of their own (one
    for each expert), also where there is one. `turned`: each slice is stored as [in, out]. `suffix` is how the name of the values ends:
    packed codes have another one than plain values. Biases are vectors: joined they make a longer one, stacked [slices, n].
    """

    stem: str
    suffix: str
    slices: tuple[tuple[str, ...], ...]
    role: str
    stacked: bool = False
    turned: bool = False

    @property
    def name(self) -> str:
        return self.stem + self.suffix

    @property
    def members(self) -> Iterator[str]:
        return (name for part in self.slices for name in part)


@dataclass(frozen=True)
class Inventory:
    """All logical weights of one model, and the sizes that layouts cut by.

    `sizes` holds plain integers under the names of `models.sizes`. Index sets are finite: layer `l` is in range(layers), expert `e` in
    range(experts). A weight without a published name is held by the first of `forms` that has it; the other forms are what tools save
    (transformers 5 stacks experts). `unknown` says in words what an inventory that was made from headers cannot know.
    """

    model_type: str
    sizes: dict[str, int]
    weights: dict[str, Weight]
    promised: tuple[str, ...] = field(default=())
    optional: dict[str, Weight] = field(default_factory=dict)  # draft layers: there as a whole, or absent without an error
    foreign: tuple[str, ...] = field(default=())  # prefixes of stored names that the inventory does not describe: towers
    forms: tuple[PublishedForm, ...] = field(default=())
    unknown: tuple[str, ...] = field(default=())

    def __getitem__(self, name: str) -> Weight:
        return self.weights[name] if name in self.weights else self.optional[name]

    @cached_property
    def main_forms(self) -> tuple[PublishedForm, ...]:
        """The forms of the makers: they hold what has no tensor of its own, each weight once."""
        found, held = [], set[str]()
        for form in self.forms:
            if not any(self[name].published or name in held for name in form.members):
                held.update(form.members)
                found.append(form)
        return tuple(found)

    @cached_property
    def published_names(self) -> dict[str, bool]:
        """Every name in the makers' files, without quantization; true for those that must be there."""
        found = {w.published: True for w in self.weights.values() if w.published}
        found |= {w.published: False for w in self.optional.values() if w.published}
        return found | {form.name: all(name in self.weights for name in form.members) for form in self.main_forms}


class Collector:
    """Collects weights and forms under a logical and a published prefix, which `at` sets."""

    def __init__(self) -> None:
        self.weights: dict[str, Weight] = {}
        self.forms: list[PublishedForm] = []
        self.prefix, self.published = "", ""

    def at(self, prefix: str, published: str) -> None:
        self.prefix, self.published = prefix, published

    def matrix(self, name: str, published: str, shape: tuple[int, int], axes: tuple[str, str], role: str, linear: bool) -> None:
        """A matrix; `published` is its module, or nothing where a form holds it."""
        full = self.prefix + name
        self.weights[full] = Weight(full, f"{self.published}{published}.weight" if published else "", shape, axes, role, linear, False)

    def vector(self, name: str, published: str, size: int, axis: str, role: str, dims: tuple[int, ...] | None = None) -> None:
        full = self.prefix + name
        self.weights[full] = Weight(full, self.published + published if published else "", (1, size), (axis,), role, False, True, dims)

    def form(self, stem: str, suffix: str, slices: Iterable[tuple[str, ...]], role: str, *, stacked: bool = False, turned: bool = False) -> None:
        """A stored form of weights under the present prefix."""
        full = tuple([tuple([self.prefix + name for name in part]) for part in slices])
        self.forms.append(PublishedForm(self.published + stem, suffix, full, role, stacked, turned))
