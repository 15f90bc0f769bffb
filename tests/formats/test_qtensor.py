"""The recursive value: rows of it, rectangles of it and its turned form mean what the whole means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.formats import codec
from weighbridge.formats.packing import whole
from weighbridge.formats.qtensor import QTensor
from weighbridge.formats.scheme import Encoding, Field, Role, plain
from weighbridge.formats.schemes import SCHEMES
from weighbridge.formats.stored import read

from .conftest import encoding_of

SHAPE = (96, 160)


def slow(encoding, shape, fields) -> np.ndarray:
    """The value element by element, from whole grids: a second way to it."""
    code = encoding.code
    codes = codec.table(code.element)[codec.codes_of(code, fields[code.suffix], code.grid(*shape)).reshape(shape)]
    scale, zero = np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
    order = next((f for f in encoding.factors if f.role is Role.ORDER and f.suffix in fields), None)
    groups = fields[order.suffix].view("<i4") if order else None
    for field in encoding.factors:
        if field.role not in (Role.SCALE, Role.ZERO) or field.suffix not in fields:
            continue
        grid = codec.field_values(field, fields, shape)
        if field.flat:
            full = grid[0, np.arange(shape[0] * shape[1]) // field.block[1]].reshape(shape)
        else:
            rows = np.arange(shape[0]) // (field.block[0] or shape[0])
            full = grid[(groups if groups is not None else rows)[:, None], (np.arange(shape[1]) // (field.block[1] or shape[1]))[None]]
        scale, zero = (full, zero) if field.role is Role.SCALE else (scale, full)
    return (codes - zero) * scale


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_reads(name: str, stored) -> None:
    encoding = encoding_of(name)
    fields = stored(encoding, SHAPE)
    q = read(encoding, SHAPE, fields.get)
    assert np.array_equal(q.decode(), slow(encoding, SHAPE, fields), equal_nan=True)


@pytest.mark.parametrize("name", SCHEMES)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_rows_and_cuts(name: str, stored, data) -> None:
    encoding = encoding_of(name)
    fields = stored(encoding, SHAPE, order=True)
    whole = read(encoding, SHAPE, fields.get).decode()
    start = data.draw(st.integers(0, SHAPE[0] - 1))
    stop = data.draw(st.integers(start + 1, SHAPE[0]))
    q = read(encoding, SHAPE, fields.get, (start, stop))
    assert np.array_equal(q.decode(), whole[start:stop], equal_nan=True)
    top, left = data.draw(st.integers(0, stop - start - 1)), data.draw(st.integers(0, SHAPE[1] - 1))
    rows, cols = data.draw(st.integers(1, stop - start - top)), data.draw(st.integers(1, SHAPE[1] - left))
    cut = q.cut(top, left, rows, cols)
    want = whole[start + top : start + top + rows, left : left + cols]
    assert np.array_equal(cut.decode(), want, equal_nan=True)
    assert np.array_equal(cut.T.decode(), want.T, equal_nan=True)
    down, right = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))
    again = cut.T.cut(right, down, cols - right, rows - down)
    assert np.array_equal(again.decode(), want[down:, right:].T, equal_nan=True)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_blocks_of_several_sizes(data) -> None:
    """No published scheme has two; the grids are cut at whole periods of all of them."""
    first, second = (Field(Role.SCALE, (suffix,), "f32", ("F32",), block, whole(32)) for suffix, block in ((".a", (2, 6)), (".b", (3, 4))))
    encoding = Encoding("two", "block", Field(Role.CODE, (".weight",), "int8", ("I8",)), (first, second))
    shape, rng = (19, 41), np.random.default_rng(7)
    fields = {".weight": rng.integers(0, 256, shape).astype(np.uint8), ".a": rng.random(first.grid(*shape), np.float32),
              ".b": rng.random(second.grid(*shape), np.float32)}
    whole_q = read(encoding, shape, fields.get)
    want = whole_q.decode()
    start, top, left = data.draw(st.integers(0, 10)), data.draw(st.integers(0, 5)), data.draw(st.integers(0, 30))
    cut = read(encoding, shape, fields.get, (start, 19)).cut(top, left, 3, 9)
    assert np.array_equal(cut.decode(), want[start + top : start + top + 3, left : left + 9])
    assert np.array_equal(cut.T.cut(2, 1, 5, 2).decode(), want[start + top + 1 : start + top + 3, left + 2 : left + 7].T)


def test_codes_are_a_view_of_the_bytes(stored) -> None:
    encoding = encoding_of("fp8-block")
    fields = stored(encoding, SHAPE)
    assert np.shares_memory(read(encoding, SHAPE, fields.get, (16, 48)).codes_RC, fields[".weight"])


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
def test_plain_tensors(dtype: str) -> None:
    values = np.arange(-8, 8, dtype=np.float32).reshape(4, 4)
    raw = codec.to_dtype(values, dtype)
    q = read(plain(dtype), (4, 4), lambda suffix: raw, (1, 3))
    assert np.shares_memory(q.codes_RC, raw)
    assert np.array_equal(q.cut(1, 1, 1, 3).T.decode(), values[2:3, 1:].T)


def test_inner_grids_stay_apart(stored) -> None:
    encoding = encoding_of("ct-nvfp4")
    fields = stored(encoding, (4, 64))
    scale = read(encoding, (4, 64), fields.get).scale
    assert np.array_equal(scale.own, codec.table("e4m3fn")[fields[".weight_scale"]].reshape(4, 4))
    assert np.array_equal(scale.values, scale.own / fields[".weight_global_scale"].view("<f4")[0])


def test_an_order_in_a_row_is_dropped(stored) -> None:
    encoding = encoding_of("gptq-int4")
    fields = stored(encoding, SHAPE, order=True)
    assert read(encoding, SHAPE, fields.get).order is not None
    fields[".g_idx"] = (np.arange(SHAPE[0], dtype="<i4") // 32).view(np.uint8)
    assert read(encoding, SHAPE, fields.get).order is None


@pytest.mark.parametrize("group", [-1, 3, 2**31 - 1])
def test_an_order_that_points_outside_is_refused(stored, group: int) -> None:
    encoding = encoding_of("gptq-int4")
    fields = stored(encoding, SHAPE, order=True)
    fields[".g_idx"].view("<i4")[5] = group
    with pytest.raises(ValueError, match=r"g_idx holds groups .* and there are 3"):
        read(encoding, SHAPE, fields.get)


@pytest.mark.parametrize("columns", [63, 64, 96, 100, 130])
def test_runs_that_cross_the_ends_of_rows(stored, columns: int) -> None:
    encoding = encoding_of("bnb-nf4-nested")
    fields = stored(encoding, (37, columns))
    want = slow(encoding, (37, columns), fields)
    for start, stop in ((0, 37), (3, 4), (5, 30)):
        q = read(encoding, (37, columns), fields.get, (start, stop))
        assert np.array_equal(q.decode(), want[start:stop])
        assert np.array_equal(q.cut(0, 7, stop - start, 40).decode(), want[start:stop, 7:47])


def test_too_few_bytes_are_refused(stored) -> None:
    encoding = encoding_of("ct-int4-zeros")
    for suffix in (".weight_packed", ".weight_scale", ".weight_zero_point"):
        fields = stored(encoding, SHAPE)
        fields[suffix] = fields[suffix][:-4]
        with pytest.raises(ValueError, match=f"{suffix}.* bytes, not"):
            read(encoding, SHAPE, fields.get)
        del fields[suffix]
        with pytest.raises(ValueError, match=f"{suffix} is not there"):
            read(encoding, SHAPE, fields.get)


def test_scales_at() -> None:
    encoding = encoding_of("fp8-block")
    fields = {".weight": np.zeros(SHAPE, np.uint8).reshape(-1), ".weight_scale_inv": np.arange(6 * 7, dtype="<f4").view(np.uint8)}
    q: QTensor = read(encoding, SHAPE, fields.get).cut(17, 25, 40, 60)
    assert q.scales_at(np.array([0, 39]), np.array([0, 59])).tolist() == [[8, 10], [22, 24]]


def test_codes_without_a_scale_have_no_value() -> None:
    q = read(plain("F8_E4M3"), (2, 2), lambda suffix: np.zeros(4, np.uint8))
    with pytest.raises(ValueError, match="codes of F8_E4M3 have no value without a scale"):
        q.decode()
