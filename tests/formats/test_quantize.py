"""Quantizing without calibration: what must hold for every rule, and the way back where it is exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.encoding import codec as fp8
from weighbridge.formats import codec
from weighbridge.formats.bounds import bound, window
from weighbridge.formats.quantize import quantize
from weighbridge.formats.rules import RULES
from weighbridge.formats.scheme import plain
from weighbridge.formats.schemes import SCHEMES
from weighbridge.formats.stored import read

from .conftest import encoding_of

WRITABLE = [name for name, scheme in SCHEMES.items() if scheme.rule]
SHAPE = (64, 96)

KINDS = {
    "gaussian": lambda rng: rng.standard_normal(SHAPE),
    "weights": lambda rng: rng.standard_normal(SHAPE) * 0.02,
    "wide": lambda rng: rng.standard_normal(SHAPE) * np.exp2(rng.uniform(-12, 12, SHAPE)),
    "outliers": lambda rng: rng.standard_normal(SHAPE) * np.where(rng.random(SHAPE) < 0.01, 1000, 0.01),
    "tiny": lambda rng: rng.standard_normal(SHAPE) * 1e-6,
    "one sign": lambda rng: rng.random(SHAPE) + 5,
    "negative": lambda rng: -rng.random(SHAPE),
    "sparse": lambda rng: rng.standard_normal(SHAPE) * (rng.random(SHAPE) < 0.02),
    "ties": lambda rng: rng.integers(-14, 15, SHAPE) / 4,
    "zeros": lambda rng: np.zeros(SHAPE),
}


def values_of(kind: str, seed: int = 1) -> np.ndarray:
    return KINDS[kind](np.random.default_rng(seed)).astype(np.float32)


def within(value, again, q, encoding) -> np.ndarray:
    relative, absolute = bound(plain("F32"), encoding)
    scale = q.scales_at(np.arange(value.shape[0]), np.arange(value.shape[1])).astype(np.float64)
    return np.abs(again.astype(np.float64) - value) <= np.maximum(relative * np.abs(value.astype(np.float64)), absolute * scale)


@pytest.mark.parametrize("name", WRITABLE)
def test_the_error_keeps_its_bound(name: str) -> None:
    encoding = encoding_of(name)
    for kind in KINDS:
        value = values_of(kind)
        q, refused = quantize(value, encoding)
        assert refused == 0, kind
        good = within(value, q.decode(), q, encoding)
        assert good.all(), (kind, value[~good][:3], q.decode()[~good][:3])


@pytest.mark.parametrize("name", [n for n in WRITABLE if n.startswith(("ct-int4", "awq", "gptq-int4"))])
@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_the_bound_holds_with_scales_of_sixteen_bits(name: str, dtype: str) -> None:
    encoding = encoding_of(name, dtypes={encoding_of(name).scale.suffix: dtype})
    for kind in KINDS:
        value = values_of(kind)
        q, refused = quantize(value, encoding)
        assert refused == 0 and within(value, q.decode(), q, encoding).all(), kind
        assert np.array_equal(codec.rounded(q.scale.own, dtype), q.scale.own)


@pytest.mark.parametrize("name", WRITABLE)
def test_scales_are_values_of_their_dtype_and_codes_of_their_width(name: str) -> None:
    encoding = encoding_of(name)
    q, _ = quantize(values_of("gaussian"), encoding)
    for grid in q.grids:
        for part in (grid, *grid.inner):
            form = codec.ELEMENTS[part.field.element]
            kept = codec.rounded(part.own, part.field.dtype) if form.bits > 8 else codec.table(form.name)[codec.encode(part.own, form.name)]
            assert np.array_equal(kept, part.own), part.field.suffix
    assert q.codes_RC.max() < 1 << codec.ELEMENTS[encoding.element].bits


@pytest.mark.parametrize("name", WRITABLE)
def test_kept_scales_give_the_codes_back(name: str) -> None:
    """Decoding and quantizing with the stored scales and zero points is exact, whatever the scales are."""
    encoding = encoding_of(name)
    for kind in ("gaussian", "wide", "ties", "one sign"):
        q, _ = quantize(values_of(kind), encoding)
        kept = {part.field.suffix: part.own for grid in q.grids for part in (grid, *grid.inner)}
        again, refused = quantize(q.decode(), encoding, kept)
        assert refused == 0 and np.array_equal(again.codes_RC, q.codes_RC), kind


def test_blocks_with_stored_scales_come_back_from_bfloat16(stored) -> None:
    """FP8 blocks to BF16 and back: every code and scale, since 8 digits hold a code of 4 within half of its step."""
    encoding = encoding_of("fp8-block")
    fields = stored(encoding, SHAPE)
    q = read(encoding, SHAPE, fields.get)
    kept = {q.scale.field.suffix: q.scale.own}
    again, _ = quantize(fp8.from_bf16(fp8.to_bf16(q.decode())), encoding, kept)
    assert np.array_equal(again.codes_RC, q.codes_RC)


@pytest.mark.parametrize("name", WRITABLE)
def test_a_block_that_is_no_number_is_refused(name: str) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        value = values_of("gaussian")
        value[1, 1] = bad
        assert quantize(value, encoding_of(name), largest=4.0).refused == 1


def test_a_scale_that_does_not_fit_is_refused() -> None:
    value = np.full((1, 32), 1e6, np.float32)
    assert quantize(value, encoding_of("ct-int4", dtypes={".weight_scale": "F16"})).refused == 1
    assert quantize(value, encoding_of("ct-int4", dtypes={".weight_scale": "F32"})).refused == 0


def test_a_scheme_that_is_only_read_has_no_rule() -> None:
    with pytest.raises(ValueError, match="bnb-nf4 is read only"):
        quantize(np.zeros(SHAPE, np.float32), encoding_of("bnb-nf4"))
    assert {s.rule for s in SCHEMES.values()} - {""} <= RULES.keys()


@pytest.mark.parametrize("block", [(1, 96), (16, 24), (64, 96)])
def test_fp8_blocks_are_those_of_the_first_codec(block) -> None:
    value = values_of("outliers")
    q, _ = quantize(value, encoding_of("fp8-block", block=block))
    codes, scales = fp8.quantize(value, block)
    assert np.array_equal(q.codes_RC, codes) and np.array_equal(q.scale.values, scales)


@given(exponent=st.integers(-100, 100), fraction=st.floats(1, 2, exclude_max=True, width=32))
def test_exponents(exponent: int, fraction: float) -> None:
    """compressed-tensors: 6.9 is 1 and 7 is 2; 448 is 2. ModelOpt: 448 is 1."""
    value = np.zeros((1, 32), np.float32)
    value[0, 0] = np.ldexp(np.float32(fraction), exponent)
    up = 1 if value[0, 0] >= np.ldexp(np.float32(1.75), exponent) else 0
    assert quantize(value, encoding_of("ct-mxfp4")).q.scale.own == np.ldexp(1.0, exponent + up - 2)
    assert quantize(value, encoding_of("ct-mxfp8")).q.scale.own == np.ldexp(1.0, exponent + up - 8)


@pytest.mark.parametrize(("name", "amax", "byte"), [
    ("ct-mxfp4", 6.9, 127), ("ct-mxfp4", 7.0, 128), ("ct-mxfp8", 448, 128), ("ct-mxfp8", 447, 127), ("modelopt-mxfp8", 448, 127),
    ("modelopt-mxfp8", 448.1, 128), ("mxfp4-blocks", 6, 127), ("mxfp4-blocks", 6.01, 128), ("ct-mxfp4", 0, 0), ("modelopt-mxfp8", 0, 0),
])
def test_exponents_of_some_blocks(name: str, amax: float, byte: int) -> None:
    value = np.zeros((1, 32), np.float32)
    value[0, 3] = -amax
    assert codec.encode(quantize(value, encoding_of(name)).q.scale.own, "e8m0") == byte


def test_one_scale_over_fused_tensors() -> None:
    """With the amax of both, gate and up get one tensor-wide scale."""
    gate, up = values_of("gaussian", 1), values_of("gaussian", 2) * 3
    largest = float(max(np.abs(gate).max(), np.abs(up).max()))
    for name in ("ct-nvfp4", "modelopt-nvfp4"):
        parts = [quantize(v, encoding_of(name), largest=largest).q.scale.inner[0].own for v in (gate, up)]
        assert np.array_equal(*parts)
        assert not np.array_equal(*(quantize(v, encoding_of(name)).q.scale.inner[0].own for v in (gate, up)))
    assert parts[0] == np.float32(largest) / np.float32(2688)


def test_powers_of_two_under_blocks() -> None:
    """E8M0 scales for FP8 blocks go up, so that the greatest code is not passed."""
    encoding = encoding_of("fp8-block", dtypes={".weight_scale_inv": "F8_E8M0"})
    q, refused = quantize(values_of("wide"), encoding)
    assert refused == 0 and within(values_of("wide"), q.decode(), q, encoding).all()
    plain_scales = quantize(values_of("wide"), encoding_of("fp8-block")).q.scale.own
    assert ((q.scale.own >= plain_scales) & (q.scale.own < 2 * plain_scales)).all()


@pytest.mark.parametrize("name", [n for n in WRITABLE if n.endswith(("-tensor", "nvfp4")) or n == "modelopt-fp8"])
def test_rows_of_a_tensor_with_its_largest_are_those_of_the_whole(name: str) -> None:
    value = values_of("gaussian")
    whole, _ = quantize(value, encoding_of(name))
    largest = float(np.abs(value).max())
    parts = [quantize(value[rows], encoding_of(name), largest=largest).q for rows in (slice(0, 16), slice(16, 64))]
    assert np.array_equal(np.concatenate([part.codes_RC for part in parts]), whole.codes_RC)
    assert np.array_equal(np.concatenate([part.decode() for part in parts]), whole.decode())


def test_a_value_that_is_no_number_shows_beside_a_largest_one() -> None:
    value = values_of("gaussian")
    value[3, 3] = np.nan
    assert quantize(value, encoding_of("ct-fp8-tensor"), largest=9.0).refused == 1


def mxfp4_with_exponents(low: int, high: int):
    """A random MXFP4 weight whose scale bytes lie from low to high."""
    rng, encoding = np.random.default_rng(12), encoding_of("ct-mxfp4")
    fields = {".weight_packed": rng.integers(0, 256, SHAPE[0] * SHAPE[1] // 2).astype(np.uint8),
              ".weight_scale": rng.integers(low, high + 1, SHAPE[0] * SHAPE[1] // 32).astype(np.uint8)}
    return read(encoding, SHAPE, fields.get)


@pytest.mark.parametrize(("low", "exact"), [(113, True), (112, False)])
def test_mxfp4_shifts_into_fp8_tiles_inside_the_window(low: int, exact: bool) -> None:
    """A tile's scale is its greatest group's over 2^6, as DeepSeek has it: groups down to 2^14 below keep every code, since FP8 holds 2^-8 to 2^6."""
    q = mxfp4_with_exponents(low, 127)
    scales = q.scale.own.reshape(2, 32, 3, 1)
    tiles = scales.max((1, 3)) / 64
    assert (scales.min() / scales.max() >= 2.0 ** (window("e2m1", "e4m3fn")[0] - 6)) == exact
    moved, refused = quantize(q.decode(), encoding_of("fp8-block", block=(32, 32)), {".weight_scale_inv": tiles})
    assert refused == 0 and np.array_equal(moved.decode(), q.decode()) == exact


def test_mxfp4_shifts_into_nvfp4() -> None:
    """Group scales of powers of two are E4M3 values from 2^-9 to 2^8 under a power of two for the tensor; each stands twice."""
    q = mxfp4_with_exponents(110, 127)
    second = np.float32(2.0**-8)
    kept = {".weight_scale": np.repeat(q.scale.own, 2, 1) / second, ".weight_scale_2": np.full((1, 1), second)}
    moved, refused = quantize(q.decode(), encoding_of("modelopt-nvfp4"), kept)
    assert refused == 0 and np.array_equal(moved.codes_RC, q.codes_RC) and np.array_equal(moved.decode(), q.decode())
    assert np.array_equal(codec.rounded(moved.scale.own, "F8_E4M3"), moved.scale.own)
