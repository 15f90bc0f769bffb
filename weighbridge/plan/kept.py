"""Scales that a conversion to plain values kept beside them, so that the way back gives the same bytes.

`weighbridge-scales.kept` is a safetensors file under a name that no reader takes for a shard. It holds every tensor of each coded weight but the codes,
under its own name. On the way back a weight gets them only if all its values are codes under these scales.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.header import Tensor, read_header
from weighbridge.errors import Refused
from weighbridge.formats.scheme import Encoding, Role
from weighbridge.layouts.placement import Stored
from weighbridge.layouts.source import KeptScales

if TYPE_CHECKING:
    from weighbridge.layouts.source import Source

NAME = "weighbridge-scales.kept"
PART = 8 << 20  # bytes that are copied at a time


def read_kept(checkpoint: Checkpoint) -> KeptScales | None:
    """The kept scales of a checkpoint, or None where it has none. Raises Refused where the file is damaged."""
    size = checkpoint.files.get(NAME)
    if size is None:
        return None
    header, problems = read_header(NAME, size, lambda offset, length: checkpoint.store.read(NAME, offset, length))
    if problems or header is None:
        raise Refused(problems)
    return KeptScales(header.tensors, header.sha256, _pair(header.metadata.get("block", "")), _number(header.metadata.get("group", "")),
                      header.metadata.get("scale_dtype", ""))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0


def _pair(text: str) -> tuple[int, int] | None:
    rows, _, cols = text.partition(",")
    return (_number(rows), _number(cols)) if _number(rows) and _number(cols) else None


def kept_for(source: Source, stored: Stored, encoding: Encoding) -> dict[str, Tensor]:
    """The kept tensors of a destination weight, by suffix; empty unless all that it needs are there, with its dtypes and shapes."""
    if source.kept is None or not encoding.quantized or stored.placement.lead != 1 or len(stored.placement.parts) != 1:
        return {}
    found = {}
    for field in encoding.stored_fields[1:]:
        tensor = source.kept.tensors.get(stored.field_name(field))
        if tensor is not None and (tensor.dtype, tensor.shape) == (field.dtype, stored.field_shape(field)):
            found[field.suffix] = tensor
        elif field.weighs and field.role is not Role.ORDER or tensor is not None:
            return {}
    return found


def written(source: Source) -> Iterator[bytes]:
    """The bytes of the file for a coded source, piece by piece."""
    due = {t.name: t for b in source.bound if b.encoding.quantized for t in b.tensors.values() if t is not b.weight}
    described: dict[str, object] = {"__metadata__": _said(source)}
    end = 0
    for name, tensor in due.items():
        described[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (end, end + tensor.nbytes)}
        end += tensor.nbytes
    body = msgspec.json.encode(described)
    body += b" " * (-len(body) % 8)
    yield struct.pack("<Q", len(body)) + body
    for tensor in due.values():
        for at in range(0, tensor.nbytes, PART):
            yield source.checkpoint.store.read(tensor.file, tensor.start + at, min(PART, tensor.nbytes - at))


def _said(source: Source) -> dict[str, str]:
    """Sizes that the configuration of the plain output no longer says."""
    said = {"format": "pt", "layout": source.layout, "scale_dtype": source.scale_dtype, "group": str(source.options.group)}
    blocks = source.claims.blocks
    return said | ({"block": f"{blocks[0][0]},{blocks[0][1]}"} if blocks else {})


__all__ = ["NAME", "kept_for", "read_kept", "written"]
