"""Moving codes against the codec: copied, halved, doubled, rescaled; straight and transposed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.encoding import codec, kernels

ALL = np.arange(256, dtype=np.uint8)
NEW = {kernels.COPY: ALL, kernels.HALVE: codec.HALVE, kernels.DOUBLE: codec.DOUBLE, kernels.LEGACY: codec.LEGACY}
COUNTED = {kernels.HALVE: codec.halve_is_inexact, kernels.DOUBLE: codec.double_overflows}
UNTOUCHED = -7


def run(family, region, code, mode, transposed, block, ld=(0, 0), shifts=(0, 0), counting=True):
    src = region.of(code, code.shape[1] + ld[0], shifts[0])
    shape = code.shape[::-1] if transposed else code.shape
    dst = region(shape, np.uint8, shape[1] + ld[1], shifts[1])
    counts = region.of(np.full([-(-n // b) for n, b in zip(code.shape, block)], UNTOUCHED, np.int32))
    grid = counts.address if counting else 0
    nans = family("move")(src.address, src.ld, *code.shape, dst.address, dst.ld, int(transposed), mode, *block, grid)
    assert dst.outside_is_untouched() and counts.outside_is_untouched()
    return nans, dst.array, counts.array


def block_sums(flags, block):
    if not flags.size:
        return np.zeros([-(-n // b) for n, b in zip(flags.shape, block)], int)
    starts = [np.arange(0, n, b) for n, b in zip(flags.shape, block)]
    return np.add.reduceat(np.add.reduceat(flags.astype(int), starts[0], axis=0), starts[1], axis=1)


def check(family, region, code, mode, transposed, block, **where):
    nans, got, counts = run(family, region, code, mode, transposed, block, **where)
    want = NEW[mode][code]
    assert np.array_equal(got, want.T if transposed else want)
    assert (nans != 0) == bool(mode != kernels.COPY and ((code & 0x7F) == 0x7F).any())
    if mode in COUNTED and where.get("counting", True):
        assert np.array_equal(counts, block_sums(COUNTED[mode](code), block))
    else:
        assert (counts == UNTOUCHED).all()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("mode", NEW)
def test_every_code_at_every_place_of_a_tile(family, region, mode, transposed):
    rng = np.random.default_rng(5)
    code = np.concatenate([rng.permutation(ALL) for _ in range(256 * 2)]).reshape(256, 512)
    check(family, region, code, mode, transposed, (128, 128))
    check(family, region, np.where((code & 0x7F) == 0x7F, 0, code), mode, transposed, (128, 128))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("mode", NEW)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_region(family, region, mode, transposed, data):

    def draw(low, high):
        return data.draw(st.integers(low, high))

    shape, block = (draw(0, 150), draw(0, 150)), (draw(1, 160), draw(1, 160))
    rng = np.random.default_rng(draw(0, 2**32))
    code = rng.integers(0, 256 if data.draw(st.booleans()) else 127, shape, dtype=np.uint8)
    where = {"ld": (draw(0, 70), draw(0, 70)), "shifts": (draw(0, 65), draw(0, 65))}
    check(family, region, code, mode, transposed, block, counting=data.draw(st.booleans()), **where)


@pytest.mark.parametrize("mode", NEW)
@pytest.mark.parametrize("shift", [0, 16, 32, 48])  # one of them puts the rows on whole lines of memory
def test_long_rows_transposed(family, region, mode, shift):
    rng = np.random.default_rng(7)
    code = rng.integers(0, 127, (150, 3300), dtype=np.uint8)
    code[rng.integers(150, size=3), rng.integers(3300, size=3)] = 0xFF
    for block in ((128, 128), (100, 90)):
        check(family, region, code, mode, True, block, ld=(28, 42), shifts=(shift, shift))


@pytest.mark.parametrize("mode", [kernels.HALVE, kernels.DOUBLE])
def test_counts_do_not_overflow_a_lane(family, region, mode):
    code = np.full((512, 512), 0x01 if mode == kernels.HALVE else 0x7E, np.uint8)
    for transposed in (False, True):
        check(family, region, code, mode, transposed, (512, 512))
        check(family, region, code, mode, transposed, (1, 512))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("shape", "shift"), [((4224, 4096), 0), ((4224, 4096), 8), ((4200, 4100), 0)])
def test_a_region_that_is_large_enough_to_be_streamed(family, region, transposed, shape, shift):
    code = np.random.default_rng(9).integers(0, 127, shape, dtype=np.uint8)
    check(family, region, code, kernels.HALVE, transposed, (128, 128), shifts=(0, shift))


@pytest.mark.parametrize("transposed", [False, True])
def test_one_nan_code_anywhere_is_seen(family, region, transposed):
    rng = np.random.default_rng(6)
    for _ in range(30):
        code = np.full((70, 130), 0x38, np.uint8)
        code[rng.integers(70), rng.integers(130)] = rng.choice([0x7F, 0xFF])
        for mode in NEW:
            check(family, region, code, mode, transposed, (128, 128))
