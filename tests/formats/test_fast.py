"""The kernels against the specification, bit for bit: every packing, every element, every scheme, ragged shapes and odd strides."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.encoding import codec as fp8
from weighbridge.formats import codec, fast
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.quantize import blocks_of, quantize, refused_blocks
from weighbridge.formats.rules import RULES
from weighbridge.formats.scheme import Encoding, Field, Role, plain
from weighbridge.formats.schemes import SCHEMES
from weighbridge.formats.stored import read

from .conftest import encoding_of
from .test_codec import PACKINGS
from .test_quantize import KINDS, WRITABLE

SHAPES = {"F32": [(96, 160), (33, 4200)], "BF16": [(64, 4160), (7, 96)], "F16": [(32, 8200)]}
RULE_OF = {"ct-int4-zeros": "", "gptq-int4": "gptq-zeros"}


def spelled(value: np.ndarray, dtype: str) -> np.ndarray:
    """float32 values as a result of this dtype."""
    with np.errstate(over="ignore"):
        return codec.to_dtype(value, dtype).view(fast.RESULTS[dtype][1]).reshape(value.shape)


def same(ours: np.ndarray, want: np.ndarray) -> bool:
    return np.array_equal(ours, want) if ours.dtype == np.uint16 else np.array_equal(ours, want, equal_nan=True)


@pytest.mark.parametrize("packing", sorted(PACKINGS), ids=lambda p: f"{p.width}bits-{p.size}-{p.starts[1]}-{p.axis}")
@given(rows=st.integers(1, 70), cols=st.integers(1, 70), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_packing(packing, rows: int, cols: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << packing.width, (rows, cols)).astype(np.uint8)
    stored = codec.pack(codes, packing)
    assert np.array_equal(fast.pack(codes, packing), stored)
    assert np.array_equal(fast.unpack(stored, packing, codes.shape[packing.axis]), codes)


@pytest.mark.parametrize("packing", sorted(PACKINGS), ids=lambda p: f"{p.width}bits-{p.size}-{p.starts[1]}-{p.axis}")
def test_packing_of_long_rows(packing) -> None:
    codes = np.random.default_rng(5).integers(0, 1 << packing.width, (3, 4096 * 2 + 37)).astype(np.uint8)
    stored = codec.pack(codes, packing)
    assert np.array_equal(fast.pack(codes, packing), stored)
    assert np.array_equal(fast.unpack(stored, packing, codes.shape[packing.axis]), codes)


@pytest.mark.parametrize("element", [name for name, e in ELEMENTS.items() if e.bits <= 8])
def test_every_code_of_every_element(element: str) -> None:
    codes = np.arange(1 << ELEMENTS[element].bits, dtype=np.uint8)[None]
    field = encoding_of("fp8-block", block=(1, 16)).factors[0]
    encoding = Encoding("fp8-block", "block", Field(Role.CODE, (".weight",), element, ("U8",)), (field,))
    for scale, dtype in itertools.product((1.0, 0.37, 2.0**-130, 2.0**120), fast.RESULTS):
        grid = np.full((1, -(-codes.shape[1] // 16)), scale, "<f4")
        q = read(encoding, codes.shape, {".weight": codes, ".weight_scale_inv": grid}.get)
        assert same(fast.decode(q, dtype), spelled(q.decode(), dtype)), (scale, dtype)


@pytest.mark.parametrize("name", SCHEMES)
def test_decoding(name: str, stored) -> None:
    encoding = encoding_of(name)
    for dtype, shape in ((dtype, shape) for dtype, shapes in SHAPES.items() for shape in shapes):
        fields = stored(encoding, shape, order=shape[0] % 32 == 0)
        want = spelled(read(encoding, shape, fields.get).decode(), dtype)
        assert same(fast.decode_stored(encoding, shape, fields.get, dtype), want), (dtype, shape)
        rows = (5, shape[0] - 1)
        assert same(fast.decode_stored(encoding, shape, fields.get, dtype, rows), want[slice(*rows)]), (dtype, shape)


@pytest.mark.parametrize("name", SCHEMES)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_decoding_of_cuts(name: str, stored, data) -> None:
    shape, encoding = (96, 160), encoding_of(name)
    fields = stored(encoding, shape, order=True)
    start, top, left = (data.draw(st.integers(0, n)) for n in (40, 20, 100))
    q = fast.read(encoding, shape, fields.get, (start, 90)).cut(top, left, 25, 57)
    want = q.decode()
    assert same(fast.decode(q, "BF16"), fp8.to_bf16(want))
    assert same(fast.decode(q.T, "F32"), want.T)
    out = np.full((25, 80), 7, np.float32)
    fast.decode(q, "F32", out[:, 3:60])
    assert same(out[:, 3:60], want) and (out[:, :3] == 7).all() and (out[:, 60:] == 7).all()


@pytest.mark.parametrize("dtype", fast.RESULTS)
@pytest.mark.parametrize("source", ["BF16", "F16", "F32"])
def test_plain_tensors(source: str, dtype: str) -> None:
    value = np.random.default_rng(2).standard_normal((6, 10)).astype(np.float32)
    raw = codec.to_dtype(value, source)
    q = read(plain(source), (6, 10), lambda suffix: raw)
    assert same(fast.decode(q, dtype), spelled(q.decode(), dtype))


@pytest.mark.parametrize("name", ["ct-int4-zeros", "awq-int4", "gptq-int4", "fp8-block", "ct-fp8-channel", "ct-fp8-tensor", "ct-nvfp4", "ct-mxfp4"])
@pytest.mark.parametrize("bf16", [False, True])
def test_ranges(name: str, bf16: bool) -> None:
    encoding = encoding_of(name)
    for kind, columns in itertools.product(KINDS, (95, 96)):
        value = KINDS[kind](np.random.default_rng(4)).astype(np.float32)[:61, :columns]
        bits = fp8.to_bf16(value)
        value = fp8.from_bf16(bits) if bf16 else value
        ours, want = fast.blocks_of(bits if bf16 else value, encoding), blocks_of(value, encoding)
        assert np.array_equal(ours.low, want.low) and np.array_equal(ours.high, want.high) and ours.largest == want.largest, kind


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("name", WRITABLE)
def test_quantizing(name: str, bf16: bool) -> None:
    for kind in KINDS:
        quantized_alike(name, kind, bf16)


def quantized_alike(name: str, kind: str, bf16: bool) -> None:
    rng = np.random.default_rng(6)
    value = np.concatenate([KINDS[kind](rng), KINDS[kind](rng)], 1).astype(np.float32)
    bits = fp8.to_bf16(value)
    value = fp8.from_bf16(bits) if bf16 else value
    encoding = encoding_of(name)
    for rule in ("", *([RULE_OF[name]] if RULE_OF.get(name) else [])):
        q, refused = quantize(value, encoding, rule=rule)
        made = fast.quantize_stored(bits if bf16 else value, encoding, rule=rule)
        assert made.refused == refused == 0
        assert np.array_equal(made.codes, codec.pack(q.codes_RC, encoding.code.packing)), kind
        for ours, want in zip(made.grids, q.grids, strict=True):
            assert np.array_equal(ours.values, want.values)


@pytest.mark.parametrize("name", WRITABLE)
def test_quantizing_of_long_ragged_rows(name: str) -> None:
    rng = np.random.default_rng(9)
    for shape in ((33, 4096 * 2 + 104), (65, 4096 + 8)):
        value = rng.standard_normal(shape).astype(np.float32)
        q, _ = quantize(value, encoding_of(name))
        made = fast.quantize_stored(value, encoding_of(name))
        assert np.array_equal(made.codes, codec.pack(q.codes_RC, q.encoding.code.packing))


@pytest.mark.parametrize("name", [n for n in WRITABLE if "channel" in n])
def test_quantizing_of_rows_that_end_within_a_word(name: str) -> None:
    """Two strips of a row, and a second one that is shorter than the first: what is behind its codes must be zero."""
    value = np.random.default_rng(9).standard_normal((8, 4096 + 11)).astype(np.float32)
    q, _ = quantize(value, encoding_of(name))
    assert np.array_equal(fast.quantize_stored(value, encoding_of(name)).codes, codec.pack(q.codes_RC, q.encoding.code.packing))


@pytest.mark.parametrize("name", [n for n in WRITABLE if "mxfp" in n])
@pytest.mark.parametrize("exponent", [-149, -140, -127, -120, 100, 118, 124])
def test_the_ends_of_the_exponents(name: str, exponent: int) -> None:
    value = np.ldexp(np.random.default_rng(3).uniform(-8, 8, (4, 64)), exponent).astype(np.float32)
    q, refused = quantize(value, encoding_of(name))
    made = fast.quantize_stored(value, encoding_of(name))
    assert made.refused == refused
    assert np.array_equal(made.codes, codec.pack(q.codes_RC, q.encoding.code.packing)) or refused


@pytest.mark.parametrize("name", WRITABLE)
def test_kept_scales(name: str) -> None:
    """Decoding to float32 and quantizing with the stored scales gives every byte back."""
    encoding = encoding_of(name)
    first = fast.quantize_stored(KINDS["wide"](np.random.default_rng(1)).astype(np.float32), encoding)
    kept = {part.field.suffix: part.own for grid in first.grids for part in (grid, *grid.inner)}
    codes = fast.unpack(first.codes, encoding.code.packing, 64 if encoding.code.packing.axis == -2 else 96)
    q = fast.QTensor(codes, encoding, first.grids)
    assert np.array_equal(fast.quantize_stored(fast.decode(q, "F32"), encoding, kept).codes, first.codes)


@pytest.mark.parametrize("name", WRITABLE)
def test_what_is_no_number_is_refused(name: str) -> None:
    for bad in (np.nan, -np.nan, np.inf, -np.inf):
        value = KINDS["gaussian"](np.random.default_rng(1)).astype(np.float32)
        value[1, 1] = bad
        q, refused = quantize(value, encoding_of(name), largest=4.0)
        made = fast.quantize_stored(value, encoding_of(name), largest=4.0)
        assert made.refused == refused == 1
        blocks = fast.blocks_of(value, q.encoding)
        assert np.array_equal(refused_blocks(fast.QTensor(q.codes_RC, q.encoding, made.grids), blocks), refused_blocks(q, blocks))


@pytest.mark.parametrize("element", ["e4m3fn", "e4m3", "e5m2", "e2m1", "e3m2", "e2m3", "int4", "uint4", "uint4-8", "int8"])
def test_codes_of_every_float(element: str) -> None:
    """Every value that differs in its first 16 bits, and around every middle between two codes."""
    some = fp8.from_bf16(np.arange(1 << 16, dtype=np.uint16))
    table = np.unique(codec.table(element)[np.isfinite(codec.table(element))]).astype(np.float64)
    middles = ((table[1:] + table[:-1]) / 2).astype(np.float32)
    beside = [np.nextafter(middles, np.float32(end)) for end in (np.inf, -np.inf)]
    value = np.concatenate([some[np.isfinite(some)], middles, *beside])[None]
    field = encoding_of("fp8-block", block=(1, 1 << 20)).factors[0]
    encoding = Encoding("fp8-block", "block", Field(Role.CODE, (".weight",), element, ("U8",)), (field,))
    kept = {field.suffix: np.ones((1, 1), np.float32)}
    for rule in ("amax", "mx-up") if element == "e2m1" else ("amax",):
        q, _ = quantize(value, encoding, kept, rule=rule)
        assert RULES[rule].signed_zero
        assert np.array_equal(fast.quantize_stored(value, encoding, kept, rule=rule).codes, q.codes_RC)


@pytest.mark.parametrize("block", [(128, 128), (64, 64), (1, 1 << 20), (0, 0)])
@pytest.mark.parametrize("bf16", [False, True])
def test_wide_blocks_of_fp8(block: tuple[int, int], bf16: bool) -> None:
    """By the kernels of FP8 blocks."""
    value = np.random.default_rng(3).standard_normal((130, 300)).astype(np.float32)
    bits = fp8.to_bf16(value)
    value = fp8.from_bf16(bits) if bf16 else value
    encoding = encoding_of("modelopt-fp8") if block == (0, 0) else encoding_of("fp8-block", block=block)
    q, _ = quantize(value, encoding)
    made = fast.quantize_stored(bits if bf16 else value, encoding)
    assert np.array_equal(made.codes, q.codes_RC) and np.array_equal(made.grids[0].values, q.scale.values)
    for part in (q, q.cut(3, 70, 100, 201)):
        for dtype in fast.RESULTS:
            assert same(fast.decode(part, dtype), spelled(part.decode(), dtype))


def test_what_a_kernel_is_given_is_large_enough(stored) -> None:
    encoding = encoding_of("ct-mxfp4")
    fields = stored(encoding, (8, 64))
    q = fast.read(encoding, (8, 64), fields.get)
    for out in (np.empty((8, 63), np.uint16), np.empty((8, 64), np.uint8), np.empty((8, 128), np.uint16)[:, ::2], np.empty((7, 64), np.uint16)):
        with pytest.raises(ValueError, match=r"the result is \[8, 64\] of 2 bytes each"):
            fast.decode(q, "BF16", out)
        with pytest.raises(ValueError, match="the result is"):
            fast.quantize_stored(np.zeros((8, 64), np.float32), encoding, out=np.zeros((8, 31), np.uint8))
    small = fast.QTensor(q.codes_RC, encoding, (fast.Grid(q.grids[0].field, q.grids[0].own[:, :1]),))
    with pytest.raises(ValueError, match=r"needs a grid of \[8, 2\], not \[8, 1\]"):
        fast.decode(small, "BF16")
    with pytest.raises(ValueError, match=r"weight_scale is a grid of \[8, 1\], and the blocks are \[8, 2\]"):
        fast.quantize_stored(np.zeros((8, 64), np.float32), encoding, {".weight_scale": np.ones((8, 1), np.float32)})
