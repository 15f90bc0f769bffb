"""How a destination file looks: header, offsets, and the slabs that it is written in."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from weighbridge.layouts.placement import Part, clip
from weighbridge.plan.plan import Piece, Target

SLAB = 12 << 20  # bytes; two threads' buffers and scratch stay far below the memory promise
FLOAT_SLAB = 2 << 20  # bytes of codes where a slab is decoded to float32, twice, on its way


class Place(NamedTuple):
    """Where a target lies in its file: offsets of weight and scale from the file's beginning."""

    target: Target
    weight: int
    scale: int


class FileShape(NamedTuple):
    """A whole destination file: header bytes, size, and the place of each target."""

    name: str
    header: bytes
    size: int
    places: tuple[Place, ...]
    starts: tuple[int, ...]  # first byte of each tensor


class SlabPlan(NamedTuple):
    """Rows [start, stop) of matrix `lead`, with the pieces clipped to it (rows relative to `start`)."""

    place: Place
    lead: int
    start: int
    stop: int
    work: tuple[tuple[Piece, Part], ...]


def file_shape(name: str, targets: list[Target]) -> FileShape:
    """Lay out one file. Wide types come first, so that every tensor is aligned to its own size."""
    entries: list[tuple[int, str, str, tuple[int, ...], int]] = []
    for target in targets:
        stored, encoding = target.stored, target.encoding
        entries.append((-encoding.itemsize, bare(stored.name), encoding.dtype, stored.shape, target.weight_bytes))
        if encoding.quantized:
            entries.append((-encoding.scale_itemsize, bare(stored.scale_name), encoding.scale_dtype, stored.scale_shape(encoding), target.scale_bytes))
    described: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    end = 0
    for _, key, dtype, shape, size in sorted(entries):
        described[key] = {"dtype": dtype, "shape": shape, "data_offsets": (end, end + size)}
        offsets[key] = end
        end += size
    body = msgspec.json.encode(described)
    body += b" " * (-len(body) % 8)
    data = 8 + len(body)
    places = tuple(Place(t, data + offsets[bare(t.stored.name)],
                         data + offsets[bare(t.stored.scale_name)] if t.encoding.quantized else 0) for t in targets)
    return FileShape(name, struct.pack("<Q", len(body)) + body, data + end, places, tuple(data + at for at in offsets.values()))


def bare(name: str) -> str:
    """The name inside the file: shards of all ranks bear the same."""
    return name.split("/", 1)[1] if name.startswith("tp") and "/" in name else name


def slabs(shape: FileShape) -> Iterator[SlabPlan]:
    """The units of work of one file: contiguous rows, whole block rows, about `SLAB` bytes."""
    for place in shape.places:
        yield from _target_slabs(place)


def _target_slabs(place: Place) -> Iterator[SlabPlan]:
    stored, encoding = place.target.stored, place.target.encoding
    placed = stored.placement
    block = encoding.block[0] if encoding.block else 1
    decoded = any(p.step.name in ("requantize", "quantize") for p in place.target.pieces[:1])
    height = max(1, (FLOAT_SLAB if decoded else SLAB) // max(1, placed.cols * encoding.itemsize))
    unit = np.lcm(block, 128) if block < placed.rows else placed.rows
    height = max(int(unit), height // int(unit) * int(unit))
    by_lead: dict[int, list[Piece]] = {}
    for piece in place.target.pieces:
        by_lead.setdefault(piece.part.lead, []).append(piece)
    for lead in range(placed.lead):
        for start in range(0, placed.rows, height):
            stop = min(placed.rows, start + height)
            work = tuple((piece, clipped) for piece in by_lead.get(lead, ())
                         if (clipped := clip(piece.part, 0, start, stop, 0)) is not None)
            yield SlabPlan(place, lead, start, stop, work)
