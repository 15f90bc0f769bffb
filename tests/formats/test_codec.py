"""Codes, packings and bytes: what must hold for every element and every packing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.formats import codec
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.packing import AWQ_ORDER, HIGH_FIRST, LOW_FIRST, ROW_PAIRS, dense, ordered
from weighbridge.formats.schemes import SCHEMES

SMALL = [name for name, element in ELEMENTS.items() if element.bits <= 8]
PACKINGS = {field.packing for scheme in SCHEMES.values() for field in scheme.fields if field.packing.packed} | {
    dense(width, axis=axis) for width in range(2, 9) for axis in (-1, -2)} | {LOW_FIRST, HIGH_FIRST, ROW_PAIRS, ordered(4, AWQ_ORDER)}


@pytest.mark.parametrize("element", SMALL)
def test_a_value_encodes_to_a_code_of_the_same_value(element: str) -> None:
    values = codec.table(element)
    finite = values[np.isfinite(values)]
    assert len(values) == 1 << ELEMENTS[element].bits
    assert np.array_equal(values[codec.encode(finite, element)], finite)


@pytest.mark.parametrize("element", [e for e in SMALL if ELEMENTS[e].kind != "power"])
def test_rounding_keeps_the_bound_of_the_element(element: str) -> None:
    form, rng = ELEMENTS[element], np.random.default_rng(3)
    values = codec.table(element)
    low, high = np.nanmin(values[np.isfinite(values)]), np.nanmax(values[np.isfinite(values)])
    value = np.concatenate([rng.uniform(low, high, 20000), rng.uniform(low, high, 20000) * 2.0 ** -rng.uniform(0, 20, 20000)]).astype(np.float32)
    value = np.clip(value, low, high)
    error = np.abs(values[codec.encode(value, element)].astype(np.float64) - value)
    assert (error <= np.maximum(form.relative * np.abs(value), form.absolute)).all()


def test_the_largest_is_the_largest() -> None:
    for element in SMALL:
        values = codec.table(element)
        assert np.abs(values[np.isfinite(values)]).max() == np.float32(ELEMENTS[element].largest), element


@pytest.mark.parametrize("value", [3.0, 0.0, -1.0, np.inf, 2.0**-128, 1.5])
def test_an_exponent_is_exact_or_refused(value: float) -> None:
    with pytest.raises(ValueError, match="no power of two"):
        codec.encode(np.array([value], np.float32), "e8m0")


@pytest.mark.parametrize("packing", sorted(PACKINGS), ids=lambda p: f"{p.width}bits-{p.size}-{p.starts[1]}-{p.axis}")
@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 70), cols=st.integers(1, 70), seed=st.integers(0, 99))
def test_unpacking_is_the_inverse_of_packing(packing, rows: int, cols: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << packing.width, (rows, cols)).astype(np.uint8)
    stored = codec.pack(codes, packing)
    count = codes.shape[packing.axis]
    assert np.array_equal(codec.unpack(stored, packing, count), codes)
    assert stored.size == packing.units(count) * packing.size * codes.size // count
    filled = codec.unpack(stored, packing, packing.units(count) * packing.values)
    assert not filled[count:].any() if packing.axis == -2 else not filled[:, count:].any()


def test_unpacking_refuses_another_number_of_bytes() -> None:
    with pytest.raises(ValueError, match="10 values of 4 bits fill 8 bytes, not 4"):
        codec.unpack(np.zeros((1, 4), np.uint8), dense(4), 10)


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16", "F64"])
def test_floats_are_the_values_of_the_bytes(dtype: str) -> None:
    values = np.array([[0.5, -1.5], [2.0**-14, 65504]], np.float32)
    if dtype == "BF16":
        values[1, 1] = 65280
    assert np.array_equal(codec.floats(codec.to_dtype(values, dtype), dtype).reshape(2, 2), values)


@pytest.mark.parametrize("dtype", ["F8_E8M0", "U8"])
def test_an_exponent_is_reinterpreted_never_cast(dtype: str) -> None:
    assert codec.floats(np.array([120, 127, 130, 140], np.uint8), dtype).tolist() == [2.0**-7, 1, 8, 8192]


def test_rounding_to_e4m3_goes_by_its_codes() -> None:
    some = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    middles = ((codec.table("e4m3fn")[1:126] + codec.table("e4m3fn")[:125]) / 2).astype(np.float32)
    value = np.concatenate([some, middles, np.nextafter(middles, np.float32(9999)), np.nextafter(middles, np.float32(0)), [np.float32(464)]])
    assert np.array_equal(codec.rounded(value, "F8_E4M3"), codec.table("e4m3fn")[codec.encode(value, "e4m3fn")], equal_nan=True)


def test_a_book_with_one_value_twice_gives_the_smaller_code() -> None:
    assert codec.encode(np.array([0.0, 0.001, -0.001]), "fp4").tolist() == [0, 0, 0]
    assert codec.encode(np.array([0.0, 0.9, -0.9, 1.0, 2.0, np.inf, -np.inf]), "nf4").tolist() == [7, 15, 0, 15, 15, 15, 0]
