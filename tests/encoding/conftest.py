"""Kernels by family, compiled from the source as it is now."""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from weighbridge.encoding import kernels


def _cache_of_this_source() -> Path:
    """numba's cache does not see a change in a file that the kernel's file imports: one folder per source."""
    digest = hashlib.sha256()
    for file in sorted(Path(kernels.__file__).parent.parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return Path(tempfile.gettempdir()) / f"weighbridge-test-kernels-{os.getuid()}-{digest.hexdigest()[:16]}"


def pytest_configure():
    from numba import config

    config.CACHE_DIR = str(_cache_of_this_source())


@pytest.fixture(params=kernels.FAMILIES, scope="session")
def family(request):
    """Each kernel family in turn: a function from a kernel's name to the kernel."""
    if request.param == "vector" and not kernels.vector_is_possible():
        pytest.skip("this CPU has no AVX2")
    return lambda name: kernels.load(name, request.param)


class Region:
    """A 2-D array with chosen row stride and misalignment inside a guarded buffer."""

    def __init__(self, shape, dtype, ld=None, shift=0, fill=0xA5):
        dtype = np.dtype(dtype)
        rows, columns = shape
        self.ld, self.shift = ld or columns, shift
        size = rows * self.ld * dtype.itemsize
        self._bytes = np.full(size + shift + 64, fill, np.uint8)
        self._whole = self._bytes[shift : shift + size].view(dtype).reshape(rows, self.ld)
        self.array = self._whole[:, :columns]
        self.address = self._bytes.ctypes.data + shift
        self._before, self._fill = None, fill

    @classmethod
    def of(cls, array, ld=None, shift=0):
        region = cls(array.shape, array.dtype, ld, shift)
        region.array[...] = array
        return region

    def outside_is_untouched(self) -> bool:
        """Nothing was written before, after or between the rows."""
        columns = self.array.shape[1]
        gaps = self._whole[:, columns:].copy().view(np.uint8)
        size = self._whole.nbytes
        edges = np.concatenate([self._bytes[: self.shift], self._bytes[self.shift + size :]])
        return bool((gaps == self._fill).all() and (edges == self._fill).all())


@pytest.fixture(scope="session")
def region():
    return Region
