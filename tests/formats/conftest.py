"""Random stored weights of every scheme."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from weighbridge.formats import codec
from weighbridge.formats.scheme import Encoding, Field, Role, filled
from weighbridge.formats.schemes import SCHEMES

GROUP, BLOCK = 32, (16, 24)


def encoding_of(name: str, group: int = GROUP, block: tuple[int, int] = BLOCK, dtypes: dict[str, str] | None = None) -> Encoding:
    return filled(SCHEMES[name], block, group, dtypes)


def random_bytes(field: Field, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Bytes of a field that read as numbers: finite scales, indices inside the grid, a JSON text for an offset."""
    if field.role is Role.OFFSET:
        return np.frombuffer(json.dumps({field.element: 0.25}).encode(), np.uint8)
    rows, cols = field.grid(*shape)
    if field.role is Role.ORDER:
        return rng.permutation(np.arange(rows) // GROUP).astype("<i4").view(np.uint8)
    if codec.ELEMENTS[field.element].bits > 8:
        return codec.to_dtype(np.exp2(rng.uniform(-6, 2, (rows, cols))).astype(np.float32), field.dtype).reshape(-1)
    low, high = {"e8m0": (110, 140), "e4m3fn": (0, 0x7F) if field.role is Role.CODE else (1, 0x7F)}.get(field.element, (0, 256))
    if not field.packing.packed:
        return rng.integers(low, high, rows * cols).astype(np.uint8)
    codes = rng.integers(0, 1 << field.packing.width, (rows, cols)).astype(np.uint8)
    return codec.pack(codes, field.packing).reshape(-1)


def random_fields(encoding: Encoding, shape: tuple[int, int], seed: int = 0, order: bool = False) -> dict[str, np.ndarray]:
    """The bytes of all fields of a random weight, by suffix."""
    rng = np.random.default_rng(seed)
    fields: dict[str, np.ndarray] = {}

    def add(field: Field, size: tuple[int, int]) -> None:
        if field.weighs and (order or field.role is not Role.ORDER):
            fields[field.suffix] = random_bytes(field, size, rng)
            for part in field.inner:
                add(part, field.grid(*size))

    for field in encoding.fields:
        add(field, shape)
    return fields


@pytest.fixture(scope="session")
def stored() -> Callable[..., dict[str, np.ndarray]]:
    return random_fields
