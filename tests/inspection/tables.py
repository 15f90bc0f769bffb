"""Sparse checkpoints from the real tensor tables of tests/data: headers of the true names and shapes over holes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from weighbridge.testing import safetensors_writer

DATA = Path(__file__).resolve().parent.parent / "data"
TABLES = json.loads((DATA / "tensor_tables.json").read_text(encoding="utf-8"))["models"]
CONFIGS = json.loads((DATA / "real_configs.json").read_text(encoding="utf-8"))["models"]


def tensors(model: str, experts: int | None = None) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(name, dtype, shape) of every tensor; only the first `experts` of each layer where that is given."""
    for row in TABLES[model]["tensors"]:
        for layer in _numbers(row.get("L")):
            for expert in _numbers(row.get("E"))[:experts]:
                name = row["name"].replace("{L}", str(layer)).replace("{E}", str(expert))
                yield name, row["dtype"], tuple(row["shape"])


def write(model: str, out: Path, experts: int | None = None, config: dict | None = None) -> Path:
    """Write the checkpoint into the new folder `out`, as one file."""
    return write_headers(out, {name: (dtype, shape) for name, dtype, shape in tensors(model, experts)},
                         CONFIGS[model] if config is None else config)


def write_headers(out: Path, table: dict[str, tuple[str, tuple[int, ...]]], config: dict) -> Path:
    """A checkpoint of one sparse file from {name: (dtype, shape)}."""
    out.mkdir(parents=True, exist_ok=True)
    start, _, size = safetensors_writer.place(table)
    with open(out / "model.safetensors", "wb") as file:
        file.write(start)
        os.truncate(file.fileno(), size)
    (out / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return out


def _numbers(ranges: str | None) -> list[int | None]:
    if ranges is None:
        return [None]
    found: list[int | None] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
