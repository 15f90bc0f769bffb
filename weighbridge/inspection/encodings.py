"""How a stored weight holds its values: from its dtype, its sibling scale and the claim. Blocks are claimed, never derived."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from weighbridge.checkpoint.dtypes import FP8
from weighbridge.formats.claim import Claims

# Suffix of the weight -> suffixes of the scale that may lie beside it, the most usual first.
SCALES: dict[str, tuple[str, ...]] = {
    ".weight": (".weight_scale_inv", ".weight_scale", ".scale", ".qscale_weight", ".weight.absmax", ".SCB"),
    ".weight_packed": (".weight_scale",),
    ".qweight": (".scales",),
    "_blocks": ("_scales",),
    "": ("_scale_inv", "_scale", ".scale"),
}
# Last words of tensors that only help to read a weight, and of scales (which do too, but are counted with their weight).
SCALE_WORDS = frozenset({"weight_scale_inv", "weight_scale", "scale", "qscale_weight", "scales", "absmax", "SCB", "scale_inv"})
HELPERS = frozenset({
    "weight_scale_2", "weight_global_scale", "input_global_scale", "input_scale", "activation_scale", "k_scale", "v_scale", "q_scale",
    "output_scale", "weight_shape", "weight_zero_point", "input_zero_point", "weight_g_idx", "g_idx", "qzeros", "quant_map", "nested_absmax",
    "nested_quant_map", "weight_format", "qscale_act", "input_scale_ub",
    "rank", "local_expert_indices",  # NxD's numbers of ranks and experts
})
PACKED = frozenset({"U8", "I8", "I32"})


class Kind(NamedTuple):
    """What two headers together say. `parameters` counts real values of one weight; `problem` is empty when all agrees."""

    quantized: bool
    strategy: str
    block: tuple[int, int] | None
    parameters: int
    problem: str


def read_kind(dtype: str, shape: tuple[int, ...], suffix: str, scale: tuple[str, tuple[int, ...]] | None,
              scale_suffix: str, claims: Claims, neuron: bool = False) -> Kind:
    """Encoding of a weight whose name ends in `suffix`; `scale` is (dtype, shape) of its sibling, or None."""
    factor = _codes_each(dtype, suffix, scale, scale_suffix, claims)
    parameters = prod(shape) * factor
    if scale is None:
        coded = dtype in FP8 or (factor > 1 and dtype in PACKED)
        return Kind(coded, "none", None, parameters, f"{dtype} {list(shape)} without a scale" if coded else "")
    if dtype not in FP8 and dtype not in PACKED and dtype not in ("F4", "F6_E2M3", "F6_E3M2"):
        return Kind(False, "none", None, parameters, f"{dtype} {list(shape)} with a scale beside it: is it decoded already?")
    strategy, block, problem = _strategy(_logical(shape, suffix, factor), suffix, dtype, scale, claims, neuron)
    return Kind(True, strategy, block, parameters, problem)


def _codes_each(dtype: str, suffix: str, scale: tuple[str, tuple[int, ...]] | None, scale_suffix: str, claims: Claims) -> int:
    """Codes that one stored element holds."""
    if suffix in (".weight_packed", ".qweight") and dtype == "I32":
        return 32 // (claims.bits if claims.bits in (2, 4, 8) else 4)
    if suffix in (".weight_packed", "_blocks") and dtype in ("U8", "I8"):
        return 2
    if dtype == "U8" and suffix == ".weight" and scale is not None:
        return 2  # ModelOpt FP4, bitsandbytes 4 bit
    return 2 if dtype == "I8" and scale is not None and claims.expert_dtype == "fp4" and scale_suffix == ".scale" else 1


def _logical(shape: tuple[int, ...], suffix: str, factor: int) -> tuple[int, ...]:
    """Shape in values. AWQ packs along the columns and GPTQ along the rows: `_strategy` tells them by the scale."""
    if suffix == "_blocks" and len(shape) >= 2:
        return (*shape[:-2], shape[-2] * shape[-1] * factor)
    return (*shape[:-1], shape[-1] * factor) if shape and suffix != ".qweight" else shape


def _strategy(shape: tuple[int, ...], suffix: str, dtype: str, scale: tuple[str, tuple[int, ...]], claims: Claims,
              neuron: bool) -> tuple[str, tuple[int, int] | None, str]:
    scale_dtype, grid = scale
    if suffix == ".qweight":
        return _transposed(shape, grid, claims)
    if len(shape) < 2:
        return ("tensor", None, "") if prod(grid) == 1 else ("channel", None, "")
    if len(grid) < 2 and prod(grid) == 1:
        return "tensor", None, ""
    rows, columns = shape[-2:]
    flat = _grid_of(grid, shape)
    for block in _candidates(dtype, scale_dtype, columns, claims, neuron):
        if flat == (-(-rows // block[0]), -(-columns // block[1])):
            whole = block[0] == 1 and block[1] >= columns
            return ("channel", None, "") if whole else ("group" if 1 in block else "block", block, "")
    if prod(grid) == 1 or (len(shape) > 2 and prod(grid) == prod(shape[:-2])):
        return "tensor", None, ""
    if flat in ((rows, 1), (1, columns), (columns, 1)):
        return "channel", None, ""
    if neuron and flat is not None and flat[0] == rows and claims.blocks and flat[1] > -(-columns // claims.blocks[0][1]):
        return "group", (1, claims.blocks[0][1]), ""  # o_proj's scales are stored padded: NxD pads the weight alone
    return _unexplained(shape, grid, flat, claims)


def _unexplained(shape: tuple[int, ...], grid: tuple[int, ...], flat: tuple[int, int] | None,
                 claims: Claims) -> tuple[str, None, str]:
    strategy = "group" if flat is not None and flat[0] == shape[-2] else "block"
    if not claims.blocks and not claims.groups:
        return strategy, None, f"scale {list(grid)} beside a weight {list(shape)}, and the config names no block or group"
    claimed = [f"block {r}x{c} gives {[-(-shape[-2] // r), -(-shape[-1] // c)]}" for r, c in claims.blocks]
    claimed += [f"group {g} gives {[shape[-2], -(-shape[-1] // g)]}" for g in claims.groups]
    return strategy, None, f"scale {list(grid)} beside a weight {list(shape)}; the claimed {', '.join(claimed)}"


def _candidates(dtype: str, scale_dtype: str, columns: int, claims: Claims, neuron: bool) -> list[tuple[int, int]]:
    """Blocks that the claim, or the format itself, allows."""
    blocks = list(claims.blocks)
    if neuron:
        # Stored axes are turned for the experts, and `exact` keeps the block along one axis only.
        blocks += [turned for r, c in claims.blocks for turned in ((c, r), (1, c), (1, r))]
    blocks += [(1, group) for group in claims.groups]
    if scale_dtype in ("U8", "F8_E8M0"):
        blocks.append((1, 32))  # OCP microscaling fixes the group
    if dtype == "U8" and scale_dtype == "F8_E4M3":
        blocks.append((1, 16))  # NVFP4 fixes it too
    return blocks


def _grid_of(grid: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Scale shape as (rows, columns): leading axes must be the weight's, a vector is a column, ModelOpt's [n,1,m,1] is squeezed."""
    if len(grid) == 4 and len(shape) == 2 and grid[1] == grid[3] == 1:
        return grid[0], grid[2]
    if len(grid) == 1:
        return grid[0], 1
    if len(grid) == len(shape) and (grid[:-2] == shape[:-2] or prod(grid[:-2]) == 1):
        return grid[-2], grid[-1]
    if len(grid) == len(shape) - 1 and grid[:-1] == shape[:-2]:
        return grid[-1], 1
    return None


def _transposed(shape: tuple[int, ...], grid: tuple[int, ...], claims: Claims) -> tuple[str, tuple[int, int] | None, str]:
    """AWQ and GPTQ store [in, out] with one scale per group of inputs; the block is given along the stored axes."""
    if len(shape) != 2 or len(grid) != 2:
        return "group", None, f"scales {list(grid)} beside a weight {list(shape)}"
    per = 32 // (claims.bits if claims.bits in (2, 4, 8) else 4)
    inputs = shape[0] if shape[1] * per == grid[1] else shape[0] * per
    if grid[0] == 1:
        return "channel", None, ""
    for group in claims.groups:
        if -(-inputs // group) == grid[0]:
            return "group", (group, 1), ""
    claimed = "the config names no group_size"
    if claims.groups:
        claimed = f"the claimed group {claims.groups[0]} gives {-(-inputs // claims.groups[0])} rows"
    return "group", None, f"scales {list(grid)} for {inputs} inputs; {claimed}"
