"""`--block auto`: the largest block that divides every matrix that is quantized, and every rank's part of it."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

from weighbridge.errors import Usage
from weighbridge.layouts.source import Source
from weighbridge.models.inventory import Weight

SIZES = (128, 64, 32, 16)  # what readers' kernels tile; 128 x 128 is everybody's first choice
BY_COLUMNS = frozenset({"o", "down"})  # a rank holds input channels of these, output channels of all others
NARROW = frozenset({"k", "v"})  # copied to several ranks where there are fewer heads than ranks


def automatic(source: Source, tp: int = 0) -> tuple[tuple[int, int], str]:
    """The block and a sentence that says why. Raises Usage where none divides the matrices."""
    rows = cols = 0
    for weight in source.weights:
        if weight.name in source.to_code if source.to_code else weight.linear:
            high, wide = _cut(weight, source, max(1, tp))
            rows, cols = gcd(rows, high), gcd(cols, wide)
    if not rows:
        raise Usage("there is no weight to quantize", "--block")
    block = next(_dividing(rows, cols), None)
    if block is None:
        parts = f" cut {tp} ways" if tp > 1 else ""
        raise Usage(f"no block of {', '.join(map(str, SIZES))} divides all matrices{parts}: rows are multiples of {rows}, columns of {cols}",
                    "--block", "name one with --block R,C, choose another --tp, or a layout without blocks (ct-fp8-channel)")
    why = f"--block auto chose {block[0]}x{block[1]}: all {'parts of a rank' if tp > 1 else 'matrices'} have rows in multiples of {rows}, columns of {cols}"
    return block, why


def _dividing(rows: int, cols: int) -> Iterator[tuple[int, int]]:
    """Squares from the largest, since some readers know no other; then the rest."""
    yield from ((size, size) for size in SIZES if rows % size == 0 and cols % size == 0)
    yield from ((r, c) for r in SIZES for c in SIZES if rows % r == 0 and cols % c == 0)


def _cut(weight: Weight, source: Source, tp: int) -> tuple[int, int]:
    """(rows, columns) of the part that a rank holds. Raises Usage where it cannot be cut."""
    rows, cols = weight.shape
    by_columns = weight.role.rpartition(".")[2] in BY_COLUMNS
    if weight.role.rpartition(".")[2] in NARROW:
        heads = source.inventory.sizes.get("kv_heads", tp)
        tp = min(tp, heads) if heads else tp
    size = cols if by_columns else rows
    if size % tp:
        raise Usage(f"{size} {'columns' if by_columns else 'rows'} of {weight.published or weight.name} cannot be cut {tp} ways", "--tp", "choose a divisor")
    return (rows, cols // tp) if by_columns else (rows // tp, cols)


__all__ = ["automatic"]
