"""A plain safetensors writer: eight bytes of header length, a JSON header, the data.

It places tensors as the safetensors library does (widest dtype first, then by name) and pads the header with
spaces to a multiple of eight bytes.
"""
from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

DTYPE_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "BF16": 2, "F16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E4M3FNUZ": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I8": 1, "U8": 1, "BOOL": 1,
}
METADATA = {"format": "pt"}  # what the published files carry


def encode(header: Mapping) -> bytes:
    """The start of a file: the header's length and its JSON, padded so that the data starts on eight bytes."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def place(
    shapes: Mapping[str, tuple[str, Sequence[int]]], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, dict[str, int], int]:
    """Lays out one file from {name: (dtype, shape)}.

    Returns the start of the file, the position of each tensor in the file in the order of the data, and the size
    of the whole file; positions and size in bytes.
    """
    header: dict[str, object] = {"__metadata__": dict(METADATA if metadata is None else metadata)}
    offsets, end = {}, 0
    for name in sorted(shapes, key=lambda name: (-DTYPE_BYTES[shapes[name][0]], name)):
        dtype, shape = shapes[name]
        offsets[name] = end
        end += DTYPE_BYTES[dtype] * prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offsets[name], end]}
    start = encode(header)
    return start, {name: len(start) + offset for name, offset in offsets.items()}, len(start) + end


def write_file(
    path: Path | str,
    tensors: Mapping[str, tuple[str, Sequence[int], bytes]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes {name: (dtype, shape, data)}. The length of the data must be what dtype and shape say."""
    start, positions, size = place({name: tensor[:2] for name, tensor in tensors.items()}, metadata)
    with open(path, "wb") as file:
        file.write(start)
        for name, position in positions.items():
            if file.tell() != position:
                raise ValueError(f"{path}: the data before {name} ends at {file.tell()}, not at {position}")
            file.write(tensors[name][2])
        if file.tell() != size:
            raise ValueError(f"{path}: the file ends at {file.tell()}, not at {size}")


def write_at(file: int, data, position: int) -> None:
    """Writes the whole of `data` into an open file. pwrite may write a part only, and takes at most 2 GiB."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(file, view[: 1 << 26], position)
        view, position = view[written:], position + written


def read_header(path: Path | str) -> tuple[dict, int]:
    """The header of a good file, and the position of its data in bytes. It checks nothing: a test knows its file."""
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length)), 8 + length
