"""Logical weights: what a model is made of, before anyone decides how it is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from weighbridge.errors import Problem, Refused


class Weight(NamedTuple):
    """One logical weight. A matrix has axes [out, in]; a vector is held as [1, n] with `vector` true.

    `published` is its name in the checkpoints that the model's makers publish, `linear` whether it is the
    matrix of a linear layer that quantization touches.
    """

    name: str
    published: str
    shape: tuple[int, int]
    axes: tuple[str, ...]
    role: str
    linear: bool
    vector: bool

    @property
    def parameters(self) -> int:
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class Inventory:
    """All logical weights of one model, and the sizes that layouts cut by.

    `sizes` holds plain integers under short names (hidden, layers, heads, kv_heads, head_dim, inter,
    experts, top_k, vocab). Index sets are finite: layer `l` is in range(layers), expert `e` in range(experts).
    """

    model_type: str
    sizes: dict[str, int]
    weights: dict[str, Weight]
    promised: tuple[str, ...] = field(default=())
    optional: dict[str, Weight] = field(default_factory=dict)  # may be absent without an error: draft layers
    foreign: tuple[str, ...] = field(default=())  # prefixes of stored names that the inventory does not describe: towers

    def __getitem__(self, name: str) -> Weight:
        return self.weights[name]


class Sizes:
    """Reads sizes from a config, with every complaint collected before it refuses."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.problems: list[Problem] = []

    def positive(self, key: str, default: int | None = None, most: int = 1 << 24) -> int:
        value = self.config.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            shown = "is missing" if value is None else f"is {value!r:.80}"
            self.problems.append(Problem("config", f"{key} {shown}; a whole number from 1 to {most:,} is needed",
                                         f"config.json: {key}", "take config.json from the publisher again"))
            return 1
        return value

    def require(self, truth: bool, key: str, message: str) -> None:
        if not truth:
            self.problems.append(Problem("config", message, f"config.json: {key}"))

    def done(self) -> None:
        if self.problems:
            raise Refused(self.problems)


class Collector:
    """Collects weights under a logical and a published prefix, which `at` sets."""

    def __init__(self) -> None:
        self.weights: dict[str, Weight] = {}
        self.prefix, self.published = "", ""

    def at(self, prefix: str, published: str) -> None:
        self.prefix, self.published = prefix, published

    def matrix(self, name: str, published: str, shape: tuple[int, int], axes: tuple[str, str], role: str, linear: bool) -> None:
        full = self.prefix + name
        self.weights[full] = Weight(full, f"{self.published}{published}.weight", shape, axes, role, linear, False)

    def vector(self, name: str, published: str, size: int, axis: str, role: str) -> None:
        full = self.prefix + name
        self.weights[full] = Weight(full, self.published + published, (1, size), (axis,), role, False, True)
