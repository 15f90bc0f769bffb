"""Matrices as they are stored, and the kernel family that multiplies them."""

import numpy as np
import pytest

from weighbridge.encoding import codec
from weighbridge.engine import kernels
from weighbridge.engine.rectangle import Rectangle


@pytest.fixture(params=kernels.FAMILIES)
def family(request, monkeypatch):
    """Each kernel family in turn, for all that the test does."""
    if request.param == "vector" and not kernels.vector_is_possible():
        pytest.skip("this CPU has no AVX2")
    use_family(monkeypatch, request.param)
    yield request.param
    kernels.load.cache_clear()


def use_family(monkeypatch, name):
    """A process asks once which family it has."""
    monkeypatch.setenv("WEIGHBRIDGE_KERNELS", name)
    kernels.load.cache_clear()


@pytest.fixture
def choose(monkeypatch):
    """A function that gives this test another family from here on."""
    yield lambda name: use_family(monkeypatch, name)
    kernels.load.cache_clear()


def make_matrix(rng, shape, dtype="F8_E4M3", block=(128, 128), turned=False, origin=(0, 0)):
    """A random Rectangle [rows, columns] in logical axes; FP8 codes are plain numbers. `turned`: stored the other way round."""
    rows, columns = shape
    if dtype == "F8_E4M3":
        codes = rng.integers(0, 0x78, shape).astype(np.uint8) | (rng.integers(0, 2, shape) << 7).astype(np.uint8)
        grid = (-(-(origin[0] + rows) // block[0]), -(-(origin[1] + columns) // block[1]))
        scale = rng.uniform(1e-4, 1e-3, grid).astype(np.float32)
    else:
        block, scale, codes = None, None, rng.standard_normal(shape).astype(np.float32)
        codes = codec.to_bf16(codes) if dtype == "BF16" else codes
    if turned:
        codes = np.ascontiguousarray(codes.T).T
        scale = None if scale is None else np.ascontiguousarray(scale.T).T
    return Rectangle(codes, scale, dtype, block, origin if scale is not None else (0, 0))


@pytest.fixture(scope="session")
def matrix():
    return make_matrix


def worst_error(linear, x, y):
    """Largest |y - exact| / (sum of |w| |x|) of a result."""
    weight = linear.rows(np.arange(linear.shape[0])).astype(np.float64)
    exact, size = x.astype(np.float64) @ weight.T, np.abs(x).astype(np.float64) @ np.abs(weight.T)
    return float(np.max(np.abs(y - exact) / np.maximum(size, 1e-300)))


@pytest.fixture(scope="session")
def error_of():
    return worst_error
