"""A checkpoint seen through its own layout: its stored weights, each with its scheme, and what does not agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.header import Tensor
from weighbridge.errors import Problem, WeighbridgeError
from weighbridge.formats.claim import Claims
from weighbridge.formats.scheme import Encoding, Field
from weighbridge.layouts.options import Options
from weighbridge.layouts.placement import Part, Stored
from weighbridge.models import Inventory
from weighbridge.models.inventory import Weight

if TYPE_CHECKING:
    import numpy as np


class Bound(NamedTuple):
    """A stored weight with its place in the checkpoint and its real encoding. `tensors` holds the tensor of each of its fields, by suffix."""

    stored: Stored
    encoding: Encoding
    tensors: dict[str, Tensor]

    @property
    def weight(self) -> Tensor:
        """The tensor that holds the codes or the values."""
        found = self.tensor(self.encoding.code)
        assert found is not None
        return found

    @property
    def scale(self) -> Tensor | None:
        return self.tensor(self.encoding.scale) if self.encoding.scale else None

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(t.nbytes for t in self.tensors.values())

    def tensor(self, wanted: Field) -> Tensor | None:
        """The tensor of a field, under whichever of its names it lies."""
        return next((self.tensors[s] for s in wanted.suffixes if s in self.tensors), None)


class KeptScales(NamedTuple):
    """What a conversion to plain values kept (`plan.kept`): tensors by name, the hash of their header, and sizes for the way back."""

    tensors: dict[str, Tensor]
    sha256: str
    block: tuple[int, int] | None = None
    group: int = 0
    scale_dtype: str = ""


@dataclass(frozen=True)
class Source:
    """A checkpoint seen through its own layout."""

    checkpoint: Checkpoint
    layout: str
    options: Options
    inventory: Inventory
    bound: list[Bound]
    problems: list[Problem]
    claims: Claims = field(default_factory=Claims)
    constants: list[tuple[Stored, Tensor]] = field(default_factory=list)  # tensors of no weight, whose values the layout says
    kept: KeptScales | None = None  # scales that lie beside plain values

    @cached_property
    def holders(self) -> dict[str, list[tuple[int, Part]]]:
        """For each logical weight, the rectangles of it that are stored, with the number of their tensor in `bound`."""
        found: dict[str, list[tuple[int, Part]]] = {}
        for number, bound in enumerate(self.bound):
            for part in bound.stored.placement.parts:
                found.setdefault(part.weight, []).append((number, part))
        return found

    @cached_property
    def weights(self) -> list[Weight]:
        """The logical weights that go along: all that the model must have, and of the optional ones those that are here."""
        optional = [w for name, w in self.inventory.optional.items() if name in self.holders]
        return [*self.inventory.weights.values(), *optional]

    @cached_property
    def coded(self) -> frozenset[str]:
        """Logical weights that are stored in codes."""
        return frozenset(part.weight for b in self.bound if b.encoding.quantized for part in b.stored.placement.parts)

    @cached_property
    def to_code(self) -> frozenset[str]:
        """Weights that another quantized layout should hold in codes: those that are, or were before the scales were kept; empty where nothing says it."""
        if self.coded or self.kept is None:
            return self.coded
        stems = {name.rpartition(".")[0] for name in self.kept.tensors}
        return frozenset(part.weight for b in self.bound if b.stored.stem in stems for part in b.stored.placement.parts)

    @cached_property
    def scale_dtype(self) -> str:
        """The dtype of its scales: the first that a weight has, or had; empty where nothing is scaled."""
        return next((b.scale.dtype for b in self.bound if b.scale is not None), self.kept.scale_dtype if self.kept else "")

    @property
    def scales(self) -> int:
        return sum(1 for b in self.bound if b.scale is not None)

    def read(self, tensor: Tensor) -> np.ndarray:
        """All bytes of a small tensor, uint8 [n], from wherever the checkpoint lies. Raises WeighbridgeError where they end early."""
        import numpy as np

        raw = self.checkpoint.store.read(tensor.file, tensor.start, tensor.nbytes)
        if len(raw) != tensor.nbytes:
            raise WeighbridgeError("source-changed", f"the file ended: {len(raw):,} of {tensor.nbytes:,} bytes could be read",
                                   f"{tensor.file}: {tensor.name}", "the file is shorter than when its header was read: start again")
        return np.frombuffer(raw, np.uint8)

    def weight(self, name: str) -> Weight:
        """A logical weight by name, optional ones too."""
        return self.inventory.weights.get(name) or self.inventory.optional[name]
