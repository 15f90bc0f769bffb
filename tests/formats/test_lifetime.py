"""Memory that a kernel borrows must live as long as the kernel: freed memory is overwritten here at once, and other threads ask for more."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from tests.formats.conftest import encoding_of, random_fields
from tests.formats.test_fast import SHAPES, same, spelled
from tests.formats.test_quantize import WRITABLE
from weighbridge.formats import codec, fast
from weighbridge.formats.quantize import quantize
from weighbridge.formats.schemes import SCHEMES
from weighbridge.formats.stored import read

def quantizing(name):
    for columns in (96, 4096 + 96):
        value = np.random.default_rng(9).standard_normal((8, columns)).astype(np.float32)
        q, refused = quantize(value, encoding_of(name))
        made = fast.quantize_stored(value, encoding_of(name))
        assert refused == made.refused == 0 and np.array_equal(made.codes, codec.pack(q.codes_RC, q.encoding.code.packing)), name

def decoding(name):
    for dtype, shapes in SHAPES.items():
        encoding = encoding_of(name)
        fields = random_fields(encoding, shapes[0])
        want = spelled(read(encoding, shapes[0], fields.get).decode(), dtype)
        assert same(fast.decode_stored(encoding, shapes[0], fields.get, dtype), want), (name, dtype)

with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda job: job[0](job[1]), [*((quantizing, name) for name in WRITABLE), *((decoding, name) for name in SCHEMES)]))
"""


@pytest.mark.parametrize("family", ["portable", "vector"])
def test_no_kernel_uses_memory_that_was_freed(family: str) -> None:
    from weighbridge.encoding.kernels import vector_is_possible

    if family == "vector" and not vector_is_possible():
        pytest.skip("this CPU has no AVX2")
    # glibc's checking allocator; where it is missing the loader says so and goes on without it.
    environment = os.environ | {"WEIGHBRIDGE_KERNELS": family, "LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
