"""The header of one safetensors file, read and checked without numpy.

The format (safetensors README, "Format"): 8 bytes little-endian length, that many bytes of JSON
`{name: {dtype, shape, data_offsets: [begin, end]}}`, then the data without holes. Everything in it
is hostile until checked here. The verdict is that of the reference reader, or stricter where docs/headers.md says so.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable

import msgspec

from weighbridge.checkpoint import header_json
from weighbridge.checkpoint.dtypes import BITS, LARGEST, MOST_AXES, nbytes
from weighbridge.errors import Problem, brief

HEADER_LIMIT = 100_000_000  # bytes; the limit of the reference reader
LONGEST_NAME = 1000  # characters; the longest published name has about 100


class Tensor(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One stored tensor. `start` is its first byte in `file`, counted from the file's beginning.

    The last three are no fields of the format: `_plain` decodes no header that has such keys.
    """

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]
    name: str = ""
    file: str = ""
    start: int = 0

    @property
    def nbytes(self) -> int:
        return self.data_offsets[1] - self.data_offsets[0]

    @property
    def parameters(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


class Header(msgspec.Struct):
    """All tensors of one file, its free metadata, and the hash of the header bytes."""

    file: str
    size: int
    sha256: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str]


_decode = msgspec.json.Decoder(dict[str, Tensor]).decode
_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode
# Metadata as writers place it: first, and without a bracket or an escape in its texts.
_METADATA = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"__metadata__"[ \t\r\n]*:[ \t\r\n]*(\{[^{}]*\})[ \t\r\n]*(?:,[ \t\r\n]*(?=")|(?=\}))')
_sizes: dict[tuple[str, tuple[int, ...]], int | None] = {}


def read_header(file: str, size: int, read: Callable[[int, int], bytes]) -> tuple[Header | None, list[Problem]]:
    """Header of `file` (`size` bytes long), `read(offset, length)` giving its bytes; or what is wrong with it."""
    raw, problem = _raw_header(file, size, read)
    if problem:
        return None, [problem]
    tensors, metadata, problems = _parse(file, raw)
    if problems:
        return None, problems
    if max(map(len, tensors), default=0) > LONGEST_NAME:
        return None, [Problem("name-length", f"the name has {len(name):,} characters, the limit is {LONGEST_NAME:,}", f"{file}: {brief(name)}",
                              "no model has such a name: write the file again with shorter ones") for name in tensors if len(name) > LONGEST_NAME]
    problems = _place(file, tensors, 8 + len(raw), size)
    header = Header(file, size, hashlib.sha256(raw).hexdigest(), tensors, metadata)
    return (None, problems) if problems else (header, [])


def _raw_header(file: str, size: int, read: Callable[[int, int], bytes]) -> tuple[bytes, Problem | None]:
    again = "download the file again"
    if size < 8:
        return b"", Problem("header-truncated", f"the file has {size} bytes, a header needs at least 8", file, again)
    start = read(0, min(size, 64))
    if start.startswith(b"version https://git-lfs"):
        return b"", Problem("lfs-pointer", f"this is a Git LFS pointer of {size} bytes, not the weights", file,
                            "fetch the real file (git lfs pull, or download it from the hub)")
    (length,) = struct.unpack("<Q", start[:8])
    if length > HEADER_LIMIT:
        return b"", Problem("header-too-long", f"the header says {length:,} bytes, the limit is {HEADER_LIMIT:,}", file,
                            "this is not a safetensors file, or it is damaged: " + again)
    if 8 + length > size:
        return b"", Problem("header-longer-than-file",
                            f"the header says {length:,} bytes, the file has {size - 8:,} after the length", file, again)
    raw = read(8, length)
    if len(raw) != length:
        return b"", Problem("header-truncated", f"{len(raw):,} of {length:,} header bytes could be read", file, again)
    return raw, None


def _parse(file: str, raw: bytes) -> tuple[dict[str, Tensor], dict[str, str], list[Problem]]:
    """`header_json` says what a header may hold; a plain one is decoded here to the same, in a tenth of the time."""
    plain = _plain(raw)
    if plain is not None:
        return *plain, []
    entries, metadata, problems = header_json.parse(file, raw)
    return {name: Tensor(*entry) for name, entry in entries.items()}, metadata, problems


def _plain(raw: bytes) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Tensors and metadata of a header without anything unusual, else None.

    msgspec keeps the last of two equal keys in silence, and reads -0 as 0. Each entry needs its three keys, so with its name and its dtype it
    has five texts: more quotes tell of a key that is repeated or no field, as long as no escape hides one.
    """
    if b"\\" in raw or (b"-" in raw and b"-0" in raw):
        return None
    found = _METADATA.match(raw)
    body = b"{" + raw[found.end():] if found else raw
    try:
        metadata = _decode_metadata(found[1]) if found else {}
        tensors = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):  # ValidationError is a DecodeError
        return None
    if header_json.METADATA in tensors or body.count(b'"') != 10 * len(tensors):
        return None
    return tensors, metadata


def _place(file: str, tensors: dict[str, Tensor], data: int, size: int) -> list[Problem]:
    """Give each tensor its absolute place; offsets must cover the data once, without holes."""
    problems: list[Problem] = []
    end = 0
    ordered: list[Tensor] | None = None
    for name, tensor in tensors.items():
        tensor.name, tensor.file = name, file
        begin, stop = tensor.data_offsets
        tensor.start = data + begin
        key = (tensor.dtype, tensor.shape)
        expected = _sizes.get(key, -1)
        if expected == -1:
            expected = _sizes[key] = _expected(*key)
        if stop - begin != expected or begin < 0:
            problems.append(_wrong_size(file, tensor))
        if begin != end and ordered is None:
            ordered = sorted(tensors.values(), key=lambda t: t.data_offsets)
        end = stop
    if not problems:
        problems = _coverage(file, ordered if ordered is not None else list(tensors.values()), size - data)
    return problems


def _expected(dtype: str, shape: tuple[int, ...]) -> int | None:
    return nbytes(dtype, shape) if dtype in BITS and len(shape) <= MOST_AXES else None


def _wrong_size(file: str, tensor: Tensor) -> Problem:
    where = f"{file}: {brief(tensor.name)}"
    begin, stop = tensor.data_offsets
    if tensor.dtype not in BITS:
        return Problem("unknown-dtype", f"dtype {brief(repr(tensor.dtype))} is not one of safetensors'", where,
                       "known: " + ", ".join(BITS))
    if begin < 0 or stop < begin:
        return Problem("offsets", f"data_offsets [{begin}, {stop}] run backwards or are negative", where)
    if len(tensor.shape) > MOST_AXES:
        return Problem("axes", f"the shape has {len(tensor.shape):,} axes, the limit is {MOST_AXES}", where,
                       "numpy and torch cannot make such a tensor: write it with fewer axes")
    expected = nbytes(tensor.dtype, tensor.shape)
    need = f"no whole number of bytes below 2^{LARGEST.bit_length() - 3}" if expected is None else f"{expected:,} bytes"
    return Problem("size", f"{tensor.dtype} {brief(list(tensor.shape))} needs {need}, data_offsets give {stop - begin:,}", where)


def _coverage(file: str, ordered: list[Tensor], data_size: int) -> list[Problem]:
    problems: list[Problem] = []
    end, before = 0, "the start of the data"
    for tensor in ordered:
        begin, stop = tensor.data_offsets
        if begin != end:
            kind = "overlaps" if begin < end else "leaves a hole after"
            problems.append(Problem("offsets", f"begins at byte {begin:,} and {kind} {before}, which ends at {end:,}",
                                    f"{file}: {brief(tensor.name)}", "download the file again"))
        end, before = max(end, stop), brief(tensor.name)
    if end > data_size:
        last = max(ordered, key=lambda t: t.data_offsets[1])
        problems.append(Problem("shard-truncated", f"the header describes {end:,} bytes of data, the file has {data_size:,}",
                                f"{file}: {brief(last.name)}", "the download broke off: download the file again"))
    elif end < data_size:
        problems.append(Problem("shard-too-long", f"the header describes {end:,} bytes of data, the file has {data_size:,}",
                                file, "download the file again"))
    return problems
