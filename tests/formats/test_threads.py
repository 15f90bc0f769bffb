"""Kernels that work at the same time work on buffers of their own."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from weighbridge.formats import codec, fast

from .conftest import encoding_of

SHAPE = (256, 512)


@pytest.mark.parametrize("name", ["ct-int4", "ct-nvfp4", "awq-int4", "ct-int3-zeros", "bnb-nf4", "ct-mxfp8"])
def test_many_threads_decode_and_encode_what_one_does(name: str, stored: object) -> None:
    """A kernel's buffers were freed when their addresses had been taken: another thread got the memory, and values were somebody else's."""
    encoding = encoding_of(name)
    fields = stored(encoding, SHAPE)  # type: ignore[operator]
    q = fast.read(encoding, SHAPE, fields.get)
    values = q.decode()
    good = np.nan_to_num(values)
    wanted = {dtype: codec.to_dtype(values, dtype).tobytes() for dtype in ("F32", "BF16", "F16")}
    codes = _encoded(good, encoding) if encoding.scheme != "bnb-nf4" else b""
    wrong: list[str] = []

    def work(seed: int) -> None:
        for turn in range(12):
            dtype = ("F32", "BF16", "F16")[(turn + seed) % 3]
            if fast.decode(q, dtype).tobytes() != wanted[dtype]:
                wrong.append(dtype)
            if codes and _encoded(good, encoding) != codes:
                wrong.append("codes")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _encoded(values: np.ndarray, encoding) -> bytes:
    return fast.quantize_stored(values, encoding).codes.tobytes()
