"""The quantizing kernels against the codec: codes and scales bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.encoding import codec

SOURCES = {"quantize_bf16": codec.to_bf16, "quantize_f32": lambda value: value}


def gaussian(rng, shape):
    return rng.standard_normal(shape)


KINDS = {
    "gaussian": gaussian,
    "wide": lambda rng, shape: gaussian(rng, shape) * np.exp2(rng.uniform(-30, 30, shape)),
    "tiny": lambda rng, shape: np.ldexp(gaussian(rng, shape), -120),
    "subnormal": lambda rng, shape: np.ldexp(gaussian(rng, shape), -142),
    "smallest": lambda rng, shape: np.ldexp(rng.integers(-3, 4, shape).astype(float), -149),
    "huge": lambda rng, shape: np.ldexp(np.clip(gaussian(rng, shape), -2, 2), 126),
    "sparse": lambda rng, shape: gaussian(rng, shape) * (rng.random(shape) < 0.05),
    "on the grid": lambda rng, shape: codec.decode_table("e4m3fn")[rng.integers(0, 127, shape)] * 2.0**-9,
    "ties": lambda rng, shape: rng.integers(-896, 897, shape) * 2.0**-10,
    "zeros": lambda rng, shape: np.zeros(shape) * np.sign(gaussian(rng, shape)),
}


def run(family, region, name, value, block, fmax, ld=(0, 0), shifts=(0, 0)):
    src = region.of(SOURCES[name](value), value.shape[1] + ld[0], shifts[0])
    dst = region(value.shape, np.uint8, value.shape[1] + ld[1], shifts[1])
    grid = [-(-n // b) for n, b in zip(value.shape, block)]
    scale = region(grid, np.float32, grid[1] + 3)
    refused = family(name)(
        src.address, src.ld, *value.shape, *block, fmax, dst.address, dst.ld, scale.address, scale.ld
    )
    assert dst.outside_is_untouched() and scale.outside_is_untouched()
    return refused, dst.array, scale.array


def check(family, region, name, value, block, fmax, **where):
    value = np.asarray(value, np.float32)
    if name == "quantize_bf16":
        value = codec.from_bf16(codec.to_bf16(value))
    refused, code, scale = run(family, region, name, value, block, fmax, **where)
    want_code, want_scale = codec.quantize(value, block, fmax)
    assert np.array_equal(scale, want_scale, equal_nan=True)
    assert np.array_equal(code, want_code), np.argwhere(code != want_code)[:5]
    assert (refused != 0) == np.isnan(want_scale).any()


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("fmax", [448.0, 240.0])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_every_kind(family, region, name, kind, fmax):
    rng = np.random.default_rng(11)
    for shape, block in (((256, 384), (128, 128)), ((19, 700), (1, 700)), ((70, 331), (64, 100))):
        check(family, region, name, KINDS[kind](rng, shape), block, fmax)


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_region(family, region, name, data):

    def draw(low, high):
        return data.draw(st.integers(low, high))

    shape, block = (draw(1, 60), draw(1, 300)), (draw(1, 80), draw(1, 320))
    rng = np.random.default_rng(draw(0, 2**32))
    value = KINDS[data.draw(st.sampled_from(sorted(KINDS)))](rng, shape)
    where = {"ld": (draw(0, 70), draw(0, 70)), "shifts": (draw(0, 65), draw(0, 65))}
    check(family, region, name, value, block, data.draw(st.sampled_from([448.0, 240.0])), **where)


def test_every_bf16_value_by_many_scales(family, region):
    """Quotients next to every boundary between codes, for a set of divisors."""
    rng = np.random.default_rng(12)
    bits = np.arange(65536, dtype=np.uint32) << 16
    value = bits.view(np.float32)
    for amax in np.concatenate([np.exp2(rng.uniform(-60, 60, 20)), [1.0, 448.0, 240.0, 3.5]]):
        amax = codec.from_bf16(codec.to_bf16(np.array([amax], np.float32)))[0]
        inside = value[np.abs(value) <= amax]
        check(family, region, "quantize_bf16", np.append(inside, amax)[None], (1, len(inside) + 1), 448.0)


@pytest.mark.parametrize("fmax", [448.0, 240.0])
def test_float32_quotients_beside_every_boundary(family, region, fmax):
    """Where an approximate quotient would round to the other side."""
    rng = np.random.default_rng(13)
    table = codec.decode_table("e4m3fn")[:127].astype(np.float64)
    middle = (table[1:] + table[:-1]) / 2
    for scale in np.exp2(rng.uniform(-20, 20, 40)).astype(np.float32):
        near = (middle[middle < fmax] * float(scale)).astype(np.float32)
        steps = near.view(np.int32)[:, None] + np.arange(-6, 7, dtype=np.int32)
        value = np.append(steps.astype(np.int32).view(np.float32).ravel(), np.float32(fmax) * scale)
        check(family, region, "quantize_f32", value[None], (1, value.size), fmax)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_block_that_is_not_finite_is_refused(family, region, name, bad):
    rng = np.random.default_rng(14)
    for place in [(0, 0), (127, 127), (60, 200), (129, 299)]:
        value = gaussian(rng, (130, 300))
        value[place] = bad
        check(family, region, name, value, (128, 128), 448.0)
