"""A small weight in any scheme: bytes that follow from their places alone, so that everybody gets the same page; what they mean is `formats`' answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.header import Tensor
from weighbridge.formats import codec
from weighbridge.formats.claim import Claims
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.match import Fit, StoredWeight
from weighbridge.formats.scheme import Encoding, Field, Role, Scheme, filled
from weighbridge.lessons.tensor_source import Found

if TYPE_CHECKING:
    from weighbridge.lessons.tensor_read import Matrix

SHAPE, BLOCK, GROUP = (64, 64), (16, 16), 32  # of the small weight, in stored axes
NAME = "model.layers.0.mlp.up_proj"
FINITE = {"e4m3fn": 0x7F, "e4m3": 0x78, "e4m3fnuz": 0x80, "e5m2": 0x7C}  # codes below are finite


class Memory:
    """A checkpoint of one tensor for each field, in memory: as much of `Checkpoint` as reading a weight needs."""

    def __init__(self, fields: dict[str, bytes]) -> None:
        self.fields, self.store, self.label = fields, self, "example"

    def path(self, file: str) -> Path | None:
        return None

    def read(self, file: str, offset: int, length: int) -> bytes:
        return self.fields[file][offset : offset + length]


def example(scheme: Scheme) -> tuple[Matrix, dict[str, bytes]]:
    """A matrix of `SHAPE` values, and the bytes of its fields by suffix."""
    from weighbridge.lessons.tensor_read import Matrix

    encoding = filled(scheme, BLOCK, GROUP)
    fields: dict[str, bytes] = {}
    _fill(encoding.fields, SHAPE, fields)
    tensors = {s: Tensor(f.dtype, (len(fields[s]),), (0, len(fields[s])), NAME + s, s, 0) for f in encoding.stored_fields for s in (f.suffix,) if s in fields}
    found = Found(NAME + encoding.code.suffix, StoredWeight(NAME, tensors, Fit(encoding, SHAPE)), encoding, SHAPE, 1, Claims(), False, "")
    return Matrix(cast(Checkpoint, Memory(fields)), found), fields


def _fill(listed: tuple[Field, ...], shape: tuple[int, int], fields: dict[str, bytes]) -> None:
    for field in listed:
        if field.weighs and field.role is not Role.ORDER:
            fields[field.suffix] = _bytes(field, shape)
            _fill(field.inner, field.grid(*shape), fields)


def _bytes(field: Field, shape: tuple[int, int]) -> bytes:
    """Bytes of a field that read as finite numbers: codes go through all their values, scales and zero points differ from block to block."""
    if field.role is Role.OFFSET:
        return json.dumps({field.element: 0.125}).encode()
    rows, cols = field.grid(*shape)
    number = np.arange(rows)[:, None] * 5 + np.arange(cols) * 3 + 1
    own = ELEMENTS[field.element]
    if own.bits > 8:
        base = 127.0 / 64 if field.over != 1.0 else 2.0**-6 if field.block != (0, 0) else 0.5
        return codec.to_dtype((base * (1 + number % 8 / 8)).astype(np.float32), field.dtype).tobytes()
    if field.role is not Role.CODE and own.kind in ("float", "power", "book"):  # a coded scale
        return {"power": 120 + number % 4, "float": 0x38 + number % 16, "book": 192 + number % 64}[own.kind].astype(np.uint8).tobytes()
    half = 1 << own.bits - 1
    code = number % FINITE[own.name] + half * (number // 3 % 2) if own.name in FINITE else number % (2 * half) if field.role is Role.CODE else half - 1 + number % 3
    return codec.pack(code.astype(np.uint8), field.packing).tobytes() if field.packing.packed else code.astype(np.uint8).tobytes()


def encoding_of(scheme: Scheme, block: tuple[int, int], group: int) -> Encoding:
    """The scheme with sizes, seen as [output channels, input channels]."""
    made = filled(scheme, block, group)
    return made.turned() if scheme.turned else made
