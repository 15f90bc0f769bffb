"""How a destination file looks: header, offsets, and the slabs that it is written in."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import lcm
from typing import NamedTuple

import msgspec

from weighbridge.checkpoint.dtypes import BITS
from weighbridge.formats.scheme import Encoding, Role
from weighbridge.layouts.placement import Part, clip
from weighbridge.plan.plan import Piece, Target
from weighbridge.plan.steps import Kind

SLAB = 12 << 20  # bytes; two threads' buffers and scratch stay far below the memory promise
FLOAT_SLAB = 2 << 20  # bytes of codes where a slab is decoded to float32, twice, on its way


class Place(NamedTuple):
    """Where a target lies in its file: for each of `target.fields`, its first byte from the file's beginning."""

    target: Target
    offsets: tuple[int, ...]


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
        for field in target.fields:
            entries.append((-BITS[field.dtype], bare(target.stored.field_name(field)), field.dtype, target.stored.field_shape(field), target.field_bytes(field)))
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
    places = tuple(Place(t, tuple(data + offsets[bare(t.stored.field_name(f))] for f in t.fields)) for t in targets)
    return FileShape(name, struct.pack("<Q", len(body)) + body, data + end, places, tuple(data + at for at in offsets.values()))


def bare(name: str) -> str:
    """The name inside the file: shards of all ranks bear the same."""
    return name.split("/", 1)[1] if name.startswith("tp") and "/" in name else name


def slabs(shape: FileShape) -> Iterator[SlabPlan]:
    """The units of work of one file: contiguous rows, whole block rows, about `SLAB` bytes."""
    for place in shape.places:
        yield from _target_slabs(place)


def sample_slab(target: Target) -> SlabPlan:
    """A few rows from the middle of a target: whole blocks, about a band of 128 rows. Its offsets mean nothing."""
    placed = target.stored.placement
    unit = _slab_unit(target.encoding, placed.rows)
    lead, start = placed.lead // 2, placed.rows // 2 // unit * unit
    start = start if start < placed.rows else 0
    stop = min(placed.rows, start + unit)
    work = tuple((piece, clipped) for piece in target.pieces if piece.part.lead == lead and (clipped := clip(piece.part, 0, start, stop, 0)) is not None)
    return SlabPlan(Place(target, (0,) * len(target.fields)), lead, start, stop, work)


def _target_slabs(place: Place) -> Iterator[SlabPlan]:
    stored, encoding = place.target.stored, place.target.encoding
    placed = stored.placement
    decoded = any(p.step.kind in (Kind.QUANTIZE, Kind.SHIFT) for p in place.target.pieces[:1])
    height = max(1, (FLOAT_SLAB if decoded else SLAB) // max(1, placed.cols * max(1, BITS[encoding.dtype] // 8)))
    unit = _slab_unit(encoding, placed.rows)
    height = max(unit, height // unit * unit)
    by_lead: dict[int, list[Piece]] = {}
    for piece in place.target.pieces:
        by_lead.setdefault(piece.part.lead, []).append(piece)
    for lead in range(placed.lead):
        for start in range(0, placed.rows, height):
            stop = min(placed.rows, start + height)
            work = tuple((piece, clipped) for piece in by_lead.get(lead, ())
                         if (clipped := clip(piece.part, 0, start, stop, 0)) is not None)
            yield SlabPlan(place, lead, start, stop, work)


def _slab_unit(encoding: Encoding, rows: int) -> int:
    """Rows that a slab must hold whole: blocks of every grid, words along the rows, and 128 for the kernels' sake. An axis that one scale spans
    needs no more: that scale is known before."""
    unit = encoding.unit[0]
    for field in encoding.fields:
        if field.weighs and field.role is not Role.ORDER:
            unit = lcm(unit, max(1, field.block[0]))
    return lcm(unit, 128) if unit < rows else rows
