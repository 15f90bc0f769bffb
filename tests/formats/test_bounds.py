"""Bounds and windows against trying every code."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from weighbridge.formats import codec
from weighbridge.formats.bounds import bound, digits, window
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.scheme import plain
from weighbridge.formats.stored import read

from .conftest import encoding_of

SMALL = ["e4m3fn", "e4m3", "e2m1", "e5m2", "e2m3", "e3m2", "int4", "uint4", "int8", "e8m0"]


@pytest.mark.parametrize(("narrow", "wide"), [*itertools.product(SMALL, ["e4m3fn", "e4m3", "e5m2", "e2m1", "e2m3", "e3m2"])])
def test_a_window_is_what_trying_finds(narrow: str, wide: str) -> None:
    values, largest = codec.table(narrow), ELEMENTS[wide].largest
    values = values[np.isfinite(values)].astype(np.float64)
    fits = []
    for k in range(-40, 40):
        moved = np.ldexp(values, k)
        back = codec.table(wide)[codec.encode(np.clip(moved, -largest, largest).astype(np.float32), wide)]
        if np.array_equal(back.astype(np.float64), moved):
            fits.append(k)
    assert window(narrow, wide) == ((fits[0], fits[-1]) if fits else None)
    assert not fits or fits == [*range(fits[0], fits[-1] + 1)]


def test_the_window_of_mxfp4_in_fp8() -> None:
    assert window("e2m1", "e4m3fn") == (-8, 6)


@pytest.mark.parametrize(("name", "target", "exact"), [
    ("ct-mxfp4", "BF16", True), ("ct-mxfp8", "BF16", True), ("ct-mxfp8", "F32", True), ("fp8-block", "BF16", False), ("fp8-block", "F32", True),
    ("modelopt-nvfp4", "BF16", False), ("ct-int4", "BF16", False), ("ct-int4", "F32", True), ("bnb-nf4", "BF16", False),
])
def test_what_decoding_costs(name: str, target: str, exact: bool, stored) -> None:
    encoding = encoding_of(name)
    cost = bound(encoding, plain(target))
    assert cost.exact == exact
    value = read(encoding, (64, 96), stored(encoding, (64, 96)).get).decode()
    value = value[np.isfinite(value)]
    error = np.abs(codec.rounded(value, target).astype(np.float64) - value)
    assert (error <= np.maximum(cost.relative * np.abs(value.astype(np.float64)), cost.absolute)).all()
    assert exact == (not error.any())


def test_digits_of_float16() -> None:
    assert digits(plain("F16")) == 11 and bound(plain("F16"), plain("F32")).exact
    assert bound(plain("BF16"), plain("F16")) == (0.0, 2.0**-25)
    assert bound(plain("F16"), plain("BF16")).relative == 2.0**-8
