"""The decoding kernels against the codec, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.encoding import codec

ALL = np.arange(256, dtype=np.uint8)
POWERS = {"usual": (-14, -6), "wide": (-40, 7), "small": (-130, -118), "subnormal": (-149, -100), "huge": (90, 128)}
OUTPUT = {"decode_bf16": np.uint16, "decode_f32": np.float32}


def random_scale(rng, shape, powers):
    with np.errstate(over="ignore"):
        scale = np.exp2(rng.uniform(*powers, shape)).astype(np.float32)
    return np.clip(scale, codec.SMALLEST_F32, np.finfo(np.float32).max)


def run(family, region, name, code, scale, origin, block, ld=None, shifts=(0, 0)):
    src = region.of(code, ld and code.shape[1] + ld[0], shifts[0])
    dst = region(code.shape, OUTPUT[name], ld and code.shape[1] + ld[1], shifts[1])
    grid = region.of(scale, scale.shape[1] + 1)
    nans = family(name)(src.address, src.ld, *code.shape, grid.address, grid.ld, *origin, *block, dst.address, dst.ld)
    assert dst.outside_is_untouched()
    assert (src.array == code).all()
    return nans, dst.array


def assert_same_bits(name, got, code, scale, block, origin=(0, 0)):
    want = codec.decode(code, scale, block, origin=origin)
    want = codec.to_bf16(want) if name == "decode_bf16" else want.view(np.uint32)
    bits = np.ascontiguousarray(got).view(want.dtype)
    assert np.array_equal(bits, want), np.argwhere(bits != want)[:5]


@pytest.mark.parametrize("name", OUTPUT)
@pytest.mark.parametrize("powers", POWERS.values(), ids=POWERS)
def test_every_code_under_many_scales(family, region, name, powers):
    rng = np.random.default_rng(3)
    code = np.concatenate([rng.permutation(ALL) for _ in range(128 * 6)]).reshape(128, -1)
    code = np.concatenate([code, np.where((code & 0x7F) == 0x7F, 0, code)])
    scale = random_scale(rng, (2, 12), powers)
    nans, got = run(family, region, name, code, scale, (0, 0), (128, 128))
    assert nans > 0
    assert_same_bits(name, got, code, scale, (128, 128))


@pytest.mark.parametrize("name", OUTPUT)
def test_a_scale_at_each_power_of_two(family, region, name):
    scale = np.ldexp(np.float32(1.0), np.arange(-149, 128)).astype(np.float32)[:, None]
    scale = np.concatenate([scale, np.nextafter(scale, np.float32(0))[1:], np.nextafter(scale, np.float32(np.inf))])
    code = np.repeat(np.where((ALL & 0x7F) == 0x7F, 0, ALL)[None], len(scale), axis=0)
    nans, got = run(family, region, name, code, scale, (0, 0), (1, 256))
    assert nans == 0
    assert_same_bits(name, got, code, scale, (1, 256))


@pytest.mark.parametrize("name", OUTPUT)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_region(family, region, name, data):

    def draw(low, high):
        return data.draw(st.integers(low, high))

    shape, block, origin = (draw(0, 40), draw(0, 300)), (draw(1, 50), draw(1, 150)), (draw(0, 60), draw(0, 200))
    rng = np.random.default_rng(draw(0, 2**32))
    code = rng.integers(0, 256 if data.draw(st.booleans()) else 127, shape, dtype=np.uint8)
    grid = [(o + n) // b + 1 for o, n, b in zip(origin, shape, block)]
    scale = random_scale(rng, grid, data.draw(st.sampled_from(list(POWERS.values()))))
    ld, shifts = (draw(0, 70), draw(0, 70)), (draw(0, 65), draw(0, 65))
    nans, got = run(family, region, name, code, scale, origin, block, ld, shifts)
    assert_same_bits(name, got, code, scale, block, origin)
    assert (nans > 0) == ((code & 0x7F) == 0x7F).any()


@pytest.mark.parametrize("name", OUTPUT)
@pytest.mark.parametrize(("columns", "shift"), [(8192, 0), (8150, 0), (8192, 1)])
def test_a_region_that_is_large_enough_to_be_streamed(family, region, name, columns, shift):
    rng = np.random.default_rng(8)
    code = rng.integers(0, 127, (1100, columns), dtype=np.uint8)
    code[700, columns // 2] = 0x7F
    scale = random_scale(rng, (9, 64), POWERS["usual"])
    nans, got = run(family, region, name, code, scale, (0, 0), (128, 128), shifts=(0, shift))
    assert nans
    assert_same_bits(name, got, code, scale, (128, 128))


@pytest.mark.parametrize("name", OUTPUT)
@pytest.mark.parametrize("code", [0x7F, 0xFF])
def test_one_nan_code_anywhere_is_seen(family, region, name, code):
    scale = np.full((1, 3), 1e-3, np.float32)
    for place in range(0, 300, 7):
        codes = np.full((1, 300), 0x38, np.uint8)
        codes[0, place] = code
        nans, got = run(family, region, name, codes, scale, (0, 0), (128, 128))
        assert nans
        assert_same_bits(name, got, codes, scale, (128, 128))


def test_a_scale_that_is_nan_never_looks_like_a_number(family, region):
    scale = np.array([[0x7FFFFFFF]], np.uint32).view(np.float32)
    code = np.full((1, 128), 0x38, np.uint8)
    _, got = run(family, region, "decode_bf16", code, scale, (0, 0), (128, 128))
    assert np.isnan(codec.from_bf16(got)).all()
