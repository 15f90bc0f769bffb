"""Kernels by family, and regions of memory to use them on."""

import numpy as np
import pytest

from weighbridge.encoding import kernels


@pytest.fixture(params=kernels.FAMILIES, scope="session")
def family(request):
    """Each kernel family in turn: a function from a kernel's name to the kernel."""
    if request.param == "vector" and not kernels.vector_is_possible():
        pytest.skip("this CPU has no AVX2")
    return lambda name: kernels.load(name, request.param)


class Region:
    """A 2-D array with chosen row stride, `shift` bytes after a cache line begins, inside a guarded buffer."""

    def __init__(self, shape, dtype, ld=None, shift=0, fill=0xA5):
        dtype = np.dtype(dtype)
        rows, columns = shape
        self.ld, self._fill = ld or columns, fill
        size = rows * self.ld * dtype.itemsize
        self._bytes = np.full(size + shift + 192, fill, np.uint8)
        start = -self._bytes.ctypes.data % 64 + shift
        self._whole = self._bytes[start : start + size].view(dtype).reshape(rows, self.ld)
        self._edges = self._bytes[:start], self._bytes[start + size :]
        self.array = self._whole[:, :columns]
        self.address = self._bytes.ctypes.data + start

    @classmethod
    def of(cls, array, ld=None, shift=0):
        region = cls(array.shape, array.dtype, ld, shift)
        region.array[...] = array
        return region

    def outside_is_untouched(self) -> bool:
        """Nothing was written before, after or between the rows."""
        gaps = self._whole[:, self.array.shape[1] :].copy().view(np.uint8)
        return all((part == self._fill).all() for part in (gaps, *self._edges))


@pytest.fixture(scope="session")
def region():
    return Region
