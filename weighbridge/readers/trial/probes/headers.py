"""Weights without bytes: safetensors files opened by their header alone, each tensor on torch's `meta` device. Needs torch."""

from __future__ import annotations

import json
import mmap
import struct
from typing import Any

import torch

TEXT = "weights have no bytes (torch's meta device): shapes and dtypes are looked at, values are not"
DTYPES = {"BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32", "U64": "uint64", "I64": "int64",
          "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
          "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz", "F4": "float4_e2m1fn_x2"}


class Slice:
    """`safe_open(...).get_slice(name)`: shape and dtype, and a tensor without bytes where it is indexed."""

    def __init__(self, dtype: str, shape: list[int]) -> None:
        self.dtype, self.shape = dtype, shape

    def get_dtype(self) -> str:
        return self.dtype

    def get_shape(self) -> list[int]:
        return list(self.shape)

    def tensor(self) -> torch.Tensor:
        shape = list(self.shape)
        if self.dtype == "F4":  # two in a byte, as safetensors gives them to torch
            shape[-1] //= 2
        return torch.empty(shape, dtype=getattr(torch, DTYPES[self.dtype]), device="meta")

    def __getitem__(self, index: Any) -> torch.Tensor:
        return self.tensor()[index]


class safe_open:  # noqa: N801 it stands in the place of the library's class
    """The same face as `safetensors.safe_open`, as far as readers use it."""

    def __init__(self, path: Any, framework: str = "pt", device: Any = "cpu", **more: Any) -> None:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        self._metadata = header.pop("__metadata__", None)
        self._header = header

    def __enter__(self) -> safe_open:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def keys(self) -> list[str]:
        return list(self._header)

    def offset_keys(self) -> list[str]:
        return sorted(self._header, key=lambda name: self._header[name]["data_offsets"])

    def metadata(self) -> dict[str, str] | None:
        return self._metadata

    def get_slice(self, name: str) -> Slice:
        return Slice(self._header[name]["dtype"], self._header[name]["shape"])

    def get_tensor(self, name: str) -> torch.Tensor:
        return self.get_slice(name).tensor()


class Mapped(safe_open):
    """The same with bytes: tensors in a private map of the file, for which the kernel reserves no memory, so that a file may be larger than it."""

    def __init__(self, path: Any, framework: str = "pt", device: Any = "cpu", **more: Any) -> None:
        super().__init__(path, framework, device, **more)
        with open(path, "rb") as file:
            self._begin = 8 + struct.unpack("<Q", file.read(8))[0]
            self._map = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000), prot=mmap.PROT_READ | mmap.PROT_WRITE)

    def get_tensor(self, name: str) -> torch.Tensor:
        row = self._header[name]
        begin, end = row["data_offsets"]
        dtype = torch.uint8 if row["dtype"] == "F4" else getattr(torch, DTYPES[row["dtype"]])
        if begin == end:
            return torch.empty(row["shape"], dtype=dtype)
        flat = torch.frombuffer(self._map, dtype=dtype, count=(end - begin) // dtype.itemsize, offset=self._begin + begin)
        return flat.reshape([*row["shape"][:-1], -1] if row["dtype"] == "F4" else row["shape"])
