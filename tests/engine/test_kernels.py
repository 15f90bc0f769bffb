"""The kernels against the specification: every way to store a matrix, every code, scales and vectors at the ends of float32."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from weighbridge.engine.rectangle import Rectangle
from weighbridge.engine import kernels
from weighbridge.engine.linear import FEW, FEW_TURNED, Linear

SHAPES = [(1, 1), (3, 31), (70, 130), (128, 128), (300, 515), (257, 1000)]
BLOCKS = [(128, 128), (1, 128), (1, 4096), (4096, 4096), (128, 1), (64, 48)]
EXACT = 1e-6  # of sum |w| |x|


@pytest.mark.parametrize("turned", [False, True], ids=["rows", "turned"])
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_fp8_with_every_grid(family, matrix, error_of, block, turned) -> None:
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        for origin in ((0, 0), (5, 77)):
            linear = Linear([(0, 0, matrix(rng, shape, block=block, turned=turned, origin=origin))], shape)
            for vectors in (1, FEW_TURNED - 1):
                x = rng.standard_normal((vectors, shape[1])).astype(np.float32)
                assert error_of(linear, x, linear(x)) < EXACT, (shape, origin, vectors)


@pytest.mark.parametrize("turned", [False, True], ids=["rows", "turned"])
@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_plain_values(family, matrix, error_of, dtype, turned) -> None:
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        linear = Linear([(0, 0, matrix(rng, shape, dtype, turned=turned))], shape)
        for vectors in (1, 4, FEW_TURNED, FEW):
            x = rng.standard_normal((vectors, shape[1])).astype(np.float32)
            assert error_of(linear, x, linear(x)) < EXACT, (shape, vectors)


@pytest.mark.parametrize("reads", ["e4m3fn", "e4m3"])
@pytest.mark.parametrize("turned", [False, True], ids=["rows", "turned"])
@pytest.mark.parametrize("vectors", [1, FEW_TURNED - 1, FEW, 40])
def test_every_code(family, matrix, reads, turned, vectors) -> None:
    """Row n holds code n once, among ordinary ones: what it means shows in output n alone."""
    rng = np.random.default_rng(2)
    q = matrix(rng, (256, 300), turned=turned)
    for code in range(256):
        q.codes_RC[code, (37 * code) % 300] = code
    linear = Linear([(0, 0, q)], (256, 300), reads=reads)
    x = rng.uniform(0.5, 1, (vectors, 300)).astype(np.float32)
    y, exact = linear(x), linear.reference(x)
    special = ~np.isfinite(exact)
    assert special[0].sum() == (2 if reads == "e4m3fn" else 16)
    assert np.array_equal(y[special], exact[special], equal_nan=True)
    np.testing.assert_allclose(y[~special], exact[~special], rtol=0, atol=1e-5 * np.abs(exact[~special]).max())


@pytest.mark.parametrize("turned", [False, True], ids=["rows", "turned"])
@pytest.mark.parametrize("scale", [2.0**-149, 2.0**-100, 2.0**-59, 2.0**-39, 2.0**59, 2.0**100, 0.0, -0.001, np.nan, np.inf])
def test_unusual_scales(family, matrix, scale, turned) -> None:
    rng = np.random.default_rng(3)
    q = matrix(rng, (200, 384), turned=turned)
    q.scale_RbCb[0, 1] = scale
    linear = Linear([(0, 0, q)], (200, 384))
    x = rng.standard_normal((2, 384)).astype(np.float32)
    y, exact = linear(x), linear.reference(x)
    wide = linear.rows(np.arange(200)).astype(np.float64)
    with np.errstate(invalid="ignore"):
        bound = 1e-5 * (np.abs(x) @ np.abs(wide).T)
    finite = np.isfinite(exact)
    assert np.array_equal(np.isnan(y), np.isnan(exact)) and np.array_equal(y[~finite], exact[~finite], equal_nan=True)
    assert (np.abs(y[finite].astype(np.float64) - exact[finite]) <= bound[finite]).all()


@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e-30, 1e20, 1e30])
def test_unusual_vectors(family, matrix, error_of, size) -> None:
    rng = np.random.default_rng(4)
    linear = Linear([(0, 0, matrix(rng, (64, 300)))], (64, 300))
    x = (rng.uniform(0.5, 2, (3, 300)) * size).astype(np.float32)
    # Where results themselves are subnormal, the last bit of float32 is what can be had.
    assert np.abs(linear(x) - linear.reference(x)).max() <= max(2.0**-148, 1e-5 * np.abs(linear.reference(x)).max())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite(family, matrix, value) -> None:
    rng = np.random.default_rng(5)
    for turned in (False, True):
        q = matrix(rng, (40, 256), turned=turned)
        q.codes_RC[:3, 7] = 0  # 0 * infinity
        q.codes_RC[3:, 7] |= 1
        linear = Linear([(0, 0, q)], (40, 256))
        x = rng.standard_normal((2, 256)).astype(np.float32)
        x[1, 7] = value
        y, exact = linear(x), linear.reference(x)
        assert np.isfinite(y[0]).all() and np.array_equal(y[1], exact[1], equal_nan=True)


def test_zero_vectors_give_zero(family, matrix) -> None:
    linear = Linear([(0, 0, matrix(np.random.default_rng(6), (40, 256)))], (40, 256))
    assert not linear(np.zeros((2, 256), np.float32)).any()


def test_families_agree(matrix, choose) -> None:
    if not kernels.vector_is_possible():
        pytest.skip("this CPU has no AVX2")
    rng = np.random.default_rng(7)
    for turned in (False, True):
        linear = Linear([(0, 0, matrix(rng, (300, 515), turned=turned))], (300, 515))
        x = rng.standard_normal((3, 515)).astype(np.float32)
        results = []
        for name in kernels.FAMILIES:
            choose(name)
            results.append(linear(x))
        assert np.abs(results[0] - results[1]).max() <= 1e-5 * np.abs(results[0]).max()


@pytest.mark.parametrize("vectors", [1, FEW_TURNED - 1, FEW, 40])
def test_threads_change_nothing(family, matrix, monkeypatch, vectors) -> None:
    rng = np.random.default_rng(8)
    results = []
    parts = [(0, 0, matrix(rng, (1500, 640))), (0, 640, matrix(rng, (900, 360), turned=True)), (900, 640, matrix(rng, (600, 360), "BF16"))]
    linear = Linear(parts, (1500, 1000))
    x = rng.standard_normal((vectors, 1000)).astype(np.float32)
    for count in ("1", "2", "5"):
        monkeypatch.setenv("WEIGHBRIDGE_THREADS", count)
        results += [linear(x) for _ in range(3)]
    assert all(np.array_equal(result, results[0]) for result in results)


def test_one_vector_has_the_result_that_it_has_among_others(family, matrix, error_of) -> None:
    rng = np.random.default_rng(9)
    linear = Linear([(0, 0, matrix(rng, (257, 1000)))], (257, 1000))
    x = rng.standard_normal((40, 1000)).astype(np.float32)
    together = linear(x)
    assert error_of(linear, x, together) < EXACT
    alone = np.concatenate([linear(x[t : t + 1]) for t in range(40)])
    size = np.abs(x) @ np.abs(linear.rows(np.arange(257))).T
    assert (np.abs(alone - together) <= 1e-5 * size).all()


def test_nothing_is_written_beside_the_result(family, matrix) -> None:
    rng = np.random.default_rng(10)
    whole = np.full((6, 320), 7, np.float32)
    for turned in (False, True):
        linear = Linear([(0, 0, matrix(rng, (300, 200), turned=turned))], (300, 200))
        linear(rng.standard_normal((4, 200)).astype(np.float32), out=whole[1:5, 10:310])
        assert (whole[:, :10] == 7).all() and (whole[:, 310:] == 7).all() and (whole[[0, 5]] == 7).all()


def test_codes_at_any_address(family, matrix) -> None:
    rng = np.random.default_rng(11)
    q = matrix(rng, (70, 256))
    raw = np.zeros(70 * 300 + 64, np.uint8)
    x = rng.standard_normal((1, 256)).astype(np.float32)
    wanted = Linear([(0, 0, q)], (70, 256))(x)
    for shift in (1, 3, 31):
        codes = raw[shift : shift + 70 * 300].reshape(70, 300)[:, :256]
        codes[:] = q.codes_RC
        moved = Rectangle(codes, q.scale_RbCb, q.dtype, q.block)
        assert np.array_equal(Linear([(0, 0, moved)], (70, 256))(x), wanted)


PROGRAM = """
import numpy as np
from weighbridge.engine.rectangle import Rectangle
from weighbridge.engine.linear import Linear
rng = np.random.default_rng(0)
for turned in (False, True):
    codes = rng.integers(0, 126, (300, 640)).astype(np.uint8)
    codes = np.ascontiguousarray(codes.T).T if turned else codes
    linear = Linear([(0, 0, Rectangle(codes, np.full((3, 5), 0.01, np.float32), "F8_E4M3", (128, 128)))], (300, 640))
    for vectors in (1, 5, 40):
        x = rng.standard_normal((vectors, 640)).astype(np.float32)
        for _ in range(5):
            assert np.abs(linear(x) - linear.reference(x)).max() < 1e-4 * np.abs(linear.reference(x)).max(), (turned, vectors)
"""


def test_no_kernel_uses_memory_that_was_freed(family) -> None:
    # glibc's checking allocator overwrites what is freed; where it is missing the loader says so and goes on without it.
    environment = os.environ | {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
