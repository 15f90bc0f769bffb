"""Memory that a kernel borrows must live as long as the kernel: freed memory is overwritten here at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
from weighbridge.encoding import codec, kernels
codes = np.random.default_rng(0).integers(0, 126, (256, 4096), np.uint8)
for transposed in (True, False):
    for mode, wanted in ((kernels.HALVE, codec.halve(codes)), (kernels.COPY, codes)):
        wanted = wanted.T if transposed else wanted
        out, counts = np.zeros(wanted.shape, np.uint8), np.zeros((2, 32), np.int32)
        kernels.move(codes.ctypes.data, 4096, 256, 4096, out.ctypes.data, out.shape[1], transposed, mode, 128, 128, counts.ctypes.data)
        assert np.array_equal(out, wanted), (transposed, mode)
scale = np.full((2, 32), 0.01, np.float32)
bits = np.zeros(codes.shape, np.uint16)
kernels.decode_bf16(codes.ctypes.data, 4096, 256, 4096, scale.ctypes.data, 32, 0, 0, 128, 128, bits.ctypes.data, 4096)
assert np.array_equal(bits, codec.to_bf16(codec.decode(codes, scale, (128, 128))))
"""


@pytest.mark.parametrize("family", ["portable", "vector"])
def test_no_kernel_uses_memory_that_was_freed(family):
    from weighbridge.encoding.kernels import vector_is_possible

    if family == "vector" and not vector_is_possible():
        pytest.skip("this CPU has no AVX2")
    # glibc's checking allocator; where it is missing the loader says so and goes on without it.
    environment = os.environ | {"WEIGHBRIDGE_KERNELS": family, "LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
