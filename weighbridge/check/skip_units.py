"""The stored modules of a checkpoint with the experts of a layer folded: 62 x 256 x 3 matrices of M2 become 62 x 3 units.

One pass over all modules; every view shares it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from weighbridge.check.case import Case, per_case
from weighbridge.check.modules import Module

_RANK = re.compile(r"^tp\d+/")


class SkipUnit:
    """Modules of one name in one layer: a single one, or one matrix of all experts.

    `path` is that of the first, as stored; `stem` is `….experts` for experts and else the path; `coded` of the `count` modules hold codes.
    """

    __slots__ = ("coded", "count", "expert", "first", "first_coded", "first_plain", "layer", "leaf", "path", "stem")

    def __init__(self, path: str, stem: str, leaf: str, expert: bool, module: Module) -> None:
        self.path, self.stem, self.leaf, self.expert, self.first = path, stem, leaf, expert, module
        self.count = self.coded = 0
        self.first_coded: Module | None = None
        self.first_plain: Module | None = None
        self.layer = module.layer

    @property
    def role(self) -> str:
        return self.first.role

    @property
    def plain(self) -> int:
        return self.count - self.coded

    def add(self, module: Module) -> None:
        self.count += 1
        if module.kind.quantized:
            self.coded += 1
            self.first_coded = self.first_coded or module
        elif self.first_plain is None:
            self.first_plain = module


@per_case
def units(case: Case) -> tuple[SkipUnit, ...]:
    """All units, in the order of the files. Of per-rank shards only the first rank is looked at."""
    return tuple(_fold(_modules(case)).values())


def _modules(case: Case) -> Iterator[tuple[str, Module]]:
    first = f"tp{case.checkpoint.ranks[0]}/" if case.checkpoint.ranks else ""
    for module in case.modules.all:
        if not first:
            yield module.path, module
        elif module.path.startswith(first):
            yield module.path[len(first):], module


def _fold(modules: Iterator[tuple[str, Module]]) -> dict[object, SkipUnit]:
    found: dict[object, SkipUnit] = {}
    for path, module in modules:
        before, at, inner = path.partition(".experts.")
        key: object = path
        if at:
            number, _, leaf = inner.partition(".")
            # `experts.3.w1` is a matrix of one expert; `experts.gate_up_proj` holds all of them.
            key = (before, leaf if leaf and number.isdigit() else number)
        unit = found.get(key)
        if unit is None:
            unit = found[key] = SkipUnit(path, before + ".experts" if at else path, str(key[1]) if isinstance(key, tuple) else path.rpartition(".")[2],
                                     bool(at), module)
        unit.add(module)
    return found
