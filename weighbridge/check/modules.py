"""The stored weights of a checkpoint as modules: path, weight, scale, what the headers say of them, role, layer and expert."""

from __future__ import annotations

import re
from functools import cached_property

from weighbridge.checkpoint.header import Tensor
from weighbridge.inspection.kind import WeightKind
from weighbridge.inspection.survey import Survey

_LAYER = re.compile(r"(?:^|\.)(?:layers|blocks|h)\.(\d+)\.")
_EXPERT = re.compile(r"\.experts\.(\d+)\.")

# Roles of matrices that a quantizing reader may build quantized. Embeddings, norms, routers and biases are never.
LINEAR = ("attention.", "mlp.", "experts.", "shared_experts.", "lm_head")


class Module:
    """One stored weight. `path` is its name without `.weight` (`model.layers.0.self_attn.q_proj`), as the files spell it.

    `kind.quantized` says whether the headers hold codes. `layer` and `expert` are -1 where the name has none.
    """

    __slots__ = ("kind", "path", "role", "scale", "scale_suffix", "suffix", "weight")

    def __init__(self, path: str, suffix: str, weight: Tensor, scale: Tensor | None, scale_suffix: str, kind: WeightKind, role: str) -> None:
        self.path, self.suffix, self.weight, self.scale = path, suffix, weight, scale
        self.scale_suffix, self.kind, self.role = scale_suffix, kind, role

    @property
    def quantized(self) -> bool:
        return self.kind.quantized

    @property
    def linear(self) -> bool:
        """Whether it is the matrix of a linear layer (by its role)."""
        return self.role.startswith(LINEAR) and len(self.weight.shape) >= 2

    @property
    def leaf(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def layer(self) -> int:
        found = _LAYER.search(self.path)
        return int(found[1]) if found else -1

    @property
    def expert(self) -> int:
        found = _EXPERT.search(self.path + ".")
        return int(found[1]) if found else -1


class Modules:
    """All modules of a checkpoint, in the order of its files."""

    def __init__(self, survey: Survey) -> None:
        self.survey = survey

    @cached_property
    def all(self) -> list[Module]:
        assert self.survey.weights is not None, "a survey for modules keeps its weights"
        found: list[Module] = []
        for name, tensor, scale, suffix, key, pair in self.survey.weights:
            path = name[: -len(key.suffix)] if key.suffix else name
            found.append(Module(path, key.suffix, tensor, scale, suffix if scale is not None else "", pair.kind, key.role))
        return found

    @cached_property
    def by_path(self) -> dict[str, Module]:
        return {module.path: module for module in self.all}

    @cached_property
    def quantized(self) -> list[Module]:
        return [m for m in self.all if m.quantized]

    @cached_property
    def linear(self) -> list[Module]:
        return [m for m in self.all if m.linear]

    @cached_property
    def parts(self) -> dict[str, list[Module]]:
        """Modules by their role."""
        found: dict[str, list[Module]] = {}
        for module in self.all:
            found.setdefault(module.role, []).append(module)
        return found
