"""The header of one safetensors file, read and checked without numpy.

The format (safetensors README, "Format"): 8 bytes little-endian length, that many bytes of JSON
`{name: {dtype, shape, data_offsets: [begin, end]}}`, then the data without holes. Everything in it
is hostile until checked here.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable

import msgspec

from weighbridge.checkpoint.dtypes import BITS, nbytes
from weighbridge.errors import Problem

HEADER_LIMIT = 100_000_000  # bytes; the limit of the reference reader
NAME_LIMIT = 1_024  # characters


class Tensor(msgspec.Struct, gc=False):
    """One stored tensor. `start` is its first byte in `file`, counted from the file's beginning."""

    dtype: str = ""
    shape: tuple[int, ...] = ()
    data_offsets: tuple[int, int] = (0, 0)
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
_sizes: dict[tuple[str, tuple[int, ...]], int | None] = {}


def read_header(file: str, size: int, read: Callable[[int, int], bytes]) -> tuple[Header | None, list[Problem]]:
    """Header of `file` (`size` bytes long), `read(offset, length)` giving its bytes; or what is wrong with it."""
    raw, problem = _raw_header(file, size, read)
    if problem:
        return None, [problem]
    tensors, metadata, problems = _parse(file, raw)
    if problems:
        return None, problems
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
    try:
        tensors = _decode(raw)
    except msgspec.ValidationError:
        return {}, {}, _explain_entries(file, raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return {}, {}, [Problem("header-not-json", f"the header is not the JSON of safetensors: {error}", file,
                                "download the file again")]
    metadata: dict[str, str] = {}
    if tensors.pop("__metadata__", None) is not None:
        loose = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])["__metadata__"]
        try:
            metadata = msgspec.json.decode(loose, type=dict[str, str])
        except msgspec.ValidationError:
            return {}, {}, [Problem("header-not-json", "__metadata__ is not a map of strings", file)]
    # msgspec keeps the last of two equal names in silence. A count tells; an escape could hide one.
    if raw.count(b'"data_offsets"') != len(tensors) or b"\\" in raw:
        twice = _repeated_names(raw)
        if twice:
            return {}, {}, [Problem("duplicate-name", "the header lists this name twice", f"{file}: {name}",
                                    "write the file again with one tensor for each name") for name in twice]
    return tensors, metadata, []


def _repeated_names(raw: bytes) -> list[str]:
    twice: list[str] = []

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        seen: dict[str, object] = {}
        for key, value in items:
            if key in seen:
                twice.append(key)
            seen[key] = value
        return seen

    json.loads(raw, object_pairs_hook=pairs)
    return twice


def _explain_entries(file: str, raw: bytes) -> list[Problem]:
    """Which entries do not have the form of the format; msgspec's own path loses the tensor's name."""
    try:
        loose = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        return [Problem("header-not-json", f"the header is not a JSON object: {error}", file)]
    problems = []
    for name, entry in loose.items():
        try:
            msgspec.json.decode(entry, type=Tensor)
        except msgspec.DecodeError as error:
            problems.append(Problem("header-entry", f"the entry is not {{dtype, shape, data_offsets}}: {error}",
                                    f"{file}: {name[:NAME_LIMIT]}", "download the file again"))
    return problems or [Problem("header-not-json", "the header does not have the form of safetensors", file)]


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
            expected = _sizes[key] = nbytes(*key) if tensor.dtype in BITS else None
        if stop - begin != expected or begin < 0:
            problems.append(_wrong_size(file, tensor))
        if begin != end and ordered is None:
            ordered = sorted(tensors.values(), key=lambda t: t.data_offsets)
        end = stop
    if not problems:
        problems = _coverage(file, ordered if ordered is not None else list(tensors.values()), size - data)
    return problems


def _wrong_size(file: str, tensor: Tensor) -> Problem:
    where = f"{file}: {tensor.name[:NAME_LIMIT]}"
    begin, stop = tensor.data_offsets
    if tensor.dtype not in BITS:
        return Problem("unknown-dtype", f"dtype {tensor.dtype!r} is not one of safetensors'", where,
                       "known: " + ", ".join(BITS))
    if begin < 0 or stop < begin:
        return Problem("offsets", f"data_offsets [{begin}, {stop}] run backwards or are negative", where)
    expected = nbytes(tensor.dtype, tensor.shape)
    need = "no whole number of bytes" if expected is None else f"{expected:,} bytes"
    return Problem("size", f"{tensor.dtype} {list(tensor.shape)} needs {need}, data_offsets give {stop - begin:,}", where)


def _coverage(file: str, ordered: list[Tensor], data_size: int) -> list[Problem]:
    problems: list[Problem] = []
    end, before = 0, "the start of the data"
    for tensor in ordered:
        begin, stop = tensor.data_offsets
        if begin != end:
            kind = "overlaps" if begin < end else "leaves a hole after"
            problems.append(Problem("offsets", f"begins at byte {begin:,} and {kind} {before}, which ends at {end:,}",
                                    f"{file}: {tensor.name[:NAME_LIMIT]}", "download the file again"))
        end, before = max(end, stop), tensor.name[:NAME_LIMIT]
    if end > data_size:
        last = max(ordered, key=lambda t: t.data_offsets[1])
        problems.append(Problem("shard-truncated", f"the header describes {end:,} bytes of data, the file has {data_size:,}",
                                f"{file}: {last.name[:NAME_LIMIT]}", "the download broke off: download the file again"))
    elif end < data_size:
        problems.append(Problem("shard-too-long", f"the header describes {end:,} bytes of data, the file has {data_size:,}",
                                file, "download the file again"))
    return problems
