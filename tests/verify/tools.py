"""What the tests of `verify` share: stored bytes by tensor, changed in place, and the ways to the layouts."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import weighbridge as wb

# Small, and of every kind: six heads that TP 4 and 8 pad, repeated key/value heads, experts in stacks.
SMALL = {"hidden": 128, "inter": 128, "heads": 6, "kv_heads": 2, "head_dim": 128, "experts": 8, "layers": 1, "vocab": 64}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "hf-fp8": ("hf-fp8", {}), "hf-fp8-bf16-scales": ("hf-fp8", {"scale_dtype": "BF16"}), "hf-bf16": ("hf-bf16", {}),
    "neuron": ("neuron", {}), "neuron-row": ("neuron", {"attention": "row"}), "neuron-exact": ("neuron", {"attention": "exact", "tp": 4}),
    "legacy": ("neuron", {"attention": "exact", "tp": 2, "scale_rule": "legacy-448-240"}),
    "shards": ("neuron", {"shards": True, "tp": 4}), "shards-exact": ("neuron", {"shards": True, "tp": 4, "attention": "exact"}),
    "shards-row": ("neuron", {"shards": True, "tp": 8, "attention": "row"}),
}


class Span(NamedTuple):
    """Where a stored tensor lies: its file, dtype and shape, first byte and size."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    def bytes(self) -> bytes:
        with open(self.file, "rb") as handle:
            handle.seek(self.start)
            return handle.read(self.size)

    def write(self, data: bytes, offset: int = 0) -> None:
        with open(self.file, "r+b") as handle:
            handle.seek(self.start + offset)
            handle.write(data)

    @contextmanager
    def flipped(self, offset: int, bit: int) -> Iterator[None]:
        """One bit of one byte is the other one, for a while."""
        old = self.bytes()[offset]
        self.write(bytes([old ^ (1 << bit)]), offset)
        try:
            yield
        finally:
            self.write(bytes([old]), offset)


def spans(folder: Path) -> list[Span]:
    """Every stored tensor of a folder, ranks too, in the order of files and names."""
    found = []
    for file in sorted(folder.rglob("*.safetensors")):
        with open(file, "rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            header = json.loads(handle.read(length))
        for name, entry in sorted(header.items()):
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                found.append(Span(file, name, entry["dtype"], tuple(entry["shape"]), 8 + length + begin, end - begin))
    return found


def span(folder: Path, name: str, file: str = "") -> Span:
    """The one tensor of that name (in the file whose name begins so)."""
    return next(s for s in spans(folder) if s.name == name and s.file.name.startswith(file))


def made(source: Path, folder: Path, way: str) -> Path:
    layout, options = WAYS[way]
    wb.open(source).convert(folder, layout, **options)
    return folder


def without_manifest(folder: Path) -> Path:
    (folder / "weighbridge.json").unlink()
    return folder


def change_manifest(folder: Path, **keys: Any) -> None:
    path = folder / "weighbridge.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def hops(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "weighbridge.json").read_text())["hops"]


def f32(span_: Span) -> np.ndarray:
    """An F32 tensor, to be changed and written back."""
    return np.frombuffer(span_.bytes(), np.float32).copy()
