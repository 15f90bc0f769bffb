"""Which layers a skeleton keeps: the first ones, until every kind of layer is among them.

Layers are never given other numbers, since readers build by number (`first_k_dense_replace`, periods, lists of indices): a skeleton of the
first K layers is what the reader would build first anyway. Layers behind the last one (draft layers, DeepSeek's `layers.61`) follow the cut.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from weighbridge.checkpoint.header import Tensor

COUNTS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
_LAYER = re.compile(r"^(.*?)(layers|h|blocks)\.(\d{1,6})\.(.+)$")
_IN_TEXT = re.compile(r"(layers|h|blocks)(\\?\.)(\d{1,6})(?=\\?\.|$)")
# A number below one of these keys says something of single layers: the layer with that number is kept.
_BY_NUMBER = re.compile(r"layer|interval|pattern|step|freq|period|offset|dense|window|skip|every", re.IGNORECASE)
_COUNTED_FROM_THE_END = re.compile(r"(shared|last)_.*layer|layer.*_(shared|last)", re.IGNORECASE)


@dataclass(frozen=True)
class Fold:
    """`kept` of `layers` layers below `prefix` (`model.layers.`). Equal numbers: nothing is folded."""

    prefix: str = ""
    layers: int = 0
    kept: int = 0

    @property
    def folds(self) -> bool:
        return self.kept < self.layers

    def name(self, name: str) -> str | None:
        """The name of a tensor in the skeleton; None where its layer is not kept."""
        number, rest = self._split(name)
        if number is None or number < self.kept:
            return name
        return None if number < self.layers else f"{self.prefix}{number - self.layers + self.kept}.{rest}"

    def original(self, name: str) -> str:
        """The way back of `name`: the checkpoint's own name of a tensor of the skeleton."""
        number, rest = self._split(name)
        if not self.folds or number is None or number < self.kept:
            return name
        return f"{self.prefix}{number - self.kept + self.layers}.{rest}"

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """config.json with K layers: the count, each list with an entry for each layer, and numbers of draft layers in texts."""
        made = copy.deepcopy(dict(config))
        if not self.folds:
            return made
        section = _section(made)
        for key in COUNTS:
            if section.get(key) == self.layers:
                section[key] = self.kept
        for key, value in section.items():
            if isinstance(value, list) and len(value) >= self.layers and key != "quantization_config":
                section[key] = value[: self.kept] + value[self.layers :]
        return self.texts(made)

    def texts(self, value: Any) -> Any:
        """The same value with the numbers of draft layers in its texts as the skeleton has them."""
        if isinstance(value, str):
            return _IN_TEXT.sub(self._moved, value)
        if isinstance(value, list):
            return [self.texts(one) for one in value]
        if isinstance(value, dict):
            return {self.texts(key): self.texts(one) for key, one in value.items()}
        return value

    def _moved(self, found: re.Match[str]) -> str:
        number = int(found[3])
        return found[0] if number < self.layers else f"{found[1]}{found[2]}{number - self.layers + self.kept}"

    def _split(self, name: str) -> tuple[int | None, str]:
        if not self.prefix or not name.startswith(self.prefix):
            return None, ""
        number, dot, rest = name[len(self.prefix):].partition(".")
        return (int(number), rest) if dot and number.isascii() and number.isdigit() and len(number) < 7 else (None, "")


def fold(tensors: Iterable[Tensor], config: Mapping[str, Any]) -> Fold:
    """The least K so that the layers 0..K-1 have one of each kind, by names, dtypes and shapes, entries of lists, and numbers in the config."""
    section = _section(dict(config))
    layers = next((section[key] for key in COUNTS if isinstance(section.get(key), int) and not isinstance(section[key], bool)), 0)
    by_prefix: dict[str, dict[int, set[tuple[str, str, tuple[int, ...]]]]] = defaultdict(lambda: defaultdict(set))
    for tensor in tensors:
        if found := _LAYER.match(tensor.name):
            by_prefix[found[1] + found[2] + "."][int(found[3])].add((found[4], tensor.dtype, tensor.shape))
    whole = [prefix for prefix, numbered in by_prefix.items() if layers > 1 and sum(n < layers for n in numbered) > layers // 2]
    if len(whole) != 1:  # no decoder, or an encoder beside it: nothing is cut
        return Fold()
    numbered = by_prefix[whole[0]]
    kinds: set[Any] = set()
    kept = _least(config, section, layers)
    for number in range(layers):
        kind = (frozenset(numbered.get(number, ())), *_listed(section, number, layers), _named(config, number))
        if kind not in kinds:
            kinds.add(kind)
            kept = max(kept, number + 1)
    return Fold(whole[0], layers, min(kept, layers))


def _section(config: dict[str, Any]) -> dict[str, Any]:
    """The part of the config that counts the decoder's layers."""
    for key in ("text_config", "llm_config", "language_config"):
        if isinstance(config.get(key), dict) and any(count in config[key] for count in COUNTS):
            return config[key]
    return config


def _listed(section: Mapping[str, Any], number: int, layers: int) -> list[str]:
    return [repr(value[number]) for key, value in section.items() if isinstance(value, list) and len(value) >= layers]


def _named(config: Mapping[str, Any], number: int) -> frozenset[str]:
    """Texts of the quantization config that name this layer, without its number."""
    return frozenset(_IN_TEXT.sub(r"\1.*", text) for text in _texts(config.get("quantization_config"))
                     if any(int(found[3]) == number for found in _IN_TEXT.finditer(text)))


def _least(config: Mapping[str, Any], section: Mapping[str, Any], layers: int) -> int:
    """Layers that numbers in the config speak of: all of them where a pattern holds numbers that are no plain name of a layer."""
    quantization = config.get("quantization_config")
    for text in _texts(quantization):
        if re.search(r"[\[(|+?^$]", text) and re.search(r"\d", text):
            return layers
    least = 1
    for key, value in section.items():
        if _COUNTED_FROM_THE_END.search(key) and isinstance(value, int) and value:
            return layers
        if key not in COUNTS and _BY_NUMBER.search(key):
            numbers = value if isinstance(value, list) and len(value) < layers else [value]
            least = max([least, *(n + 1 for n in numbers if isinstance(n, int) and 0 < n < layers)])
    return least


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _texts(key)
            yield from _texts(one)
