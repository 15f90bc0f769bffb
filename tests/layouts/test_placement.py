"""Every operation of the notation is an index map: carried out on a matrix, it does what numpy's does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.layouts.placement import Placement, clip, join, stack, turned, whole
from weighbridge.models.inventory import Weight

SIDE = st.integers(1, 7)


def weight(name: str, rows: int, cols: int) -> Weight:
    return Weight(name, name, (rows, cols), ("out", "in"), "test", True, False)


def numbers(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    """A matrix in which no two elements are equal and none is zero."""
    return np.arange(rows * cols).reshape(rows, cols) + 1 + 1000 * seed


def carry_out(placement: Placement, values: dict[str, np.ndarray]) -> np.ndarray:
    """Copy every part to its place. Fails where an element is written twice."""
    out = np.zeros((placement.lead, placement.rows, placement.cols), int)
    written = np.zeros(out.shape, int)
    for part in placement.parts:
        piece = values[part.weight][part.row : part.row + part.rows, part.col : part.col + part.cols]
        assert piece.shape == (part.rows, part.cols)
        piece = piece.T if part.turned else piece
        rows, cols = part.extent
        where = part.lead, slice(part.at_row, part.at_row + rows), slice(part.at_col, part.at_col + cols)
        assert out[where].shape == piece.shape
        out[where] = piece
        written[where] += 1
    assert written.max(initial=0) <= 1
    assert placement.shape == (out.shape if placement.stacked else out.shape[1:])
    return out if placement.stacked else out[0]


@st.composite
def matrices(draw):
    """A placement with some history (turned or not, two members or one) and what it must look like."""
    rows, cols = draw(SIDE), draw(SIDE)
    values = {"a": numbers(rows, cols), "b": numbers(rows, cols, 1)}
    placed, image = whole(weight("a", rows, cols)), values["a"]
    if draw(st.booleans()):
        placed, image = placed.swap(), image.T
    if draw(st.booleans()):
        second, other = whole(weight("b", rows, cols)), values["b"]
        if image is not values["a"]:
            second, other = second.swap(), other.T
        axis = draw(st.integers(0, 1))
        placed, image = join(axis, placed, second), np.concatenate([image, other], axis)
    return placed, image, values


@given(matrices())
def test_swap_is_a_transposition_and_its_own_inverse(case):
    placed, image, values = case
    assert np.array_equal(carry_out(placed.swap(), values), np.swapaxes(image, 0, 1))
    assert placed.swap().swap() == placed


@given(SIDE, SIDE, st.integers(1, 4), st.integers(0, 1))
def test_join_is_a_concatenation(rows, cols, members, axis):
    sizes = [(rows + i, cols) if axis == 0 else (rows, cols + i) for i in range(members)]
    values = {str(i): numbers(*size, i) for i, size in enumerate(sizes)}
    joined = join(axis, *(whole(weight(str(i), *size)) for i, size in enumerate(sizes)))
    assert np.array_equal(carry_out(joined, values), np.concatenate(list(values.values()), axis))


@given(SIDE, SIDE, st.integers(1, 5))
def test_stack_adds_a_first_axis(rows, cols, members):
    values = {str(i): numbers(rows, cols, i) for i in range(members)}
    stacked = stack(whole(weight(name, rows, cols)).swap() for name in values)
    assert np.array_equal(carry_out(stacked, values), np.stack([v.T for v in values.values()]))


@given(matrices(), st.data())
def test_cut_takes_the_share_of_each_section(case, data):
    placed, image, values = case
    axis, ways, stride = data.draw(st.integers(0, 1)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    reps = (ways * stride, 1) if axis == 0 else (1, ways * stride)
    placed, image = join(axis, *[placed] * (ways * stride)), np.tile(image, reps)
    shares = [carry_out(placed.cut(axis, i, ways, stride), values) for i in range(ways)]
    chunks = np.split(image, ways * stride, axis)
    for index, share in enumerate(shares):
        assert np.array_equal(share, np.concatenate(chunks[index::ways], axis))
    assert sum(share.size for share in shares) == image.size


@given(st.integers(1, 4), st.integers(1, 3), SIDE, st.integers(0, 1), st.data())
def test_spread_puts_units_into_slots_and_leaves_zeros(units, unit, other, axis, data):
    slots = data.draw(st.lists(st.one_of(st.none(), st.integers(0, units - 1)), min_size=1, max_size=8))
    shape = (units * unit, other) if axis == 0 else (other, units * unit)
    image = numbers(*shape)
    spread = carry_out(whole(weight("a", *shape)).spread(axis, unit, slots), {"a": image})
    sections = np.split(image, units, axis)
    wanted = [np.zeros_like(sections[0]) if s is None else sections[s] for s in slots]
    assert np.array_equal(spread, np.concatenate(wanted, axis))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), SIDE)
def test_spread_with_equal_neighbours_is_a_repetition(units, repeats, unit, other):
    image = numbers(units * unit, other)
    slots = [u for u in range(units) for _ in range(repeats)]
    spread = carry_out(whole(weight("a", *image.shape)).spread(0, unit, slots), {"a": image})
    assert np.array_equal(spread, np.repeat(image.reshape(units, unit, other), repeats, 0).reshape(-1, other))


@given(matrices(), st.integers(0, 1), st.data())
def test_clip_is_a_slice(case, axis, data):
    placed, image, values = case
    start = data.draw(st.integers(0, image.shape[axis] - 1))
    stop = data.draw(st.integers(start + 1, image.shape[axis]))
    parts = tuple(p for part in placed.parts if (p := clip(part, axis, start, stop, 0)) is not None)
    size = stop - start
    sliced = Placement(1, size if axis == 0 else placed.rows, size if axis else placed.cols, parts)
    assert np.array_equal(carry_out(sliced, values), image[start:stop] if axis == 0 else image[:, start:stop])


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_experts_as_neuron_stacks_and_cuts_them(experts, inter, hidden, ways):
    """The longest chain of operations in use: two turned, joined, stacked and cut with stride 2."""
    inter *= ways
    gates = {f"g{e}": numbers(inter, hidden, e) for e in range(experts)}
    ups = {f"u{e}": numbers(inter, hidden, 100 + e) for e in range(experts)}
    placed = stack(join(1, whole(weight(f"g{e}", inter, hidden)).swap(), whole(weight(f"u{e}", inter, hidden)).swap())
                   for e in range(experts))
    each = inter // ways
    for rank in range(ways):
        own = slice(rank * each, (rank + 1) * each)
        wanted = np.stack([np.concatenate([gates[f"g{e}"][own].T, ups[f"u{e}"][own].T], 1) for e in range(experts)])
        assert np.array_equal(carry_out(placed.cut(1, rank, ways, stride=2), gates | ups), wanted)


@given(SIDE, SIDE)
def test_turned_is_a_whole_weight_swapped(rows: int, cols: int) -> None:
    assert turned(weight("a", rows, cols)) == whole(weight("a", rows, cols)).swap()
