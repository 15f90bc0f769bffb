"""Layers that are alike: the same weights, shapes and encodings. A few of each kind stand for all in estimates."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from weighbridge.errors import WeighbridgeError
from weighbridge.layouts.source import Source
from weighbridge.models.roles import layer_of

KEPT, WEIGHTS = 3, 1_000  # layers of each kind that are kept (first, middle, last), and weights of all of them: a large layer stands alone
_NUMBER = re.compile(r"((?:^|\.)(?:layers|blocks|h)\.)\d+(?=\.)")


@dataclass(frozen=True)
class Alike:
    """A source with a few layers of each kind. `stands` says for how many layers one of them counts."""

    source: Source
    stands: dict[int, float]

    def stays(self, name: str) -> bool:
        """Whether a weight or a module is in a layer that is kept, or in none."""
        return layer_of(name) < 0 or layer_of(name) in self.stands

    def share(self, weight: str) -> float:
        return self.stands.get(layer_of(weight), 1)


@dataclass(frozen=True)
class HeadersOnly(Source):
    """A source whose tensors are not on this machine: estimates read none of them."""

    def read(self, tensor):  # type: ignore[no-untyped-def]
        raise WeighbridgeError("not-local", "whether this is exact depends on the values of scales, and they are not on this machine", tensor.name,
                               "convert --dry-run reads them")


def alike(source: Source) -> Alike:
    """`source` without the layers that are like others. Numbers of stored tensors stay as they are."""
    kinds: dict[tuple, list[int]] = {}
    for layer, held in sorted(_kinds(source).items()):
        kinds.setdefault(tuple(sorted(held)), []).append(layer)
    stands: dict[int, float] = {}
    for held, layers in kinds.items():
        most = max(1, min(KEPT, WEIGHTS // len(held)))
        kept = layers if len(layers) <= most else [layers[len(layers) // 2]] if most < KEPT else [layers[0], layers[len(layers) // 2], layers[-1]]
        stands |= dict.fromkeys(kept, len(layers) / len(kept))
    stays, own = Alike(source, stands).stays, source.inventory
    cut = replace(own, weights={n: w for n, w in own.weights.items() if stays(n)}, optional={n: w for n, w in own.optional.items() if stays(n)},
                  forms=tuple(f for f in own.forms if all(map(stays, f.members))))
    local = source.checkpoint.store.path(next(iter(source.checkpoint.headers), "config.json")) is not None
    made = (Source if local else HeadersOnly)(source.checkpoint, source.layout, source.options, cut, source.bound, source.problems, source.claims, source.constants, source.kept)
    return Alike(made, stands)


def _kinds(source: Source) -> dict[int, list[tuple[str, tuple[int, int], int]]]:
    """For each layer its weights: name without the number, shape, and the encodings in which they are held."""
    found: dict[int, list[tuple[str, tuple[int, int], int]]] = {}
    for weight in source.weights:
        layer = layer_of(weight.name)
        if layer >= 0:
            holder = source.holders.get(weight.name, ())
            encoding = id(source.bound[holder[0][0]].encoding) if holder else 0
            found.setdefault(layer, []).append((_NUMBER.sub(r"\g<1>*", weight.name, count=1), weight.shape, encoding))
    return found


__all__ = ["Alike", "alike"]
