"""Comparing regions and bytes, against numpy in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.encoding import codec, kernels

NOTHING = [0.0, 0.0, 0.0, 0.0, 0.0, -1.0]


def run(family, region, a, b, rel, absolute=0.0, grid=None, origin=(0, 0), block=(128, 128), ld=(0, 0), out=None):
    left = region.of(a, a.shape[1] + ld[0], 1)
    right = region.of(b, a.shape[1] + ld[1], 2)
    scale = None if grid is None else region.of(grid, grid.shape[1] + 2)
    out = np.array(NOTHING) if out is None else out
    address, grid_ld = (scale.address, scale.ld) if scale else (0, 0)
    family("compare_f32")(
        left.address, left.ld, right.address, right.ld, *a.shape, address, grid_ld, *origin, *block,
        rel, absolute, out.ctypes.data,
    )  # fmt: skip
    return out


def expected(a, b, rel, absolute=0.0, grid=None, origin=(0, 0), block=(128, 128)):
    bound = 0.0 if grid is None else absolute * codec.expand(grid, a.shape, block, origin).astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    x, y = (np.where(finite, v, 0).astype(np.float64) for v in (a, b))
    size, difference = np.abs(x), np.abs(x - y)
    equal = (a == b) | (a.view(np.uint32) == b.view(np.uint32))
    other_kind = ~finite & ~equal & ~(np.isnan(a) & np.isnan(b))
    violation = (finite & (difference > np.maximum(rel * size, bound))) | other_kind
    with np.errstate(all="ignore"):
        worst = np.max(np.where(size > 0, difference / size, 0), initial=0)
    first = np.flatnonzero(violation)[0] if violation.any() else -1
    return [(size**2).sum(), (difference**2).sum(), worst, equal.sum(), violation.sum(), first]


def check(family, region, a, b, rel, **rest):
    got = run(family, region, a, b, rel, **rest)
    rest.pop("ld", None)
    want = expected(a, b, rel, **rest)
    assert got[:3] == pytest.approx(want[:3], rel=1e-12)
    assert got[3:].tolist() == want[3:]


def test_equal_regions(family, region):
    a = np.random.default_rng(1).standard_normal((50, 333)).astype(np.float32)
    out = run(family, region, a, a.copy(), 0.0)
    assert out[1:].tolist() == [0.0, 0.0, a.size, 0.0, -1.0]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_pair(family, region, data):

    def draw(low, high):
        return data.draw(st.integers(low, high))

    shape, block, origin = (draw(1, 20), draw(1, 300)), (draw(1, 30), draw(1, 150)), (draw(0, 20), draw(0, 90))
    rng = np.random.default_rng(draw(0, 2**32))
    a = rng.standard_normal(shape).astype(np.float32)
    changed = rng.random(shape) < data.draw(st.sampled_from([0, 0.01, 1]))
    b = np.where(changed, a * (1 + rng.standard_normal(shape) / 500), a).astype(np.float32)
    specials = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3e38], np.float32)
    for v in (a, b) if data.draw(st.booleans()) else ():
        some = rng.random(shape) < 0.02
        v[some] = rng.choice(specials, some.sum())
    grid = None
    if data.draw(st.booleans()):
        blocks = [(o + n) // k + 1 for o, n, k in zip(origin, shape, block)]
        grid = np.exp2(rng.uniform(-8, 0, blocks)).astype(np.float32)
    ld = (draw(0, 9), draw(0, 9))
    check(family, region, a, b, 0.002, absolute=0.01, grid=grid, origin=origin, block=block, ld=ld)


@pytest.mark.parametrize(("a", "b", "violates"), [
    (np.nan, np.nan, 0), (np.nan, 1, 1), (1, np.nan, 1), (np.inf, np.inf, 0), (np.inf, -np.inf, 1),
    (np.inf, 3e38, 1), (1, np.inf, 1), (0.0, -0.0, 0), (0.0, 1e-45, 1), (1.0, 1.001, 0), (1.0, 1.01, 1),
])  # fmt: skip
def test_which_pairs_violate(family, region, a, b, violates):
    for place in (0, 7, 100):
        left, right = np.ones((1, 133), np.float32), np.ones((1, 133), np.float32)
        left[0, place], right[0, place] = a, b
        out = run(family, region, left, right, 0.002)
        assert out[4] == violates
        assert out[5] == (place if violates else -1)
        assert np.isfinite(out).all()


def test_results_add_up_and_the_first_violation_stays(family, region):
    rng = np.random.default_rng(2)
    a = rng.standard_normal((2, 100)).astype(np.float32)
    b = a * np.float32(1.01)
    out = np.array(NOTHING)
    for _ in range(2):
        run(family, region, a, b, 0.001, out=out)
    assert out[4] == 400 and out[5] == 0 and out[3] == 0
    assert out[0] == pytest.approx(2 * (a.astype(np.float64) ** 2).sum())


def test_sums_do_not_depend_on_the_stride_or_the_address(family, region):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((2, 31, 517)).astype(np.float32)
    first = run(family, region, a, b, 0.1)
    assert (run(family, region, a, b, 0.1, ld=(13, 5)) == first).all()


def test_all_families_give_the_same_sums():
    if not kernels.vector_is_possible():
        pytest.skip("this CPU has no AVX2")
    rng = np.random.default_rng(4)
    a = rng.standard_normal((40, 1000)).astype(np.float32)
    b = (a * (1 + rng.standard_normal(a.shape) / 500)).astype(np.float32)
    grid = np.exp2(rng.uniform(-8, 0, (2, 8))).astype(np.float32)
    outs = []
    for name in kernels.FAMILIES:
        out = np.array(NOTHING)
        where = (grid.ctypes.data, 8, 3, 5, 128, 128, 0.002, 0.01, out.ctypes.data)
        kernels.load("compare_f32", name)(a.ctypes.data, 1000, b.ctypes.data, 1000, *a.shape, *where)
        outs.append(out)
    assert outs[0][4] > 0 and (outs[0] == outs[1]).all()


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 4095, 4096, 4097, 20000])
def test_same_bytes(n):
    a = np.random.default_rng(n).integers(0, 256, n + 1, dtype=np.uint8)
    b = a.copy()
    assert kernels.same_bytes(a.ctypes.data + 1, b.ctypes.data + 1, n) == -1
    for place in sorted({0, n // 2, n - 1} if n else ()):
        b[place + 1] ^= 0x10
        assert kernels.same_bytes(a.ctypes.data + 1, b.ctypes.data + 1, n) == place
        b[place + 1] ^= 0x10
