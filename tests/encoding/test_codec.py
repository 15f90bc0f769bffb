"""The specification against ml_dtypes: every code, every rounding boundary, values over the whole range."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.encoding import codec

ML_DTYPE = {
    "e4m3fn": ml_dtypes.float8_e4m3fn,
    "e4m3": ml_dtypes.float8_e4m3,
    "e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "e5m2": ml_dtypes.float8_e5m2,
}
ALL = np.arange(256, dtype=np.uint8)
NAN_CODES = np.array([0x7F, 0xFF], np.uint8)


def same_values(a, b):
    return bool(((a == b) & (np.signbit(a) == np.signbit(b)) | (np.isnan(a) & np.isnan(b))).all())


@pytest.mark.parametrize("fmt", ML_DTYPE)
def test_every_code_decodes_as_in_ml_dtypes(fmt):
    assert same_values(codec.decode_table(fmt), ALL.view(ML_DTYPE[fmt]).astype(np.float32))


def test_e8m0_and_e2m1_decode_as_in_ml_dtypes():
    assert same_values(codec.decode_table("e8m0"), ALL.view(ml_dtypes.float8_e8m0fnu).astype(np.float32))
    assert same_values(codec.decode_table("e2m1"), ALL[:16].view(ml_dtypes.float4_e2m1fn).astype(np.float32))


@pytest.mark.parametrize("fmt", codec.FORMATS)
def test_every_finite_code_survives_a_round_trip(fmt):
    table = codec.decode_table(fmt)
    code = np.arange(len(table), dtype=np.uint8)
    finite = np.isfinite(table)
    assert (codec.encode(table, fmt)[finite] == code[finite]).all()


@pytest.mark.parametrize("fmt", ML_DTYPE)
def test_encode_rounds_as_ml_dtypes_at_every_boundary(fmt):
    table = codec.decode_table(fmt)
    grid = np.unique(table[np.isfinite(table)]).astype(np.float64)
    middle = ((grid[1:] + grid[:-1]) / 2).astype(np.float32)  # exact in float32
    around = np.concatenate([np.nextafter(middle, -np.inf), middle, np.nextafter(middle, np.inf)])
    assert (codec.encode(around, fmt) == around.astype(ML_DTYPE[fmt]).view(np.uint8)).all()


@pytest.mark.parametrize("fmt", ML_DTYPE)
@given(data=st.binary(min_size=4, max_size=256))
def test_encode_agrees_with_ml_dtypes_on_any_float32_in_range(fmt, data):
    value = np.frombuffer(data[: len(data) // 4 * 4], np.float32)
    value = value[np.abs(value) <= codec.FORMATS[fmt].max]
    assert (codec.encode(value, fmt) == value.astype(ML_DTYPE[fmt]).view(np.uint8)).all()


@pytest.mark.parametrize(("fmt", "top"), [("e4m3fn", 0x7E), ("e4m3", 0x77), ("e4m3fnuz", 0x7F), ("e5m2", 0x7B)])
def test_encode_saturates(fmt, top):
    limit = codec.FORMATS[fmt].max
    beyond = np.array([limit * 1.001, limit * 2, 3e38, np.inf], np.float32)
    assert (codec.encode(beyond, fmt) == top).all()
    assert (codec.encode(-beyond, fmt) == (top | 0x80)).all()


@pytest.mark.parametrize("fmt", ML_DTYPE)
def test_encode_keeps_nan(fmt):
    code = codec.encode(np.array([np.nan, -np.nan], np.float32), fmt)
    assert np.isnan(codec.decode_table(fmt)[code]).all()


def test_bf16_agrees_with_ml_dtypes_on_every_upper_half_and_every_tie():
    high = np.arange(65536, dtype=np.uint32) << 16
    for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        value = (high | np.uint32(low)).view(np.float32)
        ours, nan = codec.to_bf16(value), np.isnan(value)
        assert (ours[~nan] == value[~nan].astype(ml_dtypes.bfloat16).view(np.uint16)).all()
        assert np.isnan(codec.from_bf16(ours[nan])).all()
        assert (np.signbit(codec.from_bf16(ours)) == np.signbit(value)).all()


def test_expand_gives_each_element_the_scale_of_its_block():
    scale = np.arange(6, dtype=np.float32).reshape(2, 3)
    whole = codec.expand(scale, (7, 12), (4, 5))
    assert whole.shape == (7, 12)
    for i in range(7):
        for j in range(12):
            assert whole[i, j] == scale[i // 4, j // 5]
    assert (codec.expand(scale, (3, 6), (4, 5), origin=(2, 4)) == whole[2:5, 4:10]).all()
    with pytest.raises(IndexError):
        codec.expand(scale, (9, 12), (4, 5))


def test_decode_rounds_once():
    code = np.repeat(ALL[None], 3, axis=0)
    scale = np.array([[1e-5], [2.0**-149], [3e37]], np.float32)
    with np.errstate(all="ignore"):
        exact = codec.decode_table("e4m3fn").astype(np.float64)[code] * scale.astype(np.float64)
        assert same_values(codec.decode(code, scale, (1, 256)), exact.astype(np.float32))


def test_halve_changes_only_the_16_inexact_codes():
    table = codec.decode_table("e4m3fn")
    half = table[codec.halve(ALL)]
    wrong = (half != table / 2) & ~np.isnan(table)
    assert (wrong == codec.halve_is_inexact(ALL)).all()
    assert wrong.sum() == 16
    assert np.nanmax(half) == 224.0
    assert (codec.halve(NAN_CODES) == NAN_CODES).all()
    assert same_values(half, (table / 2).astype(ml_dtypes.float8_e4m3fn).astype(np.float32))


def test_halve_keeps_every_code_readable_as_e4m3():
    code = codec.halve(ALL[~np.isnan(codec.decode_table("e4m3fn"))])
    assert (codec.decode_table("e4m3")[code] == codec.decode_table("e4m3fn")[code]).all()


def test_double_is_exact_and_refuses_what_it_cannot_hold():
    table = codec.decode_table("e4m3fn")
    fits = ~codec.double_overflows(ALL)
    assert (fits == ~(np.abs(table) > 224)).all()
    assert same_values(table[codec.double(ALL[fits])], 2 * table[fits])
    with pytest.raises(OverflowError, match="1 of 2 codes are above 224"):
        codec.double(np.array([0x76, 0x77], np.uint8))


def test_double_undoes_halve_but_for_the_inexact_codes():
    code = ALL[~codec.halve_is_inexact(ALL)]
    assert (codec.double(codec.halve(code)) == code).all()


def test_legacy_rescale_stays_below_240_and_is_lossy():
    table = codec.decode_table("e4m3fn")
    rescaled = table[codec.legacy_rescale(ALL)].astype(np.float64)
    back = rescaled * codec.LEGACY_FACTOR
    assert np.nanmax(rescaled) == 240.0
    normal = np.abs(table) >= 2.0**-6
    relative = np.abs(back[normal] - table[normal]) / np.abs(table[normal])
    assert normal.sum() == 238
    assert (relative > 1e-6).sum() == 210
    assert (codec.legacy_rescale(NAN_CODES) == NAN_CODES).all()


def test_quantize_of_a_block_of_zeros_has_a_usable_scale():
    code, scale = codec.quantize(np.zeros((3, 5), np.float32), (2, 2))
    assert (code == 0).all() and (scale == 1.0).all() and scale.shape == (2, 3)


def test_quantize_of_the_smallest_values_is_exact():
    value = (np.arange(-224, 225).astype(np.float64) * 2.0**-149).astype(np.float32)[None]
    code, scale = codec.quantize(value, (1, 449))
    assert scale[0, 0] == codec.SMALLEST_F32
    representable = np.abs(value) <= 16 * 2.0**-149
    assert (codec.decode(code, scale, (1, 449)) == value)[representable].all()


@pytest.mark.parametrize("fmax", [448.0, 240.0])
def test_quantize_never_leaves_the_range(fmax):
    rng = np.random.default_rng(1)
    for power in (-149, -145, -140, -126, -20, 0, 20, 119):
        value = np.ldexp(rng.standard_normal((64, 64)), power).astype(np.float32)
        code, scale = codec.quantize(value, (16, 16), fmax)
        assert np.abs(codec.decode_table("e4m3fn")[code]).max() <= fmax
        assert (scale > 0).all()


def test_quantize_marks_a_block_that_is_not_finite():
    value = np.ones((2, 6), np.float32)
    value[0, 0], value[1, 3] = np.inf, np.nan
    code, scale = codec.quantize(value, (2, 2))
    assert np.isnan(scale).tolist() == [[True, True, False]]
    assert (code == [[0x7F] * 4 + [0x7E] * 2] * 2).all()


def test_an_unknown_format_is_named():
    with pytest.raises(ValueError, match="unknown number format 'e3m4'"):
        codec.encode(np.zeros(1, np.float32), "e3m4")
