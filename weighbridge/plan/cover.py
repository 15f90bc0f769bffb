"""Which rectangles of the source make up a rectangle of the destination."""

from __future__ import annotations

from typing import NamedTuple

from weighbridge.layouts.placement import Part

Rect = tuple[int, int, int, int]  # row, col, rows, cols in logical axes


class Fragment(NamedTuple):
    """A rectangle of a logical weight that one source tensor holds.

    (`lrow`, `lcol`) and (`lrows`, `lcols`) are logical; (`lead`, `row`, `col`) is the corner in the stored
    axes of source tensor number `source`; `turned`: stored axes are [in, out].
    """

    source: int
    lead: int
    row: int
    col: int
    turned: bool
    lrow: int
    lcol: int
    lrows: int
    lcols: int


def cover(rect: Rect, holders: list[tuple[int, Part]]) -> tuple[list[Fragment], list[Rect]]:
    """Fragments that fill `rect` once, and what no holder has."""
    if len(holders) == 1 and rect == holders[0][1][1:5]:  # a weight that lies whole in one tensor: nearly all of them
        return [_fragment(*holders[0], rect)], []
    left = [rect]
    out: list[Fragment] = []
    for source, part in holders:
        rest: list[Rect] = []
        for r in left:
            hit = _intersect(r, (part.row, part.col, part.rows, part.cols))
            if hit is None:
                rest.append(r)
                continue
            out.append(_fragment(source, part, hit))
            if hit != r:
                rest += _minus(r, hit)
        left = rest
        if not left:
            break
    return out, left


def overlaps(rect: Rect, holders: list[tuple[int, Part]]) -> list[Fragment]:
    """Every stored piece of `rect`, copies included: unlike `cover`, which takes each element from one holder."""
    return [_fragment(source, part, hit) for source, part in holders if (hit := _intersect(rect, (part.row, part.col, part.rows, part.cols)))]


def without(rect: Rect, held: list[Rect]) -> list[Rect]:
    """What is left of `rect` when the rectangles `held` are taken away."""
    left = [rect]
    for other in held:
        left = [rest for r in left for rest in _less(r, other)]
    return left


def _less(rect: Rect, other: Rect) -> list[Rect]:
    hit = _intersect(rect, other)
    return _minus(rect, hit) if hit else [rect]


def _fragment(source: int, part: Part, hit: Rect) -> Fragment:
    down, right = hit[0] - part.row, hit[1] - part.col
    if part.turned:
        down, right = right, down
    return Fragment(source, part.lead, part.at_row + down, part.at_col + right, part.turned, *hit)


def _intersect(a: Rect, b: Rect) -> Rect | None:
    row, col = max(a[0], b[0]), max(a[1], b[1])
    end, edge = min(a[0] + a[2], b[0] + b[2]), min(a[1] + a[3], b[1] + b[3])
    return (row, col, end - row, edge - col) if row < end and col < edge else None


def _minus(a: Rect, hit: Rect) -> list[Rect]:
    """What is left of `a` without `hit`, as up to four rectangles: above, below, left, right."""
    row, col, rows, cols = a
    top, left, high, wide = hit
    rest = [(row, col, top - row, cols), (top + high, col, row + rows - top - high, cols),
            (top, col, high, left - col), (top, left + wide, high, col + cols - left - wide)]
    return [r for r in rest if r[2] > 0 and r[3] > 0]


def nests(source_block: int, target_block: int, shift: int, start: int, length: int) -> bool:
    """Along one axis: does every target block inside [start, start + length) lie in one source block?

    Positions are the target's; `shift` is the source position minus the target position.
    """
    first, last = start + shift, start + length - 1 + shift
    if first // source_block == last // source_block:
        return True
    return source_block % target_block == 0 and shift % target_block == 0
