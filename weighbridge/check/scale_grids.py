"""Scale grids against the shapes of their weights: what could have gone wrong, and what is only unusual."""

from __future__ import annotations

from math import prod

from weighbridge.check.case import Case
from weighbridge.check.modules import Module

MOST_GROUPS = 1024  # more key/value heads than any model has


def ceil(size: int, block: int) -> int:
    return -(-size // block)


def judged(case: Case, module: Module) -> str:
    """What a wrong grid looks like, as the end of a sentence; empty where it looks like nothing known."""
    assert module.scale is not None
    shape, grid = module.weight.shape, tuple(size for size in module.scale.shape if size != 1) or (1,)
    for rows, columns in case.claims.blocks if len(shape) >= 2 else ():
        right = tuple(size for size in (*shape[:-2], ceil(shape[-2], rows), ceil(shape[-1], columns)) if size != 1) or (1,)
        floor = tuple(size for size in (*shape[:-2], shape[-2] // rows, shape[-1] // columns) if size != 1) or (1,)
        if grid == (*right[:-2], *right[:-3:-1]) and grid != right:
            return ": they are transposed"
        if grid == floor and floor != right:
            return ": the last, partial block has no scale (floor division)"
        if prod(grid) * rows * columns < prod(right):
            return ": whole blocks have no scale"
    return ""


def apart(case: Case, module: Module) -> bool:
    """Whether a fused qkv has its grid because q, k and v of each group of heads were blocked apart (MiMo-V2.5: 4 x (24 + 2 + 1) rows)."""
    if "qkv" not in module.leaf.lower() or module.scale is None or len(module.weight.shape) != 2 or not module.scale.shape or not case.claims.blocks:
        return False
    rows, have, block, sizes = module.weight.shape[0], module.scale.shape[0], case.claims.blocks[0][0], case.sizes
    for groups in range(1, min(sizes.kv_heads, MOST_GROUPS) + 1):
        if rows % groups or sizes.kv_heads % groups or sizes.heads % groups:
            continue
        parts = (sizes.heads * sizes.head_dim // groups, sizes.kv_heads * sizes.head_dim // groups, sizes.kv_heads * sizes.v_head_dim // groups)
        if sum(parts) * groups == rows and sum(ceil(part, block) for part in parts) * groups == have:
            return True
    return False


def fits_other_block(case: Case, module: Module, block: tuple[int, int] | None) -> bool:
    """Whether the grid is that of `block`, which all weights here have, and the claim names another: then the claim is what is wrong."""
    shape, scale = module.weight.shape, module.scale
    if block is None or block in case.claims.blocks or scale is None or len(shape) != 2:
        return False
    return scale.shape == (ceil(shape[0], block[0]), ceil(shape[1], block[1]))


def bytes_in_u8(case: Case, module: Module) -> bool:
    """Whether U8 or I8 holds one FP8 code per byte: the grid is that of the shape as it is stored, under the claimed block."""
    shape, scale = module.weight.shape, module.scale
    if module.weight.dtype not in ("U8", "I8") or module.suffix != ".weight" or scale is None or len(shape) != 2 or len(scale.shape) != 2:
        return False
    if scale.dtype not in ("F32", "BF16") or "fp8" not in case.claims.method.lower() and "e4m3" not in case.claims.fmt.lower():
        return False
    return any(scale.shape == (ceil(shape[0], rows), ceil(shape[1], columns)) for rows, columns in case.claims.blocks)
