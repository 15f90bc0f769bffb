"""The plan alone: coverage, grids that nest, and refusals that name what would work."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import weighbridge.api as wb
from tests.plan.tools import DEMO
from weighbridge.errors import Refused, Usage
from weighbridge.layouts.placement import Part
from weighbridge.plan.cover import cover, nests
from weighbridge.testing.tiny import EVEN, RAGGED, write_tiny

LAYOUTS = [("hf-fp8", {}), ("hf-bf16", {}), ("neuron", {}), ("neuron", {"attention": "exact", "tp": 4}),
           ("neuron", {"attention": "row", "tp": 8}), ("neuron", {"attention": "row", "tp": 8, "shards": True}), ("neuron", {"shards": True, "tp": 4}),
           ("neuron", {"shards": True, "tp": 8, "moe_tp": 2, "moe_ep": 4, "attention": "exact"})]


@pytest.fixture(scope="module")
def even(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("even") / "src", **EVEN)


@pytest.fixture(scope="module")
def ragged(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("ragged") / "src", **RAGGED)


def refusal(source, layout, **options) -> str:
    """The whole text of a refusal: places, messages and hints."""
    with pytest.raises(Refused) as caught:
        wb.open(source).plan(layout, **options).refuse()
    return "\n".join(f"{p.code} {p} {p.hint}" for p in caught.value.problems)


@pytest.mark.parametrize("layout, options", LAYOUTS)
def test_every_destination_element_is_written_once(even, layout, options):
    plan = wb.open(even).plan(layout, **options)
    for target in plan.targets:
        placed = target.stored.placement
        written = np.zeros((placed.lead, placed.rows, placed.cols), np.uint8)
        for piece in (p for p in target.pieces if not p.scale_only):
            rows, cols = piece.part.extent
            part = piece.part
            written[part.lead, part.at_row : part.at_row + rows, part.at_col : part.at_col + cols] += 1
        padded = plan.options.tp and "self_attn" in target.stored.name
        assert written.max(initial=0) <= 1
        assert padded or target.stored.constant is not None or written.min() == 1, target.stored.name


@pytest.mark.parametrize("layout, options", LAYOUTS)
def test_every_source_weight_is_used_whole(even, layout, options):
    """Seen from the source: each element of each weight goes somewhere."""
    plan = wb.open(even).plan(layout, **options)
    used = {b.weight.name: np.zeros((b.stored.placement.lead, b.stored.placement.rows, b.stored.placement.cols), bool)
            for b in plan.source.bound}
    for target in plan.targets:
        for piece in target.pieces:
            for f in piece.fragments:
                rows, cols = (f.lcols, f.lrows) if f.turned else (f.lrows, f.lcols)
                used[plan.source.bound[f.source].weight.name][f.lead, f.row : f.row + rows, f.col : f.col + cols] = True
    assert len(used) == len(plan.inventory.weights)
    assert [name for name, seen in used.items() if not seen.all()] == []


def test_cost_is_what_the_files_will_have(even, tmp_path):
    """`bytes_written` counts data; headers come on top."""
    plan = wb.open(even).plan("neuron", attention="exact", tp=4)
    wb.open(even).convert(tmp_path / "out", "neuron", attention="exact", tp=4)
    data = 0
    for path in (tmp_path / "out").glob("*.safetensors"):
        data += path.stat().st_size - 8 - int.from_bytes(path.read_bytes()[:8], "little")
    assert plan.bytes_written == data


def test_steps_of_the_modes():
    """Which way the weights of the demo go: 4 layers, so 8 stacks of experts and 16 projections."""
    def steps(**options):
        return {name: n for name, n in wb.open(DEMO).plan("neuron", **options).steps.items() if name != "copy"}

    assert steps() == {"halve": 8, "requantize": 12, "decode": 4}
    assert steps(attention="exact") == {"halve": 24}
    assert steps(attention="row") == {"halve": 8, "requantize": 16}
    assert steps(attention="bf16") == {"halve": 8, "decode": 16}
    assert steps(attention="exact", scale_rule="legacy-448-240") == {"legacy-448-240": 24}


def test_the_digest_names_source_layout_and_options(even, ragged):
    digest = wb.open(even).plan("hf-bf16").digest
    assert digest == wb.open(even).plan("hf-bf16").digest
    others = [wb.open(ragged).plan("hf-bf16"), wb.open(even).plan("hf-fp8"), wb.open(even).plan("neuron"),
              wb.open(even).plan("neuron", tp=4), wb.open(even).plan("hf-fp8", scale_dtype="BF16")]
    assert len({digest, *(p.digest for p in others)}) == 6


def test_a_ragged_model_is_refused_for_neuron(ragged):
    text = refusal(ragged, "neuron")
    assert "R25" in text and "192" in text and "576" in text and "128" in text and "hf-bf16" in text
    assert "R25" in refusal(ragged, "neuron", shards=True, tp=2)


def test_the_reciprocal_is_refused_unless_allowed(even, tmp_path):
    text = refusal(even, "neuron", scale_rule="reciprocal", attention="exact")
    assert "1/weight_scale_inv" in text and "--allow reciprocal" in text
    plan = wb.open(even).plan("neuron", scale_rule="reciprocal", attention="exact", allow=("reciprocal",))
    plan.refuse()
    assert set(plan.steps) == {"copy", "reciprocal"}
    assert [row["bound"] for row in plan.lossy] == ["none: the values are wrong"]


@pytest.mark.parametrize("degrees, rule, works", [
    ({"tp": 3}, "R14", ["2", "4", "8"]),
    ({"tp": 5}, "R14", ["2", "4", "8"]),
    ({"tp": 6}, "R28", ["2", "4", "8"]),
    ({"tp": 8, "moe_tp": 4, "moe_ep": 2}, "R40", ["1 x 8", "2 x 4"]),
    ({"tp": 8, "moe_tp": 1, "moe_ep": 4}, "R31", ["1 x 8", "2 x 4"]),
    ({"tp": 8, "batch": 0, "moe_tp": 1, "moe_ep": 3}, "R28", ["1 x 8", "2 x 4"]),
])
def test_degrees_that_do_not_work_name_those_that_do(even, degrees, rule, works):
    text = refusal(even, "neuron", **degrees)
    assert rule in text
    hint = next(p.hint for p in wb.open(even).plan("neuron", **degrees).problems if rule in p.message)
    assert all(size in hint.replace(",", " ").split(": ")[1] for size in works), hint


def test_a_batch_that_is_too_small_names_the_smallest(tmp_path):
    """8 experts, 2 for each token: below 4 sequences NxD refuses token generation (R42)."""
    write_tiny(tmp_path, **EVEN, config={"num_experts_per_tok": 2})
    assert "R42" in refusal(tmp_path, "neuron", tp=4, batch=3) and "--batch 4" in refusal(tmp_path, "neuron", tp=4, batch=3)
    wb.open(tmp_path).plan("neuron", tp=4, batch=4).refuse()


def test_options_that_nobody_knows(even):
    for options in ({"attention": "best"}, {"scale_rule": "double"}, {"tp": -1}, {"speed": 3}, {"scale_dtype": "F16"}):
        with pytest.raises(Usage):
            wb.open(even).plan("neuron", **options)
    with pytest.raises(Usage):
        wb.open(even).plan("onnx")
    with pytest.raises(Usage):
        wb.open(even).plan("hf-bf16", shards=True)


@given(*[st.integers(1, 12)] * 2, st.integers(0, 20), st.integers(0, 20), st.integers(1, 20))
def test_nests_is_right_about_every_block(source, target, shift, start, length):
    """True only where each target block that the range touches has all its elements in one source block."""
    owners: dict[int, set[int]] = {}
    for position in range(start, start + length):
        owners.setdefault(position // target, set()).add((position + shift) // source)
    if nests(source, target, shift, start, length):
        assert all(len(o) == 1 for o in owners.values())


@given(*[st.integers(1, 6)] * 2, st.integers(0, 5))
def test_nests_finds_what_a_layout_needs(target, times, blocks):
    """A finer grid on block borders nests, and so does a range inside one block."""
    source = target * times
    assert nests(source, target, blocks * source, 0, 7 * source)
    assert nests(source, 1000, blocks * source, 0, source)


rects = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 5), st.integers(1, 5))


@given(rects, st.lists(st.tuples(rects, st.booleans()), max_size=5))
def test_cover_fills_once_and_tells_what_is_left(rect, held):
    holders = [(n, Part("w", *r, 0, 0, 0, turned)) for n, (r, turned) in enumerate(held)]
    fragments, left = cover(rect, holders)
    seen = Counter()
    for f in fragments:
        holder = holders[f.source][1]
        assert holder.row <= f.lrow and f.lrow + f.lrows <= holder.row + holder.rows
        seen.update((f.lrow + i, f.lcol + j) for i in range(f.lrows) for j in range(f.lcols))
        down, right = f.lrow - holder.row, f.lcol - holder.col
        assert (f.row, f.col) == ((right, down) if f.turned else (down, right))
    for row, col, rows, cols in left:
        seen.update((row + i, col + j) for i in range(rows) for j in range(cols))
    assert seen == Counter((rect[0] + i, rect[1] + j) for i in range(rect[2]) for j in range(rect[3]))
    held_cells = {(p.row + i, p.col + j) for _, p in holders for i in range(p.rows) for j in range(p.cols)}
    assert not held_cells & {(r + i, c + j) for r, c, rs, cs in left for i in range(rs) for j in range(cs)}
