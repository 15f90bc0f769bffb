"""WB706 nxd-block-settings: the block axes and sizes are missing, do not fit together, or do not fit the files.

## What it does
Reads `quantization_block_axis` and `quantization_block_size` of a block-wise run, and applies them to every FP8 weight of the files as NxD does:
axis in range, width a multiple of the block, scale of the shape that follows.

## Why it matters
Missing or unequal lists are refused. An axis that a 2-D weight does not have is a ValueError. A width that is no multiple of the block is divided
by floor division without a check: wrong scales, no message. A scale of another shape ends the load when the ranks are cut.

## Example
Axes [1, 2] for a file whose attention is FP8 (2-D) and the unpatched library; sizes [128, 128] for a file that was made with [1, 128].

## How to mend
Take the values that the finding computes from the files, or convert again.

## References
Rules R22 to R25 and R36 of docs/neuron.md: NxD quantization/quantization_config.py 201-204, quantization_layers.py 275-287, trace/trace.py 824.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix, Where
from weighbridge.check.nxd_settings import READ_IN, Nxd, NxdWeight, nxd, shown
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB706", "nxd-block-settings", "error", ("neuron",), READ_IN)
EXACT, BLOCKS = ([-2, -1], [1, 128]), ([1, 2], [128, 128])


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    if not n.blockwise or case.checkpoint.ranks:
        return
    axes, sizes = n.sizes("quantization_block_axis"), n.sizes("quantization_block_size")
    where = n.where("quantization_block_axis")
    if not axes or not sizes or any(size <= 0 for size in sizes):
        yield _finding(target, "a block-wise run without block axes or sizes", where, f"axes {axes}, sizes {sizes}",
                       "AssertionError: block_axis and block_size must be specified…",
                       _right(n))
        return
    if len(axes) != len(sizes):
        yield _finding(target, "block axes and sizes are not equally many", where, f"axes {axes}, sizes {sizes}", "AssertionError: …same length",
                       _right(n))
        return
    weights = [s for s in n.stored if s.fp8 and s.scale_suffix in (".scale", ".weight_scale") and not n.listed(s)]
    yield from _axes(n, target, axes, weights)
    yield from _shapes(n, target, weights)


def _axes(n: Nxd, target: Target, axes: list[int], weights: list[NxdWeight]) -> Iterator[Finding]:
    out = [s for s in weights if any(not -len(s.shape) <= axis < len(s.shape) for axis in axes)]
    if not out:
        return
    dims = len(out[0].shape)
    worst = next(axis for axis in axes if not -dims <= axis < dims)
    patched = n.contrib and dims == 2
    yield RULE.finding(f"block axis {worst} does not exist in {dims}-D weights",
                       Where(tensor=shown([s.name for s in out]), key="quantization_block_axis",
                                                                                      count=sum(s.count for s in out)),
                       evidence=f"axes {axes}, weight {list(out[0].shape)}", severity="note" if patched else "error",
                       consequence=f"ValueError: block axis cannot be < 0 or > {dims}, received {worst}" + (
                           " without the contrib port's 2-D patch; with it attention gets one scale for each row" if patched else ""),
                       fix="load with the contrib port's 2-D per-channel patch; or convert with --attention exact, which needs none" if patched
                       else Fix("count the axes from the end", [-2, -1]), runtime=target.runtime)


def _shapes(n: Nxd, target: Target, weights: list[NxdWeight]) -> Iterator[Finding]:
    """Widths and scale shapes, where all axes exist. One scale for each row is what the contrib's 2-D patch reads."""
    ragged: list[tuple[NxdWeight, int, int]] = []
    other: list[tuple[NxdWeight, tuple[int, ...]]] = []
    for s in weights:
        along = n.blocks(len(s.shape))
        if len(along) != len(n.sizes("quantization_block_axis") or []):
            continue
        ragged += [(s, axis, block) for axis, block in along.items() if block < s.shape[axis] and s.shape[axis] % block]
        want = tuple(max(1, size // along.get(axis, 1)) for axis, size in enumerate(s.shape))
        padded = s.role == "attention.o" and len(s.scale) == 2 and s.scale[0] == want[0] and s.scale[1] > want[1]
        if s.scale and s.scale != want and not padded and not any(r is s for r, _, _ in ragged):
            other.append((s, want))
    if ragged:
        s, axis, block = ragged[0]
        yield _finding(target, f"a width of {s.shape[axis]} is no multiple of the block {block}",
                       Where(tensor=shown([r.name for r, _, _ in ragged]), count=len(ragged)),
                       f"{s.shape[axis]} % {block} = {s.shape[axis] % block}, axis {axis} of {list(s.shape)}",
                       "no error: NxD divides by floor division and reads another block's scale",
                       Fix("convert to hf-bf16: no block-wise run holds this model"))
    if other:
        s, want = other[0]
        axes, sizes = n.sizes("quantization_block_axis"), n.sizes("quantization_block_size")
        yield _finding(target, "the scales do not have the shape that the block settings give",
                       Where(tensor=shown([o.name for o, _ in other]), count=len(other)),
                       f"scale {list(s.scale)} beside {list(s.shape)}; axes {axes} and sizes {sizes} give {list(want)}",
                       f"RuntimeError: expected shape {list(want)} but found {list(s.scale)}", _right(n))


def _right(n: Nxd) -> Fix:
    """The settings that explain the experts' scales, or all FP8 weights where there are no stacked ones."""
    weights = [s for s in n.stored if s.fp8 and s.scale and s.scale_suffix in (".scale", ".weight_scale")]
    stacked = [s for s in weights if len(s.shape) == 3] or weights
    for axes, sizes in (BLOCKS, EXACT):
        if stacked and all(len(s.scale) == len(s.shape) and s.scale[-1] == s.shape[-1] // sizes[1] and s.scale[-2] == s.shape[-2] // sizes[0]
                           for s in stacked):
            axes = axes if len(stacked[0].shape) == 3 or axes == EXACT[0] else [-2, -1]
            return Fix(f"quantization_block_axis {axes}, quantization_block_size {sizes}",
                       {"quantization_block_axis": axes, "quantization_block_size": sizes},
                       (n.edit("quantization_block_axis", axes), n.edit("quantization_block_size", sizes)))
    return Fix("say the axes and sizes with which the files were made, or convert them again: weighbridge convert SRC DST --to neuron")


def _finding(target: Target, title: str, where: Where, evidence: str, consequence: str, fix: Fix) -> Finding:
    return RULE.finding(title, where, evidence=evidence, consequence=consequence, fix=fix, runtime=target.runtime)
