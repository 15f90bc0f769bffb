"""What the conversion tests share: a plain reader of folders, and the codes and floats of ml_dtypes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import weighbridge.api as wb
from weighbridge.testing.safetensors_writer import read_header

DEMO = Path(wb.__file__).parent / "demo" / "checkpoint"
KIND = {"F8_E4M3": ml_dtypes.float8_e4m3fn, "BF16": ml_dtypes.bfloat16, "F32": np.float32, "I32": np.int32}
SCALE = ".weight_scale_inv"


def read_file(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of one safetensors file, in ml_dtypes' types."""
    header, start = read_header(path)
    data = path.read_bytes()[start:]
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            found[name] = np.frombuffer(data[begin:end], KIND[entry["dtype"]]).reshape(entry["shape"])
    return found


def read_folder(folder: Path) -> dict[str, np.ndarray]:
    """Every tensor of every shard of a folder."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= read_file(path)
    return found


def read_ranks(folder: Path) -> list[dict[str, np.ndarray]]:
    """The tensors of each rank file, in the order of the ranks."""
    count = len(list((folder / "weights").iterdir()))
    return [read_file(folder / "weights" / f"tp{rank}_sharded_checkpoint.safetensors") for rank in range(count)]


def all_bytes(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def load_json(path: Path) -> Any:
    return json.loads(path.read_text())


def convert(src: Path, dst: Path, layout: str, **options: Any) -> Path:
    """Convert and return the folder."""
    wb.open(src).convert(dst, layout, **options)
    return dst


def decode(codes: np.ndarray, scale: np.ndarray, block: tuple[int, int] = (128, 128)) -> np.ndarray:
    """float32 values of block FP8 [N, K]."""
    rows, columns = codes.shape
    wide = np.repeat(np.repeat(np.asarray(scale, np.float32), block[0], 0), block[1], 1)[:rows, :columns]
    return codes.astype(np.float32) * wide


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal type, shape and bytes."""
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def assert_same_tensors(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    """The same names, and under each the same bytes."""
    assert sorted(left) == sorted(right)
    different = [name for name in left if not same(left[name], right[name])]
    assert different == []


def odd_small(codes: np.ndarray) -> np.ndarray:
    """Which codes cannot be halved: odd and below 0x10."""
    raw = codes.view(np.uint8)
    return ((raw & 0x7F) < 0x10) & (raw & 1 == 1)


def assert_equal_but_odd_codes(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> None:
    """The way through Neuron's E4M3 and back keeps every byte but the odd codes below 0x10."""
    assert sorted(before) == sorted(after)
    for name, old in before.items():
        new = after[name]
        assert (old.dtype, old.shape) == (new.dtype, new.shape), name
        if old.dtype == ml_dtypes.float8_e4m3fn:
            keep = ~odd_small(old)
            assert np.array_equal(old.view(np.uint8)[keep], new.view(np.uint8)[keep]), name
            error = np.abs(old.astype(np.float32) - new.astype(np.float32))
            assert error.max(initial=0) <= 2.0**-9, name
        else:
            assert old.tobytes() == new.tobytes(), name
