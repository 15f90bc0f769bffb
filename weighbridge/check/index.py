"""The index that the headers ask for: what mends every rule about the index."""

from __future__ import annotations

from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Fix
from weighbridge.checkpoint.checkpoint import INDEX

__all__ = ["INDEX", "index_fix"]


def index_fix(case: Case) -> Fix:
    """A new `weight_map` from the headers. The value is not printed: it has a line for each tensor."""
    weight_map = {name: tensor.file for name, tensor in sorted(case.checkpoint.tensors.items())}
    total = sum(tensor.nbytes for tensor in case.checkpoint.tensors.values())
    edits = (Edit(INDEX, ("weight_map",), weight_map), Edit(INDEX, ("metadata", "total_size"), total))
    return Fix("download the named files again if they are old versions; else write a new index from the headers (--fix DIR writes it)", None, edits)
